import type { ProxyTlv } from '../../lib/core/connection.ts'
import { plainAddress, unicastOnly } from './addresses.ts'
import { crc32c } from './crc32c.ts'
import type { HeaderAddresses, MalformedHeader, ProxyHeader } from './header.ts'

/** Signature, version and command, family and protocol, length. */
export const HEADER_BYTES = 16
/** Of the whole header. The protocol has no limit below 64 KiB; what load balancers send fits 600 bytes. */
export const VERSION_2_LIMIT_BYTES = 4_096

const LOCAL = 0x20
const PROXY = 0x21
const UNSPEC = 0x00
/** TCP and UDP over IPv4, over IPv6: how many bytes an address has. Other pairs must be refused, as the protocol says. */
const ADDRESS_BYTES: ReadonlyMap<number, 4 | 16> = new Map([
  [0x11, 4],
  [0x12, 4],
  [0x21, 16],
  [0x22, 16],
])

const TLV_CRC32C = 0x03
const TLV_NOOP = 0x04
const TLV_HEADER_BYTES = 3

/** Reads a complete header, signature included. */
export function parseVersion2(header: Buffer): ProxyHeader | MalformedHeader {
  const command = header[12]
  const bytes = header.length
  // For LOCAL everything that follows is to be discarded, the family too.
  if (command === LOCAL) return { version: 2, bytes, addresses: undefined, tlvs: [] }
  if (command !== PROXY) return { malformed: `0x${command.toString(16)} is no version and command` }
  const family = header[13]
  const size = ADDRESS_BYTES.get(family)
  if (size === undefined && family !== UNSPEC) return { malformed: refusal(family) }
  const tlvsAt = HEADER_BYTES + (size === undefined ? 0 : 2 * size + 4)
  if (tlvsAt > bytes) return { malformed: 'it is too short for its addresses' }
  const addresses = size === undefined ? undefined : readAddresses(header, size)
  if (size !== undefined && addresses === undefined) return { malformed: 'an address is not unicast' }
  const tlvs = readTlvs(header, tlvsAt)
  return 'malformed' in tlvs ? tlvs : { version: 2, bytes, addresses, tlvs: tlvs.found }
}

function refusal(family: number): string {
  // As Envoy: what would a rule by address make of a path?
  if (family === 0x31 || family === 0x32) return 'addresses of Unix sockets are not available'
  return `0x${family.toString(16).padStart(2, '0')} is no address family and protocol`
}

function readAddresses(header: Buffer, size: 4 | 16): HeaderAddresses | undefined {
  const ports = HEADER_BYTES + 2 * size
  return unicastOnly({
    source: readAddress(header, HEADER_BYTES, size),
    sourcePort: header.readUInt16BE(ports),
    destination: readAddress(header, HEADER_BYTES + size, size),
    destinationPort: header.readUInt16BE(ports + 2),
  })
}

function readAddress(header: Buffer, at: number, size: 4 | 16): string {
  if (size === 4) return `${header[at]}.${header[at + 1]}.${header[at + 2]}.${header[at + 3]}`
  let text = header.readUInt16BE(at).toString(16)
  for (let group = at + 2; group < at + 16; group += 2) text += `:${header.readUInt16BE(group).toString(16)}`
  return plainAddress(text, 6) ?? text
}

function readTlvs(header: Buffer, from: number): { readonly found: ProxyTlv[] } | MalformedHeader {
  const found: ProxyTlv[] = []
  let checksumAt = -1
  for (let at = from; at < header.length; ) {
    const type = header[at]
    const valueAt = at + TLV_HEADER_BYTES
    const end = valueAt > header.length ? Number.POSITIVE_INFINITY : valueAt + header.readUInt16BE(at + 1)
    if (end > header.length) return { malformed: `TLV 0x${type.toString(16)} goes beyond its end` }
    if (type === TLV_CRC32C) {
      if (checksumAt >= 0 || end - valueAt !== 4) return { malformed: 'its checksum is not one number of 4 bytes' }
      checksumAt = valueAt
    }
    // A copy: the packet it came in is not kept for it.
    if (type !== TLV_NOOP) found.push({ type, value: Uint8Array.from(header.subarray(valueAt, end)) })
    at = end
  }
  return checksumAt < 0 || sumHolds(header, checksumAt) ? { found } : { malformed: 'its checksum is wrong' }
}

/** The sum is over the whole header with zeros in its own place. */
function sumHolds(header: Buffer, at: number): boolean {
  const copy = Buffer.from(header)
  copy.fill(0, at, at + 4)
  return crc32c(copy) === header.readUInt32BE(at)
}
