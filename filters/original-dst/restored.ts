import type { FoundFacts } from '../../lib/chain/network.ts'
import { canonicalIp, isIp } from '../../lib/core/address.ts'
import type { ConnectionState } from '../../lib/core/connection.ts'
import type { Json } from '../../lib/core/errors.ts'

const NAMESPACE = 'envoy.filters.listener.original_dst'
const LOCAL = `${NAMESPACE}.local_ip`
const REMOTE = `${NAMESPACE}.remote_ip`

/**
 * The addresses that whoever made a connection within the gateway has sent along (`internal_upstream`): the destination
 * in metadata, field `local`, else in filter state, and there the source too. What is no `address:port` counts as not
 * there, as in Envoy.
 */
export function restoredAddresses(state: ConnectionState): FoundFacts | undefined {
  const local = addressOf(localOf(state.metadata(NAMESPACE)) ?? state.object(LOCAL))
  const remote = addressOf(state.object(REMOTE))
  if (local === undefined && remote === undefined) return undefined
  return {
    ...(local && { localAddress: local.host, localPort: local.port }),
    ...(remote && { remoteAddress: remote.host, remotePort: remote.port }),
  }
}

function localOf(metadata: Json | undefined): string | undefined {
  if (typeof metadata !== 'object' || metadata === null || Array.isArray(metadata)) return undefined
  const local = Object.hasOwn(metadata, 'local') ? metadata.local : undefined
  return typeof local === 'string' ? local : undefined
}

function addressOf(text: unknown): { readonly host: string; readonly port: number } | undefined {
  if (typeof text !== 'string') return undefined
  const [, v6, v4, digits] = /^(?:\[([^\]]+)\]|([^:]+)):([0-9]{1,5})$/.exec(text) ?? []
  const host = v6 ?? v4
  const port = Number(digits)
  if (host === undefined || !isIp(host) || host.includes(':') !== (v6 !== undefined) || port > 65_535) return undefined
  return { host: canonicalIp(host), port }
}
