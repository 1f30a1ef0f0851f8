/** What a cookie says: protobuf `{ address = 1, expires = 2 }` in base64 (Envoy's), or the address alone (older ones). */
export interface SessionCookie {
  readonly address: string
  /** Unix seconds; 0: never. */
  readonly expires: number
}

/** Envelopes hold whatever an upstream has in a header. */
const MAX_LENGTH = 16 * 1024

export function encodeCookie({ address, expires }: SessionCookie): string {
  const text = Buffer.from(address, 'utf8')
  const bytes = [0x0a, ...varint(text.length), ...text]
  if (expires > 0) bytes.push(0x10, ...varint(expires))
  return Buffer.from(bytes).toString('base64')
}

/** Undefined where the value is none that anybody has made. */
export function decodeCookie(value: string): SessionCookie | undefined {
  const bytes = decodeBase64(value)
  if (bytes === undefined) return undefined
  const message = decodeMessage(bytes)
  if (message !== undefined) return message.address === '' ? undefined : message
  return { address: bytes.toString('latin1'), expires: 0 }
}

/** Of text that came from a client: undefined where it is empty, too long or no base64. */
export function decodeBase64(value: string): Buffer | undefined {
  if (value.length === 0 || value.length > MAX_LENGTH || value.length % 4 !== 0) return undefined
  return /^[A-Za-z0-9+/]+={0,2}$/.test(value) ? Buffer.from(value, 'base64') : undefined
}

function decodeMessage(bytes: Buffer): SessionCookie | undefined {
  let address = ''
  let expires = 0
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at++]
    const [value, next] = readVarint(bytes, at)
    if (next === 0) return undefined
    at = next
    if (tag === 0x10) expires = value
    else if (tag === 0x0a && at + value <= bytes.length) {
      address = bytes.toString('utf8', at, at + value)
      at += value
    } else return undefined
  }
  return { address, expires }
}

/** The value and the place behind it; 0 where it does not end. */
function readVarint(bytes: Buffer, from: number): readonly [value: number, next: number] {
  let value = 0
  let factor = 1
  for (let at = from; at < bytes.length && factor < 2 ** 53; factor *= 128) {
    const byte = bytes[at++]
    value += (byte & 0x7f) * factor
    if (byte < 0x80) return [value, at]
  }
  return [0, 0]
}

function varint(value: number): number[] {
  const bytes: number[] = []
  let left = value
  for (; left > 0x7f; left = Math.floor(left / 128)) bytes.push((left % 128) | 0x80)
  bytes.push(left)
  return bytes
}
