import { indexPath, namePath } from '../../../proto/path.ts'
import {
  ACTIONS,
  type ActionName,
  type MonitorConfig,
  OVERLOAD_DEFAULTS,
  type OverloadConfig,
  SHED_POINTS,
  type ShedPointName,
  TIMEOUTS,
  type TimeoutName,
  type TriggerConfig,
} from '../../overload.ts'
import type { NativeMonitor, NativeOverload, NativeTrigger } from '../overload.ts'
import type { Reading } from './reading.ts'

const REFRESH_MS = 250
const LOOP_DELAY_MS = 200

/**
 * What holds where nothing is said: shed before the container's memory is used up. Without a limit of memory nothing of it
 * is ever felt. The event loop is not watched by default: it comes late whenever the machine has too few cores for a moment,
 * and requests that wait a second are better off than requests that fail.
 */
export const STANDARD_OVERLOAD: NativeOverload = Object.freeze<NativeOverload>({
  refreshIntervalMs: 1_000,
  monitors: { memory: { kind: 'cgroup-memory' } },
  actions: {
    reduceTimeouts: [{ monitor: 'memory', from: 0.85, to: 0.95 }],
    shrinkHeap: [{ monitor: 'memory', at: 0.9 }],
    disableKeepalive: [{ monitor: 'memory', at: 0.92, release: 0.88 }],
    resetStreams: [{ monitor: 'memory', from: 0.92, to: 0.98 }],
    stopAcceptingRequests: [{ monitor: 'memory', at: 0.95, release: 0.9 }],
    stopAcceptingConnections: [{ monitor: 'memory', at: 0.98, release: 0.95 }],
  },
  timeouts: {
    connectionIdle: { share: 0.1 },
    streamIdle: { share: 0.1 },
    transportConnect: { share: 0.5 },
  },
})

/** Undefined where there is to be none. */
export function readOverload(
  overload: false | NativeOverload | undefined,
  path: string,
  reading: Reading,
  maxConnections: number | undefined,
): OverloadConfig | undefined {
  if (overload === false) return undefined
  const native = overload ?? STANDARD_OVERLOAD
  const { refreshIntervalMs = REFRESH_MS, shrink = {}, timeouts = {} } = native
  const part = { path, reading, monitors: native.monitors }
  return {
    refreshIntervalMs,
    monitors: Object.entries(native.monitors).flatMap(([name, monitor]) => {
      if (monitor.kind !== 'connections') return [readMonitor(name, monitor)]
      const limit = monitor.limit ?? maxConnections
      if (limit !== undefined) return [{ name, kind: monitor.kind, limit }]
      reading.findings.error(
        namePath(namePath(path, 'monitors'), name),
        'needs a `limit`, or `maxConnections` of the gateway',
      )
      return []
    }),
    actions: readAll(ACTIONS, native.actions ?? {}, { ...part, path: `${path}.actions` }),
    shedPoints: readAll(SHED_POINTS, native.shed ?? {}, { ...part, path: `${path}.shed` }),
    timeouts: (Object.keys(TIMEOUTS) as TimeoutName[]).flatMap((timeout) => {
      const minimum = timeouts[TIMEOUTS[timeout]]
      return minimum === undefined ? [] : [{ timeout, minimum: { ...minimum } }]
    }),
    smallestStreamBytes: native.smallestStreamBytes ?? OVERLOAD_DEFAULTS.smallestStreamBytes,
    shrink: {
      intervalMs: shrink.intervalMs ?? OVERLOAD_DEFAULTS.shrink.intervalMs,
      keepBytes: shrink.keepBytes ?? OVERLOAD_DEFAULTS.shrink.keepBytes,
    },
  }
}

function readMonitor(name: string, monitor: Exclude<NativeMonitor, { kind: 'connections' }>): MonitorConfig {
  if (monitor.kind === 'cpu') return { name, kind: 'cpu', of: monitor.of ?? 'host' }
  if (monitor.kind === 'loop-delay') return { name, kind: 'loop-delay', limitMs: monitor.limitMs ?? LOOP_DELAY_MS }
  return { name, ...monitor }
}

interface Part {
  readonly path: string
  readonly reading: Reading
  readonly monitors: NativeOverload['monitors']
}

/** The entries of a table, in its order, for which something is said. */
function readAll<N extends ActionName | ShedPointName, L extends string>(
  table: { readonly [name in N]: L },
  native: { readonly [lever in L]?: readonly NativeTrigger[] },
  part: Part,
): { readonly name: N; readonly triggers: readonly TriggerConfig[] }[] {
  return (Object.keys(table) as N[]).flatMap((name) => {
    const lever = table[name]
    const triggers = native[lever]
    if (triggers === undefined) return []
    return [
      {
        name,
        triggers: triggers.map((trigger, i) => readTrigger(trigger, indexPath(namePath(part.path, lever), i), part)),
      },
    ]
  })
}

function readTrigger(trigger: NativeTrigger, path: string, { reading, monitors }: Part): TriggerConfig {
  const { monitor } = trigger
  const complain = (field: string, message: string): void => {
    reading.findings.error(`${path}.${field}`, message)
  }
  if (!Object.hasOwn(monitors, monitor)) complain('monitor', `there is no monitor "${monitor}"`)
  if ('from' in trigger) {
    const { from, to } = trigger
    if (from >= to) complain('from', `must be less than \`to\`, which is ${to}, is ${from}`)
    return { monitor, from, to }
  }
  const { at, release } = trigger
  if (release !== undefined && release > at)
    complain('release', `must not be more than \`at\`, which is ${at}, is ${release}`)
  return { monitor, from: at, to: at, ...(release !== undefined && { release }) }
}
