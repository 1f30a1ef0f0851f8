import type { GatewayConfig } from '../../lib/config/model.ts'
import {
  ACTIONS,
  type ActionConfig,
  type ActionName,
  OVERLOAD_DEFAULTS,
  type OverloadConfig,
  SHED_POINTS,
  type ShedPointName,
  TIMEOUTS,
  type TimeoutName,
  type TriggerConfig,
} from '../../lib/config/overload.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { durationMs } from './durations.ts'
import { translateMonitors } from './overload-monitors.ts'
import { consume } from './refusals.ts'

const LIMIT_KEY = 'overload.global_downstream_max_connections'
const SCALE_TIMERS = 'envoy.config.overload.v3.ScaleTimersOverloadActionConfig'
const SHRINK_HEAP = 'envoy.config.overload.v3.ShrinkHeapConfig'

/** Smaller streams are not counted by Envoy either: `minimum_account_to_track_power_of_two` is 10 to 56. */
const REDUCE_TIMEOUTS: ActionName = 'envoy.overload_actions.reduce_timeouts'
const RESET_STREAMS: ActionName = 'envoy.overload_actions.reset_high_memory_stream'
const SHRINK: ActionName = 'envoy.overload_actions.shrink_heap'

/**
 * `config.overload.v3.OverloadManager`. The limit of connections is the monitor of downstream connections, or the older
 * runtime key; everything else is the gateway's overload manager, where it has anything to watch.
 */
export function translateOverload(
  reader: FieldReader | undefined,
): Pick<GatewayConfig, 'maxConnections' | 'maxConnectionsKey' | 'overload'> {
  if (reader === undefined) return { maxConnectionsKey: LIMIT_KEY }
  reader.unread('refuse')
  const { monitors, maxConnections } = translateMonitors(reader)
  const known = new Set(monitors.map(({ name }) => name))
  const actions = translateActions(reader, known)
  const shedPoints = translateShedPoints(reader, known)
  const refreshIntervalMs = durationMs(reader, 'refresh_interval') ?? OVERLOAD_DEFAULTS.refreshIntervalMs
  const smallest = reader.message('buffer_factory_config')?.number('minimum_account_to_track_power_of_two') ?? 0
  if (actions.list.some(({ name }) => name === RESET_STREAMS) && !reader.has('buffer_factory_config')) {
    reader.error('buffer_factory_config', `is required by the action "${RESET_STREAMS}"`)
  }
  const overload: OverloadConfig = {
    refreshIntervalMs: Math.max(1, refreshIntervalMs),
    monitors,
    actions: actions.list,
    shedPoints,
    timeouts: actions.timeouts,
    smallestStreamBytes: smallest > 0 ? 2 ** smallest : OVERLOAD_DEFAULTS.smallestStreamBytes,
    shrink: actions.shrink,
  }
  return {
    ...(maxConnections === undefined ? { maxConnectionsKey: LIMIT_KEY } : { maxConnections }),
    ...(monitors.length > 0 && { overload }),
  }
}

interface TranslatedActions {
  readonly list: readonly ActionConfig[]
  readonly timeouts: OverloadConfig['timeouts']
  readonly shrink: OverloadConfig['shrink']
}

function translateActions(reader: FieldReader, monitors: ReadonlySet<string>): TranslatedActions {
  const list: ActionConfig[] = []
  let timeouts: OverloadConfig['timeouts'] = []
  let shrink: OverloadConfig['shrink'] = OVERLOAD_DEFAULTS.shrink
  const names = new Set<string>()
  for (const entry of reader.messages('actions')) {
    const name = entry.string('name')
    const triggers = translateTriggers(entry, monitors)
    if (names.has(name)) entry.error('name', `a second action "${name}"`)
    names.add(name)
    if (!Object.hasOwn(ACTIONS, name)) entry.error('name', `there is no overload action "${name}"`)
    else list.push({ name: name as ActionName, triggers })
    if (name === REDUCE_TIMEOUTS) timeouts = translateTimeouts(entry)
    else if (name === SHRINK) shrink = translateShrink(entry)
    else refuseConfig(entry, name)
  }
  return { list, timeouts, shrink }
}

