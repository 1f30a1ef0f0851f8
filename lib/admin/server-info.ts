import type { JsonObject } from '../core/errors.ts'
import type { AdminBackend } from './endpoint.ts'

/** What only the composition root knows of the program. */
export interface Identity {
  /** `headgate/0.1.0` and the version of Node. */
  readonly version: string
  /** As given on the command line, by Envoy's names where Envoy has one. */
  readonly options: JsonObject
}

/** Envoy's `/server_info` (`envoy.admin.v3.ServerInfo`). */
export function serverInfo(backend: AdminBackend, identity: Identity): JsonObject {
  const uptime = `${Math.floor(backend.uptimeMs() / 1000)}s`
  const node = backend.configuration()?.config.node
  return {
    version: identity.version,
    state: backend.state(),
    uptime_current_epoch: uptime,
    uptime_all_epochs: uptime,
    hot_restart_version: 'disabled',
    command_line_options: { concurrency: backend.workers(), ...identity.options },
    node: node === undefined ? {} : nodeJson(node),
  }
}

function nodeJson(node: NonNullable<ReturnType<AdminBackend['configuration']>>['config']['node']): JsonObject {
  const { id, cluster, locality, metadata } = node
  const out: JsonObject = { id, cluster, user_agent_name: 'headgate' }
  if (metadata !== undefined) out.metadata = metadata
  if (locality !== undefined) {
    out.locality = { region: locality.region, zone: locality.zone, sub_zone: locality.subZone }
  }
  return out
}
