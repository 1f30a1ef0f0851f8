import type { GatewayConfig } from '../../lib/config/model.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { consume } from './refusals.ts'

const LIMIT_KEY = 'overload.global_downstream_max_connections'
const CONNECTIONS = 'envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig'

/**
 * The gateway's limit of connections: the monitor of downstream connections in `config.overload.v3.OverloadManager`, or
 * the older runtime key. Everything else in the overload manager is reported: it sheds load, which nothing here does.
 */
export function translateConnectionLimit(
  reader: FieldReader | undefined,
): Pick<GatewayConfig, 'maxConnections' | 'maxConnectionsKey'> {
  const monitored = reader === undefined ? undefined : translateMonitors(reader)
  return monitored === undefined ? { maxConnectionsKey: LIMIT_KEY } : { maxConnections: monitored }
}

function translateMonitors(reader: FieldReader): number | undefined {
  reader.ignore('refresh_interval', 'actions', 'loadshed_points', 'buffer_factory_config')
  let limit: number | undefined
  for (const entry of reader.messages('resource_monitors')) {
    entry.string('name')
    const extension = entry.any('typed_config')
    if (extension?.typeUrl === CONNECTIONS) {
      limit = extension.fields.number('max_active_downstream_connections')
      if (limit === undefined || limit < 1) {
        extension.fields.error('max_active_downstream_connections', 'must be at least 1')
      }
      continue
    }
    if (extension !== undefined) consume(extension)
    entry.ignore('typed_config')
  }
  return limit
}
