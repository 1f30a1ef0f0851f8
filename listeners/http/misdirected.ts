import type { FilterChainConfig } from '../../lib/config/listener.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'

/** The choice between a listener's filter chains; a `CompiledListener` is one. */
export interface ChainDirectory {
  readonly chains: readonly { readonly config: Pick<FilterChainConfig, 'tls'> }[]
  choose(facts: ConnectionInfo): number
}

/** Whether a request for `host` belongs on another connection than the one it came on. */
export type MisdirectedCheck = (connection: ConnectionInfo, host: string) => boolean

/**
 * A client may send requests for any name over a connection it has (RFC 9113 §9.1.1), and with a certificate for several
 * names browsers do. Where the connection's server name chose the filter chain, another name may belong to another chain:
 * other client certificates, other routes. Such a request is answered 421 (RFC 9110 §15.5.20), and the client tries again
 * on a connection of its own.
 *
 * True where the listener would have chosen another chain with TLS, had the client asked for `host` in its handshake.
 */
export function misdirectedBetween(directory: () => ChainDirectory): MisdirectedCheck {
  return (connection, host) => {
    const { chains, choose } = directory()
    const other = choose({ ...connection, serverName: host })
    // Both by the chains of one snapshot: the one that the connection was accepted for may have gone.
    return other >= 0 && other !== choose(connection) && chains[other].config.tls !== undefined
  }
}

/**
 * The check of one request. It costs a comparison of strings where the authority is the name that the
 * connection was made for; connections in plaintext and those without a server name are never misdirected.
 */
export function isMisdirected(authority: string, connection: ConnectionInfo, check: MisdirectedCheck): boolean {
  const { serverName } = connection
  if (serverName === undefined || connection.tls === undefined || authority === '') return false
  // A name with a dot at its end has chosen another chain than the same name for routes, which have none.
  if (authority === serverName && !authority.endsWith('.')) return false
  const host = hostOf(authority)
  return host !== serverName && check(connection, host)
}

/** Without its port, in lower case, without the dot at its end. */
function hostOf(authority: string): string {
  const colon = authority.lastIndexOf(':')
  const host = colon > 0 && authority.indexOf(']', colon) < 0 ? authority.slice(0, colon) : authority
  return (host.endsWith('.') ? host.slice(0, -1) : host).toLowerCase()
}
