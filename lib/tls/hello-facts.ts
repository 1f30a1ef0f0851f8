/** What fingerprints are made of: a ClientHello's numbers in its own order, GREASE (RFC 8701) included. */
export interface HelloFacts {
  /** `legacy_version` of the hello. */
  readonly version: number
  readonly ciphers: readonly number[]
  /** Types, in order. */
  readonly extensions: readonly number[]
  /** Empty where the extension is missing; so are the lists below. */
  readonly supportedVersions: readonly number[]
  readonly groups: readonly number[]
  readonly pointFormats: readonly number[]
  readonly signatureAlgorithms: readonly number[]
  /** The first protocol offered, one character per byte; undefined where none is. */
  readonly firstProtocol: string | undefined
}

const MESSAGE_HEADER_BYTES = 4
const RANDOM_BYTES = 32
const GROUPS = 10
const POINT_FORMATS = 11
const SIGNATURE_ALGORITHMS = 13
const ALPN = 16
const SUPPORTED_VERSIONS = 43

/**
 * Reads the numbers of a ClientHello message that a `ClientHelloReader` has found well-formed. Lists inside extensions
 * that do not fit their lengths end where the bytes do.
 *
 * @param message with its four bytes of header.
 */
export function helloFacts(message: Buffer): HelloFacts {
  let at = MESSAGE_HEADER_BYTES + 2 + RANDOM_BYTES
  at += 1 + message[at]
  const ciphersAt = at
  at += 2 + message.readUInt16BE(at)
  at += 1 + message[at]
  const bodies = new Map<number, Buffer>()
  const extensions: number[] = []
  for (at += 2; at + 4 <= message.length; ) {
    const type = message.readUInt16BE(at)
    const end = at + 4 + message.readUInt16BE(at + 2)
    extensions.push(type)
    if (!bodies.has(type)) bodies.set(type, message.subarray(at + 4, end))
    at = end
  }
  return {
    version: message.readUInt16BE(MESSAGE_HEADER_BYTES),
    ciphers: numbers(message.subarray(ciphersAt), 2, 2),
    extensions,
    supportedVersions: numbers(bodies.get(SUPPORTED_VERSIONS), 1, 2),
    groups: numbers(bodies.get(GROUPS), 2, 2),
    pointFormats: numbers(bodies.get(POINT_FORMATS), 1, 1),
    signatureAlgorithms: numbers(bodies.get(SIGNATURE_ALGORITHMS), 2, 2),
    firstProtocol: firstProtocol(bodies.get(ALPN)),
  }
}

/** A vector of numbers behind its length. */
function numbers(body: Buffer | undefined, lengthBytes: 1 | 2, numberBytes: 1 | 2): readonly number[] {
  if (body === undefined || body.length < lengthBytes) return []
  const end = Math.min(body.length, lengthBytes + body.readUIntBE(0, lengthBytes))
  const found: number[] = []
  for (let at = lengthBytes; at + numberBytes <= end; at += numberBytes) found.push(body.readUIntBE(at, numberBytes))
  return found
}

/** The list's length, then that of its first name. */
function firstProtocol(body: Buffer | undefined): string | undefined {
  if (body === undefined || body.length < 3) return undefined
  const name = body.latin1Slice(3, 3 + body[2])
  return name === '' ? undefined : name
}
