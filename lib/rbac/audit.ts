import type { Clock } from '../core/clock.ts'
import { type ConnectionInfo, verifiedPeer } from '../core/connection.ts'
import type { RbacAuditConfig } from './config.ts'
import type { Verdict } from './engine.ts'

/** Takes whole lines; never throws, never waits. */
export interface AuditSink {
  write(line: string): void
}

export interface AuditParts {
  readonly clock: Clock
  /** Where the lines go; a sink for each logger of the configuration. */
  readonly sinks: readonly AuditSink[]
  /** Name of the filter: `policy_name` of every line. */
  readonly name: string
}

/** Writes down one verdict. `path` is the request's, '' for connections. */
export type Audit = (connection: ConnectionInfo, path: string, verdict: Verdict) => void

/**
 * Compiles `audit_logging_options`: one JSON line for each verdict that is to be told, in the form of gRPC's stdout logger
 * (proposal A59: `timestamp rpc_method principal policy_name matched_rule authorized`), with both addresses and the server
 * name besides. Undefined: nothing is.
 */
export function compileAudit(config: RbacAuditConfig | undefined, parts: AuditParts): Audit | undefined {
  if (config === undefined || parts.sinks.length === 0) return undefined
  const { when } = config
  const { clock, sinks, name } = parts
  return (connection, path, { allowed, policy }) => {
    if (when !== 'both' && (when === 'allow') !== allowed) return
    const { remoteAddress, remotePort, localAddress, localPort, serverName } = connection
    const line = JSON.stringify({
      grpc_audit_log: {
        timestamp: new Date(clock.wall()).toISOString(),
        rpc_method: path,
        principal: principalOf(connection),
        policy_name: name,
        matched_rule: policy,
        authorized: allowed,
        source: { address: remoteAddress, port: remotePort },
        destination: { address: localAddress, port: localPort },
        server_name: serverName ?? '',
      },
    })
    for (const sink of sinks) sink.write(`${line}\n`)
  }
}

/** The name by which Envoy matches `authenticated`: URI, else DNS name, else subject; '' for strangers. */
function principalOf(connection: ConnectionInfo): string {
  const peer = verifiedPeer(connection)
  return peer === undefined ? '' : (peer.uriSans[0] ?? peer.dnsSans[0] ?? peer.subject)
}
