/** What a ClientHello says in the clear. */
export interface ClientHello {
  /** Lower case; undefined where the client names no host. */
  readonly serverName: string | undefined
  /** Protocols offered, in the client's order, one character per byte; empty where it offers none. */
  readonly alpn: readonly string[]
}

/**
 * `more`: feed what comes next. `hello`: done. `not-tls`: the first bytes are of something else. `malformed`: it is TLS,
 * and its first message is not a ClientHello that can be read, or one larger than the limit.
 */
export type HelloStatus = 'more' | 'hello' | 'not-tls' | 'malformed'

const HANDSHAKE_RECORD = 22
const CLIENT_HELLO = 1
const RECORD_HEADER_BYTES = 5
/** RFC 8446 §5.1: 2^14 bytes of plaintext. */
const MAX_RECORD_BYTES = 16_384
const MESSAGE_HEADER_BYTES = 4
const SERVER_NAME = 0
const ALPN = 16

/** Envoy's limit of what its TLS inspector reads. */
export const MAX_HELLO_BYTES = 16_384

/**
 * Reads the ClientHello at the start of a TLS connection from pieces of any size; a hello with a post-quantum key share
 * does not fit one segment, and may be spread over several records (RFC 8446 §5.1). Each byte is looked at once and at
 * most `limitBytes` of handshake message are kept. Pieces are not kept.
 */
export class ClientHelloReader {
  status: HelloStatus = 'more'
  /** Set when `status` is `hello`. */
  hello: ClientHello | undefined = undefined
  /** The handshake message with its header, of a `hello` where it was to be kept; else undefined. */
  message: Buffer | undefined = undefined
  /** It is `malformed` for its size alone. */
  tooLarge = false
  readonly #limitBytes: number
  readonly #keepMessage: boolean
  /** Of the record header at hand, how much has come; then how much of the record is left. */
  #headerBytes = 0
  #recordLeft = 0
  #record = 0
  /** The handshake message with its header, and how much of it is here. */
  #message: Buffer = Buffer.alloc(MESSAGE_HEADER_BYTES)
  #have = 0

  constructor(limitBytes = MAX_HELLO_BYTES, keepMessage = false) {
    this.#limitBytes = limitBytes
    this.#keepMessage = keepMessage
  }

  /** Takes the next bytes; those behind the hello are not looked at. Answers, and keeps, the status. */
  feed(bytes: Uint8Array): HelloStatus {
    for (let at = 0; at < bytes.length && this.status === 'more'; ) {
      if (this.#headerBytes < RECORD_HEADER_BYTES) this.#header(bytes[at++])
      else at += this.#body(bytes, at)
    }
    return this.status
  }

  #header(byte: number): void {
    const first = this.#have === 0
    switch (this.#headerBytes++) {
      case 0:
        if (byte !== HANDSHAKE_RECORD) this.#fail(first)
        return
      case 1:
        // 3.0 to 3.4 are on the wire; what is meant is in the hello.
        if (byte !== 3) this.#fail(first)
        return
      case 2:
        if (byte > 4) this.#fail(first)
        return
      case 3:
        this.#record = byte << 8
        return
      default:
        this.#record |= byte
        this.#recordLeft = this.#record
        // Empty handshake records are forbidden: they would cost time and bring nothing.
        if (this.#record === 0 || this.#record > MAX_RECORD_BYTES) this.#fail(first)
    }
  }

  #fail(first: boolean): void {
    this.status = first ? 'not-tls' : 'malformed'
  }

