import type { ProxyTlv } from '../../lib/core/connection.ts'
import { parseVersion1, VERSION_1_BYTES } from './version-1.ts'
import { HEADER_BYTES, parseVersion2, VERSION_2_LIMIT_BYTES } from './version-2.ts'

/** Both ends of the connection that the header speaks of. */
export interface HeaderAddresses {
  /** In their one spelling, v4-mapped ones as IPv4. */
  readonly source: string
  readonly sourcePort: number
  readonly destination: string
  readonly destinationPort: number
}

/** A PROXY protocol header. */
export interface ProxyHeader {
  readonly version: 1 | 2
  /** How many bytes it takes. */
  readonly bytes: number
  /** Undefined: the addresses of the socket hold (LOCAL, UNSPEC, UNKNOWN). */
  readonly addresses: HeaderAddresses | undefined
  /** All but NOOP, in their order. The values are copies. */
  readonly tlvs: readonly ProxyTlv[]
}

/** A header that is none, after all. */
export interface MalformedHeader {
  readonly malformed: string
}

/** What the first bytes of a connection begin with; `undefined`: too few to tell. */
export type Beginning = 'version-1' | 'version-2' | 'other' | undefined

/** How far a header can reach. */
export const MAX_HEADER_BYTES = VERSION_2_LIMIT_BYTES

const SIGNATURE_1 = Buffer.from('PROXY ')
const SIGNATURE_2 = Buffer.from('\r\n\r\n\0\r\nQUIT\n')

/** Tells a header by its signature; the two differ in their first byte. */
export function beginningOf(bytes: Buffer): Beginning {
  if (bytes.length === 0) return undefined
  const version = bytes[0] === SIGNATURE_1[0] ? 'version-1' : 'version-2'
  const signature = version === 'version-1' ? SIGNATURE_1 : SIGNATURE_2
  const known = Math.min(bytes.length, signature.length)
  if (bytes.compare(signature, 0, known, 0, known) !== 0) return 'other'
  return known === signature.length ? version : undefined
}

/**
 * Reads a header whose signature is there; undefined: it is not complete. Bounded: a line has at most 107 bytes, a binary
 * header 4 KiB, and what is longer is malformed as soon as that can be seen.
 *
 * @param from where the bytes begin that the last call has not seen.
 */
export function readHeader(
  version: 'version-1' | 'version-2',
  bytes: Buffer,
  from: number,
): ProxyHeader | MalformedHeader | undefined {
  return version === 'version-1' ? readLine(bytes, from) : readBinary(bytes)
}

function readLine(bytes: Buffer, from: number): ProxyHeader | MalformedHeader | undefined {
  // A CR may have been the last byte of the last call.
  for (let at = Math.max(SIGNATURE_1.length, from - 1); at < Math.min(bytes.length, VERSION_1_BYTES); at++) {
    if (bytes[at] === 0x0a) return { malformed: 'its line ends without CR' }
    if (bytes[at] !== 0x0d || at + 1 === bytes.length) continue
    if (at + 1 >= VERSION_1_BYTES) break
    if (bytes[at + 1] !== 0x0a) return { malformed: 'there is a CR in its line' }
    return parseVersion1(bytes.latin1Slice(SIGNATURE_1.length, at), at + 2)
  }
  return bytes.length < VERSION_1_BYTES ? undefined : { malformed: `its line is longer than ${VERSION_1_BYTES} bytes` }
}

function readBinary(bytes: Buffer): ProxyHeader | MalformedHeader | undefined {
  if (bytes.length < HEADER_BYTES) return undefined
  const length = HEADER_BYTES + bytes.readUInt16BE(HEADER_BYTES - 2)
  if (length > VERSION_2_LIMIT_BYTES) {
    return { malformed: `it has ${length} bytes, and ${VERSION_2_LIMIT_BYTES} are the limit` }
  }
  return bytes.length < length ? undefined : parseVersion2(bytes.subarray(0, length))
}
