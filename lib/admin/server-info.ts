import type { JsonObject } from '../core/errors.ts'
import type { AdminBackend } from './endpoint.ts'
import { nodeJson } from './node-json.ts'
import { REDACTED } from './secret-names.ts'

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
  return {
    version: identity.version,
    state: backend.state(),
    uptime_current_epoch: uptime,
    uptime_all_epochs: uptime,
    hot_restart_version: 'disabled',
    command_line_options: { concurrency: backend.workers(), ...shownOptions(identity.options) },
    node: nodeJson(backend),
  }
}

/** A bootstrap on the command line may hold secrets; `/config_dump` shows it without them. */
function shownOptions(options: JsonObject): JsonObject {
  return options.config_yaml === undefined ? options : { ...options, config_yaml: REDACTED }
}