function refuseConfig(entry: FieldReader, name: string): void {
  const extension = entry.any('typed_config')
  if (extension === undefined) return
  consume(extension)
  entry.error('typed_config', `the action "${name}" takes no configuration`)
}

function translateTriggers(entry: FieldReader, monitors: ReadonlySet<string>): TriggerConfig[] {
  const names = new Set<string>()
  return entry.messages('triggers').map((trigger) => {
    const monitor = trigger.string('name')
    if (!monitors.has(monitor)) trigger.error('name', `there is no resource monitor "${monitor}"`)
    if (names.has(monitor)) trigger.error('name', `a second trigger of "${monitor}"`)
    names.add(monitor)
    const scaled = trigger.message('scaled')
    if (scaled === undefined) {
      const value = trigger.message('threshold')?.number('value') ?? 0
      return { monitor, from: value, to: value }
    }
    const from = scaled.number('scaling_threshold') ?? 0
    const to = scaled.number('saturation_threshold') ?? 0
    if (from >= to) scaled.error('scaling_threshold', `${from} must be less than saturation_threshold, which is ${to}`)
    return { monitor, from, to }
  })
}

function translateTimeouts(entry: FieldReader): OverloadConfig['timeouts'] {
  const extension = entry.any('typed_config')
  if (extension === undefined || extension.typeUrl !== SCALE_TIMERS) {
    if (extension !== undefined) consume(extension)
    entry.error('typed_config', `must be of type ${SCALE_TIMERS}`)
    return []
  }
  const names = new Set<string>()
  return extension.fields.messages('timer_scale_factors').flatMap((factor) => {
    const timeout = factor.enumName('timer')
    const ms = durationMs(factor, 'min_timeout')
    const percent = factor.message('min_scale')?.number('value') ?? 0
    if (!Object.hasOwn(TIMEOUTS, timeout)) {
      factor.error('timer', `there is no timer "${timeout}"`)
      return []
    }
    if (names.has(timeout)) factor.error('timer', `a second entry for ${timeout}`)
    names.add(timeout)
    return [{ timeout: timeout as TimeoutName, minimum: ms === undefined ? { share: percent / 100 } : { ms } }]
  })
}

function translateShrink(entry: FieldReader): OverloadConfig['shrink'] {
  const extension = entry.any('typed_config')
  if (extension === undefined) return OVERLOAD_DEFAULTS.shrink
  if (extension.typeUrl !== SHRINK_HEAP) {
    consume(extension)
    entry.error('typed_config', `must be of type ${SHRINK_HEAP}`)
    return OVERLOAD_DEFAULTS.shrink
  }
  const { intervalMs, keepBytes } = OVERLOAD_DEFAULTS.shrink
  return {
    intervalMs: durationMs(extension.fields, 'timer_interval') ?? intervalMs,
    keepBytes: extension.fields.number('max_unfreed_memory_bytes') ?? keepBytes,
  }
}

/** Envoy knows no wrong name: extensions may have points of their own. Those that nothing here asks are reported. */
function translateShedPoints(reader: FieldReader, monitors: ReadonlySet<string>): OverloadConfig['shedPoints'] {
  const names = new Set<string>()
  return reader.messages('loadshed_points').flatMap((entry) => {
    const name = entry.string('name')
    const triggers = translateTriggers(entry, monitors)
    if (names.has(name)) entry.error('name', `a second load shed point "${name}"`)
    names.add(name)
    if (Object.hasOwn(SHED_POINTS, name)) return [{ name: name as ShedPointName, triggers }]
    entry.ignore('name', 'triggers')
    return []
  })
}
