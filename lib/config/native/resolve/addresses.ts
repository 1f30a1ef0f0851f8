import type { Address } from '../../../core/address.ts'
import { canonicalIp } from '../../../core/address.ts'
import type { CidrConfig } from '../../../match/config.ts'
import type { NativeAddress } from '../clusters.ts'
import type { NativeCidr } from '../matches.ts'
import type { Reading } from './reading.ts'

/** Reads an address; undefined, and a mistake, where the text is none. Whether a host may be a name is not judged here. */
export function readAddress(value: NativeAddress, path: string, reading: Reading): Address | undefined {
  if (typeof value === 'string') {
    const address = parseAddress(value)
    if (address === undefined)
      reading.findings.error(path, `"${value}" is not an address: write host:port, [ipv6]:port or /path`)
    return address && reading.origins.whole(path, address)
  }
  if ('host' in value)
    return reading.origins.at<Address>(path, { kind: 'ip', host: bare(value.host), port: value.port })
  const { mode } = value
  return reading.origins.at<Address>(path, { kind: 'pipe', path: value.path, ...(mode !== undefined && { mode }) })
}

function parseAddress(text: string): Address | undefined {
  if (/^[/@]./.test(text)) return { kind: 'pipe', path: text }
  const parts = /^(?:\[([^\][]+)\]|([^:\s]+)):(\d{1,5})$/.exec(text)
  if (parts === null || Number(parts[3]) > 65_535) return undefined
  return { kind: 'ip', host: bare(parts[1] ?? parts[2]), port: Number(parts[3]) }
}

/** `[::1]` and `::1` are the same host. */
function bare(host: string): string {
  return host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host
}

/** Reads a range of addresses; an address alone is a range of one. Ranges of v4-mapped addresses become IPv4. */
export function readCidr(value: NativeCidr, path: string, reading: Reading): CidrConfig {
  if (typeof value !== 'string') return reading.origins.at(path, canonicalCidr(value))
  const slash = value.indexOf('/')
  const address = slash < 0 ? value : value.slice(0, slash)
  const digits = slash < 0 ? (address.includes(':') ? '128' : '32') : value.slice(slash + 1)
  // -1 is out of bounds: a length that is no number is found when the ranges are checked.
  const prefixLength = /^\d{1,3}$/.test(digits) ? Number(digits) : -1
  return reading.origins.whole(path, canonicalCidr({ address, prefixLength }))
}

function canonicalCidr({ address, prefixLength }: CidrConfig): CidrConfig {
  const canonical = canonicalIp(address)
  const mapped = address.includes(':') && !canonical.includes(':') && prefixLength >= 96
  return mapped
    ? { address: canonical, prefixLength: prefixLength - 96 }
    : { address: address.toLowerCase(), prefixLength }
}
