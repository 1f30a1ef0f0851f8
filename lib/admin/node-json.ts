import type { NodeConfig } from '../config/model.ts'
import type { Json, JsonObject } from '../core/errors.ts'
import { objectField } from './dump/source-json.ts'
import type { AdminBackend } from './endpoint.ts'

/** Who this gateway is (`envoy.config.core.v3.Node`): what the configuration resolved it to, over what its author wrote. */
export function nodeJson(backend: AdminBackend): JsonObject {
  const config = backend.configuration()?.config
  if (config === undefined) return {}
  const written = objectField(config.source, 'node')
  return { ...resolved(config.node), ...(written !== undefined && otherFields(written)) }
}

function resolved({ id, cluster, locality, metadata }: NodeConfig): JsonObject {
  const out: Record<string, Json> = { id, cluster, user_agent_name: 'headgate' }
  if (metadata !== undefined) out.metadata = metadata
  if (locality !== undefined) {
    out.locality = { region: locality.region, zone: locality.zone, sub_zone: locality.subZone }
  }
  return out
}

/** Fields that nothing here acts on, and that control planes may look for. */
function otherFields(written: JsonObject): JsonObject {
  const out: Record<string, Json> = {}
  for (const name of ['dynamic_parameters', 'listening_addresses'] as const) {
    const value = written[name]
    if (value !== undefined) out[name] = value
  }
  return out
}
