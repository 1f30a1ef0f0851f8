import type { MonitorConfig } from '../../lib/config/overload.ts'
import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import { durationMs } from './durations.ts'
import { refuseExtension } from './refusals.ts'

const MONITORS = 'envoy.extensions.resource_monitors'
const CONNECTIONS = `${MONITORS}.downstream_connections.v3.DownstreamConnectionsConfig`

/** Ours: what every worker measures of its event loop. They have no schema of Envoy's. */
const LOOP_DELAY = 'headgate.resource_monitors.event_loop_delay.v1.EventLoopDelayConfig'
const LOOP_UTILIZATION = 'headgate.resource_monitors.event_loop_utilization.v1.EventLoopUtilizationConfig'
const LOOP_DELAY_MS = 200

/** What watches, and the limit of connections, which Envoy keeps among the monitors. */
export function translateMonitors(reader: FieldReader): {
  readonly monitors: readonly MonitorConfig[]
  readonly maxConnections: number | undefined
} {
  const monitors: MonitorConfig[] = []
  const names = new Set<string>()
  let maxConnections: number | undefined
  for (const entry of reader.messages('resource_monitors')) {
    const name = entry.string('name')
    if (names.has(name)) entry.error('name', `a second resource monitor "${name}"`)
    names.add(name)
    const extension = entry.any('typed_config')
    if (extension === undefined) entry.error('typed_config', 'is required')
    else if (extension.typeUrl === CONNECTIONS) {
      maxConnections = connectionLimit(extension.fields)
      if (maxConnections !== undefined) monitors.push({ name, kind: 'connections', limit: maxConnections })
    } else {
      const monitor = translateMonitor(entry, name, extension)
      if (monitor !== undefined) monitors.push(monitor)
    }
  }
  return { monitors, maxConnections }
}

function connectionLimit(fields: FieldReader): number | undefined {
  const limit = fields.number('max_active_downstream_connections')
  if (limit === undefined || limit < 1) fields.error('max_active_downstream_connections', 'must be at least 1')
  return limit
}

function translateMonitor(entry: FieldReader, name: string, extension: ExtensionReader): MonitorConfig | undefined {
  const { typeUrl, fields } = extension
  fields.unread('refuse')
  switch (typeUrl) {
    case `${MONITORS}.fixed_heap.v3.FixedHeapConfig`:
      return { name, kind: 'process-memory', ...memoryLimit(fields) }
    case `${MONITORS}.cgroup_memory.v3.CgroupMemoryConfig`: {
      const limitBytes = fields.number('max_memory_bytes') ?? 0
      return { name, kind: 'cgroup-memory', ...(limitBytes > 0 && { limitBytes }) }
    }
    case `${MONITORS}.cpu_utilization.v3.CpuUtilizationConfig`:
      return { name, kind: 'cpu', of: fields.enumName('mode') === 'CONTAINER' ? 'container' : 'host' }
    case `${MONITORS}.injected_resource.v3.InjectedResourceConfig`:
      return { name, kind: 'file', path: fields.string('filename') }
    case LOOP_DELAY: {
      const limitMs = durationMs(fields, 'max_delay') ?? LOOP_DELAY_MS
      if (limitMs <= 0) fields.error('max_delay', 'must be more than 0')
      return { name, kind: 'loop-delay', limitMs }
    }
    case LOOP_UTILIZATION:
      return { name, kind: 'loop-utilization' }
    default:
      refuseExtension(entry, 'typed_config', extension, `resource monitor "${typeUrl}" is not available`)
      return undefined
  }
}

/** `max_heap_size_bytes`, or the value of `max_heap_size_bytes_runtime` where that is set. */
function memoryLimit(fields: FieldReader): { readonly limitBytes: number; readonly limitKey?: string } {
  const live = fields.message('max_heap_size_bytes_runtime')
  const fixed = fields.number('max_heap_size_bytes') ?? 0
  const limitBytes = live === undefined ? fixed : (live.number('default_value') ?? 0)
  if (limitBytes < 1)
    fields.error(live === undefined ? 'max_heap_size_bytes' : 'max_heap_size_bytes_runtime', 'must be more than 0')
  return { limitBytes, ...(live && { limitKey: live.string('runtime_key') }) }
}
