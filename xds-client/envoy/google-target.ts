import { type Address, canonicalIp, isIp } from '../../lib/core/address.ts'

/** Where a channel goes (gRPC's naming of targets). */
export interface GoogleTarget {
  readonly addresses: readonly Exclude<Address, { kind: 'internal' }>[]
  /** The addresses are names. */
  readonly named: boolean
  /** What the certificate must be for: the name, without port. */
  readonly host: string
  /** `:authority` of calls. */
  readonly authority: string
}

/** Of targets without one. */
const PORT = 443

/** `host:port`, `[v6]:port`; the port may be missing. */
const HOST_PORT = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/

/**
 * Reads a target of gRPC: `host:port`, `dns:///host:port`, `ipv4:…`, `ipv6:…`, `unix:path`. A text says what is wrong with
 * it, after the target.
 */
export function parseGoogleTarget(uri: string): GoogleTarget | string {
  const [, scheme = '', rest = uri] = /^([a-z][a-z0-9+.-]*):(?!\d{1,5}$)(.*)$/.exec(uri) ?? []
  switch (scheme) {
    case '':
      return named(uri)
    case 'dns': {
      const name = /^\/\/([^/]*)\/(.*)$/.exec(rest)
      if (name?.[1]) return 'names a DNS server, which is not available; set the resolvers of the bootstrap'
      return named(name === null ? rest : name[2])
    }
    case 'ipv4':
    case 'ipv6':
      return literal(rest.replace(/^\/+/, ''))
    case 'unix':
      return local(rest.replace(/^\/\/\//, '/'))
    default:
      return `has the scheme "${scheme}", which is not available`
  }
}

function named(text: string): GoogleTarget | string {
  const address = parse(text)
  if (typeof address === 'string') return address
  return { addresses: [address], named: !isIp(address.host), host: address.host, authority: text }
}

function literal(text: string): GoogleTarget | string {
  const addresses: Address[] = []
  for (const part of text.split(',')) {
    const address = parse(part)
    if (typeof address === 'string') return address
    if (!isIp(address.host)) return `has "${address.host}" where an IP address belongs`
    addresses.push(address)
  }
  const first = addresses[0] as { readonly host: string }
  return { addresses, named: false, host: first.host, authority: text.split(',')[0] }
}

function local(path: string): GoogleTarget | string {
  if (path === '' || path.startsWith('//')) return 'has no path'
  return { addresses: [{ kind: 'pipe', path }], named: false, host: 'localhost', authority: 'localhost' }
}

function parse(text: string): { readonly kind: 'ip'; readonly host: string; readonly port: number } | string {
  const parts = HOST_PORT.exec(text)
  if (parts === null) return 'is not host:port'
  const host = parts[1] ?? parts[2]
  const port = Number(parts[3] ?? PORT)
  if (port > 65_535) return `has the port ${port}`
  if (parts[1] !== undefined && !isIp(host)) return `has "${host}" where an IPv6 address belongs`
  return { kind: 'ip', host: isIp(host) ? canonicalIp(host) : host, port }
}
