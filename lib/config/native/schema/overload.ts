import { z } from 'zod'
import type { TimeoutMinimum } from '../../../core/overload.ts'
import { isObject } from '../../../proto/describe.ts'
import type {
  NativeMonitor,
  NativeOverload,
  NativeOverloadActions,
  NativeReducedTimeouts,
  NativeShedPoints,
  NativeTrigger,
} from '../overload.ts'
import { byKind, choose, count, dictionary, ms, name, object } from './pieces.ts'

type Kind<K extends NativeMonitor['kind']> = NativeMonitor & { readonly kind: K }

export function overload(): z.ZodType<false | NativeOverload> {
  const whole = object<NativeOverload>({
    refreshIntervalMs: ms().min(1).optional(),
    monitors: dictionary(monitor()),
    actions: actions().optional(),
    shed: shedPoints().optional(),
    timeouts: timeouts().optional(),
    smallestStreamBytes: count(1).optional(),
    shrink: object<NonNullable<NativeOverload['shrink']>>({
      intervalMs: ms().optional(),
      keepBytes: count().optional(),
    }).optional(),
  })
  return choose('false or an object', (value) =>
    value === false ? z.literal(false) : isObject(value) ? whole : undefined,
  )
}

function monitor(): z.ZodType<NativeMonitor> {
  return byKind<NativeMonitor>({
    'process-memory': () => object<Kind<'process-memory'>>({ kind: z.literal('process-memory'), limitBytes: count(1) }),
    'cgroup-memory': () =>
      object<Kind<'cgroup-memory'>>({ kind: z.literal('cgroup-memory'), limitBytes: count(1).optional() }),
    cpu: () => object<Kind<'cpu'>>({ kind: z.literal('cpu'), of: z.enum(['host', 'container']).optional() }),
    connections: () => object<Kind<'connections'>>({ kind: z.literal('connections'), limit: count(1).optional() }),
    file: () => object<Kind<'file'>>({ kind: z.literal('file'), path: name() }),
    'loop-delay': () => object<Kind<'loop-delay'>>({ kind: z.literal('loop-delay'), limitMs: ms().min(1).optional() }),
    'loop-utilization': () => object<Kind<'loop-utilization'>>({ kind: z.literal('loop-utilization') }),
  })
}

function triggers(): z.ZodOptional<z.ZodType<readonly NativeTrigger[]>> {
  const pressure = z.number().min(0).max(1)
  const at = object<NativeTrigger & { at: number }>({ monitor: name(), at: pressure, release: pressure.optional() })
  const between = object<NativeTrigger & { from: number; to: number }>({
    monitor: name(),
    from: pressure,
    to: pressure,
  })
  const trigger = choose<NativeTrigger>('a trigger with `at`, or with `from` and `to`', (value) => {
    if (!isObject(value)) return undefined
    return 'from' in value || 'to' in value ? between : at
  })
  return z.array(trigger).min(1).optional() as z.ZodOptional<z.ZodType<readonly NativeTrigger[]>>
}

function actions(): z.ZodType<NativeOverloadActions> {
  return object<NativeOverloadActions>({
    stopAcceptingRequests: triggers(),
    disableKeepalive: triggers(),
    stopAcceptingConnections: triggers(),
    rejectConnections: triggers(),
    shrinkHeap: triggers(),
    reduceTimeouts: triggers(),
    resetStreams: triggers(),
    closeIdleConnections: triggers(),
  })
}

function shedPoints(): z.ZodType<NativeShedPoints> {
  return object<NativeShedPoints>({
    accept: triggers(),
    createCodec: triggers(),
    decodeHeaders: triggers(),
    http1Abort: triggers(),
    http2GoAway: triggers(),
    http2GoAwayAndClose: triggers(),
    filterCheck: triggers(),
    poolConnect: triggers(),
  })
}

function timeouts(): z.ZodType<NativeReducedTimeouts> {
  const absolute = object<TimeoutMinimum & { ms: number }>({ ms: ms() })
  const relative = object<TimeoutMinimum & { share: number }>({ share: z.number().min(0).max(1) })
  const minimum = (): z.ZodOptional<z.ZodType<TimeoutMinimum>> =>
    choose<TimeoutMinimum>('an object with `ms` or `share`', (value) => {
      if (!isObject(value)) return undefined
      return 'share' in value ? relative : absolute
    }).optional()
  return object<NativeReducedTimeouts>({
    connectionIdle: minimum(),
    connectionMax: minimum(),
    streamIdle: minimum(),
    streamFlush: minimum(),
    transportConnect: minimum(),
  })
}
