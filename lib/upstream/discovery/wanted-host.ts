import { isIp } from '../../core/address.ts'
import type { PickContext } from '../../core/attempt.ts'

/** Filter state by which filters name the host of a forward proxy (Envoy's keys). */
const HOST_KEY = 'envoy.upstream.dynamic_host'
const PORT_KEY = 'envoy.upstream.dynamic_port'

/** A host by name or address, and where it is connected to. */
export interface WantedHost {
  readonly name: string
  readonly port: number
}

/**
 * The host that a request or connection through a forward proxy is for: as filters have said, else the request's authority,
 * else the client's SNI, which is a name and no address (RFC 6066 section 3). Undefined where nothing names one.
 */
export function wantedHost(context: PickContext, secure: boolean): WantedHost | undefined {
  const { downstream, filterState, authority } = context
  const state = (key: string): unknown => filterState?.get(key) ?? downstream?.state.object(key)
  const port = portOf(state(PORT_KEY))
  const host = state(HOST_KEY)
  const said = typeof host === 'string' && host !== '' ? host : authority
  if (said !== undefined) return parseAuthority(said, port, secure)
  const name = downstream?.serverName
  if (name === undefined || name === '' || isIp(name)) return undefined
  return { name, port: port ?? (secure ? 443 : 80) }
}

/** `host`, `host:port`, `[v6]:port` or a bare IPv6 address. `port` goes before the one in the text. */
export function parseAuthority(text: string, port: number | undefined, secure: boolean): WantedHost | undefined {
  const standard = port ?? (secure ? 443 : 80)
  if (isIp(text)) return { name: text, port: standard }
  const parts = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text)
  if (parts === null) return undefined
  const told = parts[3] === undefined ? undefined : portOf(parts[3])
  if (parts[3] !== undefined && told === undefined) return undefined
  const name = parts[1] ?? parts[2]
  // Brackets are for IPv6 addresses alone (RFC 3986 section 3.2.2).
  if (parts[1] !== undefined && !(isIp(name) && name.includes(':'))) return undefined
  return { name, port: port ?? told ?? standard }
}

function portOf(value: unknown): number | undefined {
  const port = Number(value)
  return Number.isInteger(port) && port > 0 && port < 65_536 ? port : undefined
}