  /** Copies what belongs to the message; answers how many bytes it took. */
  #body(bytes: Uint8Array, at: number): number {
    const message = this.#message
    const wanted = Math.min(message.length - this.#have, this.#recordLeft, bytes.length - at)
    message.set(bytes.subarray(at, at + wanted), this.#have)
    this.#have += wanted
    this.#recordLeft -= wanted
    if (this.#recordLeft === 0) this.#headerBytes = 0
    if (this.#have === message.length) this.#filled()
    return wanted
  }

  #filled(): void {
    const message = this.#message
    if (message.length > MESSAGE_HEADER_BYTES) {
      this.#finish()
      return
    }
    const length = message.readUIntBE(1, 3)
    // The smallest one: version, random, no session id, one cipher suite, one compression method.
    if (message[0] !== CLIENT_HELLO || length < 41 || length > this.#limitBytes) {
      this.tooLarge = message[0] === CLIENT_HELLO && length > this.#limitBytes
      this.status = 'malformed'
      return
    }
    this.#message = Buffer.alloc(MESSAGE_HEADER_BYTES + length)
    message.copy(this.#message)
  }

  #finish(): void {
    this.hello = parseHello(this.#message)
    this.status = this.hello === undefined ? 'malformed' : 'hello'
    if (this.#keepMessage && this.hello !== undefined) this.message = this.#message
    this.#message = Buffer.alloc(0)
  }
}

/** A window on the message that knows when something would lie outside of it. */
interface Window {
  readonly bytes: Buffer
  at: number
  readonly end: number
}

/** RFC 8446 §4.1.2. Undefined where lengths do not fit each other. */
function parseHello(message: Buffer): ClientHello | undefined {
  // After the header: version and random.
  const whole: Window = { bytes: message, at: MESSAGE_HEADER_BYTES + 34, end: message.length }
  const session = vector(whole, 1)
  const suites = vector(whole, 2)
  const compression = vector(whole, 1)
  if (session === undefined || suites === undefined || compression === undefined) return undefined
  if (session.end - session.at > 32 || suites.end - suites.at < 2 || compression.end === compression.at)
    return undefined
  // Before TLS 1.3 extensions may be missing altogether.
  if (whole.at === whole.end) return { serverName: undefined, alpn: [] }
  const extensions = vector(whole, 2)
  return extensions === undefined || whole.at !== whole.end ? undefined : parseExtensions(extensions)
}

function parseExtensions(extensions: Window): ClientHello | undefined {
  let serverName: string | undefined
  let alpn: readonly string[] | undefined
  while (extensions.at < extensions.end) {
    if (extensions.end - extensions.at < 4) return undefined
    const type = extensions.bytes.readUInt16BE(extensions.at)
    extensions.at += 2
    const body = vector(extensions, 2)
    if (body === undefined) return undefined
    if (type === SERVER_NAME) {
      // A second one of a kind is forbidden (RFC 8446 §4.2), and readers differ on which of them counts.
      if (serverName !== undefined) return undefined
      serverName = parseServerName(body)
      if (serverName === undefined) return undefined
    } else if (type === ALPN) {
      if (alpn !== undefined) return undefined
      alpn = parseAlpn(body)
      if (alpn === undefined) return undefined
    }
  }
  return { serverName, alpn: alpn ?? [] }
}

/** RFC 6066 §3: a list of one, a host name: printable ASCII here, so that no reader sees another name in it. */
function parseServerName(body: Window): string | undefined {
  const list = vector(body, 2)
  if (list === undefined || body.at !== body.end || list.at === list.end || list.bytes[list.at] !== 0) return undefined
  list.at++
  const name = vector(list, 2)
  if (name === undefined || list.at !== list.end) return undefined
  return plainServerName(name.bytes.latin1Slice(name.at, name.end))
}

/** RFC 7301 §3.1: at least one name, none of them empty. */
function parseAlpn(body: Window): readonly string[] | undefined {
  const list = vector(body, 2)
  if (list === undefined || body.at !== body.end || list.at === list.end) return undefined
  const names: string[] = []
  while (list.at < list.end) {
    const name = vector(list, 1)
    if (name === undefined || name.at === name.end) return undefined
    names.push(name.bytes.latin1Slice(name.at, name.end))
  }
  return names
}

/** Takes a vector whose length stands in front of it in `lengthBytes` bytes. */
function vector(from: Window, lengthBytes: 1 | 2): Window | undefined {
  if (from.at + lengthBytes > from.end) return undefined
  const length = lengthBytes === 1 ? from.bytes[from.at] : from.bytes.readUInt16BE(from.at)
  const at = from.at + lengthBytes
  const end = at + length
  if (end > from.end) return undefined
  from.at = end
  return { bytes: from.bytes, at, end }
}

/** A server name in its one spelling, lower case; undefined for one that is empty, too long or not printable ASCII. */
export function plainServerName(name: string): string | undefined {
  return name.length <= 255 && /^[\x21-\x7e]+$/.test(name) ? name.toLowerCase() : undefined
}
