import { isIPv4, isIPv6 } from 'node:net'
import { canonicalIp } from '../../lib/core/address.ts'
import type { HeaderAddresses } from './header.ts'

/** An address of that family in its one spelling (RFC 5952, v4-mapped as IPv4); undefined where it is none. */
export function plainAddress(text: string, family: 4 | 6): string | undefined {
  if (family === 4) return isIPv4(text) ? text : undefined
  // Zones mean nothing to another machine.
  if (text.includes('%') || !isIPv6(text)) return undefined
  return canonicalIp(new URL(`http://[${text}]`).hostname.slice(1, -1))
}

/** Neither end of a TCP connection can have such an address (Envoy refuses them too). */
export function isUnicast(address: string): boolean {
  if (address.includes(':')) return address !== '::' && !address.startsWith('ff')
  const first = Number(address.slice(0, address.indexOf('.')))
  return address !== '0.0.0.0' && address !== '255.255.255.255' && (first < 224 || first > 239)
}

/** Undefined where one of the addresses cannot be. */
export function unicastOnly(addresses: HeaderAddresses): HeaderAddresses | undefined {
  return isUnicast(addresses.source) && isUnicast(addresses.destination) ? addresses : undefined
}
