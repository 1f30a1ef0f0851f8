import { isIPv4, isIPv6 } from 'node:net'

/** Where something listens or connects to: a socket. */
export type Address =
  | {
      readonly kind: 'ip'
      readonly host: string
      readonly port: number
      /** Of `::`, where it is listened on: IPv4 as well. Default: IPv6 alone. */
      readonly dualStack?: boolean
    }
  | { readonly kind: 'pipe'; readonly path: string; readonly mode?: number }

/** An internal listener of this process: reached through memory. `endpointId` tells endpoints of one listener apart. */
export interface InternalAddress {
  readonly kind: 'internal'
  readonly listener: string
  readonly endpointId?: string
}

/** What an endpoint of a cluster may be. */
export type EndpointAddress = Address | InternalAddress

/**
 * `10.0.0.1:80`, `[::1]:80`, the path of a Unix socket, or `envoy://listener/id`: how Envoy prints addresses in logs and
 * admin.
 */
export function formatAddress(address: EndpointAddress): string {
  switch (address.kind) {
    case 'ip':
      return formatHostPort(address.host, address.port)
    case 'pipe':
      return address.path
    case 'internal':
      return `envoy://${address.listener}/${address.endpointId ?? ''}`
  }
}

export function formatHostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/**
 * The one spelling of an IP address that matchers compare: v4-mapped IPv6 becomes IPv4, zone ids go.
 * Anything that is not an IP address is returned as it is.
 */
export function canonicalIp(address: string): string {
  if (!address.includes(':')) return address
  const zone = address.indexOf('%')
  const bare = zone < 0 ? address : address.slice(0, zone)
  const lower = bare.toLowerCase()
  if (lower.startsWith('::ffff:')) {
    const rest = lower.slice(7)
    if (isIPv4(rest)) return rest
    const hex = /^([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(rest)
    if (hex !== null) {
      const high = Number.parseInt(hex[1], 16)
      const low = Number.parseInt(hex[2], 16)
      return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
    }
  }
  return lower
}

export function isIp(address: string): boolean {
  return isIPv4(address) || isIPv6(address)
}
