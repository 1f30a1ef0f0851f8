import type { AddressFilterConfig } from './config.ts'

/**
 * What is not reachable in public: this machine, private and shared networks, link-local addresses (the metadata services
 * of clouds are among them), documentation, multicast, what is reserved, and IPv6 spellings of IPv4 addresses (IPv4-compatible,
 * NAT64, 6to4, Teredo), which may lead to any of those. IANA's special-purpose registries (RFC 6890), and what clouds answer
 * from besides. IPv4-mapped addresses count as IPv4.
 */
const NOT_PUBLIC = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '168.63.129.16/32',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/96',
  '64:ff9b::/96',
  '64:ff9b:1::/48',
  '100::/64',
  '2001::/23',
  '2001:db8::/32',
  '2002::/16',
  '3fff::/20',
  '5f00::/16',
  'fc00::/7',
  'fe80::/10',
  'fec0::/10',
  'ff00::/8',
] as const

/** Denies what is not reachable in public. */
export const PUBLIC_ONLY: AddressFilterConfig = Object.freeze({
  kind: 'deny',
  ranges: Object.freeze(
    NOT_PUBLIC.map((range) => {
      const at = range.indexOf('/')
      return Object.freeze({ address: range.slice(0, at), prefixLength: Number(range.slice(at + 1)) })
    }),
  ),
})
