import { isIp } from '../../core/address.ts'
import type { PickContext } from '../../core/attempt.ts'

/** Filter state by which filters name the host of a forward proxy (Envoy's keys). */
const HOST_KEY = 'envoy.upstream.dynamic_host'
const PORT_KEY = 'envoy.upstream.dynamic_port'

/**
 * The host that a connection through a forward proxy is for: as filters have said, else the client's SNI, which is a name
 * and no address (RFC 6066 section 3). Undefined where neither names one.
 */
export function wantedHost(
  { downstream }: PickContext,
  secure: boolean,
): { readonly name: string; readonly port: number } | undefined {
  if (downstream === undefined) return undefined
  const host = downstream.state.object(HOST_KEY)
  const said = typeof host === 'string' && host !== ''
  const name = said ? host : downstream.serverName
  if (name === undefined || name === '' || (!said && isIp(name))) return undefined
  const port = Number(downstream.state.object(PORT_KEY))
  return { name, port: Number.isInteger(port) && port > 0 && port < 65_536 ? port : secure ? 443 : 80 }
}
