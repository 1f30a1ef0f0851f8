import { isIP, isIPv6 } from 'node:net'

/** Where questions go. */
export interface NameServer {
  readonly host: string
  readonly port: number
  readonly v6: boolean
}

const PORT = 53

/** `address`, `address:port` or `[v6]:port`. Throws where it is none. */
export function parseServer(text: string): NameServer {
  const parts = isIP(text) === 0 ? /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text) : undefined
  const host = parts === undefined ? text : (parts?.[1] ?? parts?.[2] ?? '')
  const port = parts?.[3] === undefined ? PORT : Number(parts[3])
  if (isIP(host) === 0 || port < 1 || port > 65_535) throw new Error(`"${text}" is not the address of a name server`)
  return { host, port, v6: isIPv6(host) }
}
