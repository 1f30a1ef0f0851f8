import type { ConnectionInfo } from '../core/connection.ts'

/**
 * From this machine: a Unix socket, a loopback address, or the listener's own (Envoy's `SAME_IP_OR_LOOPBACK`). Connections
 * within the gateway are where their client is; one whose client is not known is not local.
 */
export function isLocalConnection({ kind, remoteAddress, localAddress }: ConnectionInfo): boolean {
  if (kind === 'pipe') return true
  return remoteAddress !== '' && (remoteAddress === localAddress || LOOPBACK.test(remoteAddress))
}

/** Addresses of connections are canonical: no v4-mapped ones, one spelling of `::1`. */
const LOOPBACK = /^(?:127\.|::1$)/
