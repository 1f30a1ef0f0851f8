/** One element of DER (X.690): its tag, and where it and its content lie in `bytes`. */
export interface DerElement {
  readonly bytes: Buffer
  readonly tag: number
  /** Of the whole element. */
  readonly start: number
  /** Of its content. */
  readonly from: number
  readonly to: number
}

export const DER = Object.freeze({
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  sequence: 0x30,
  set: 0x31,
  utcTime: 0x17,
  generalizedTime: 0x18,
})

/** What is not DER, or not the structure that was expected. */
export class DerError extends Error {
  constructor(message = 'is not DER as expected') {
    super(message)
    this.name = 'DerError'
  }
}

/**
 * The element at `at`, which must end before `end`. Tags of one byte, lengths of up to three.
 *
 * @throws DerError
 */
export function derElement(bytes: Buffer, at = 0, end = bytes.length): DerElement {
  if (at + 2 > end) throw new DerError()
  const first = bytes[at + 1]
  const more = first < 0x80 ? 0 : first & 0x7f
  if (more > 3 || first === 0x80 || at + 2 + more > end || (bytes[at] & 0x1f) === 0x1f) throw new DerError()
  const length = more === 0 ? first : bytes.readUIntBE(at + 2, more)
  const from = at + 2 + more
  if (from + length > end) throw new DerError()
  return { bytes, tag: bytes[at], start: at, from, to: from + length }
}

/** The elements inside of one, in order. @throws DerError */
export function derChildren(element: DerElement): DerElement[] {
  const children: DerElement[] = []
  for (let at = element.from; at < element.to; ) {
    const child = derElement(element.bytes, at, element.to)
    children.push(child)
    at = child.to
  }
  return children
}

/** The only element in `bytes`, of that tag. @throws DerError where there is more, or something else */
export function derWhole(bytes: Buffer, tag: number): DerElement {
  const element = derElement(bytes)
  if (element.tag !== tag || element.to !== bytes.length) throw new DerError()
  return element
}

/** The children of an element that must have that tag. @throws DerError */
export function derOf(element: DerElement | undefined, tag: number): DerElement[] {
  if (element?.tag !== tag) throw new DerError()
  return derChildren(element)
}

/** The content, not copied. */
export function derContent({ bytes, from, to }: DerElement): Buffer {
  return bytes.subarray(from, to)
}

/** The element with its header, not copied. */
export function derRaw({ bytes, start, to }: DerElement): Buffer {
  return bytes.subarray(start, to)
}

/** An object identifier, dotted. @throws DerError */
export function derOid(element: DerElement | undefined): string {
  if (element?.tag !== DER.oid || element.to === element.from) throw new DerError()
  const arcs: number[] = []
  let arc = 0
  for (const byte of derContent(element)) {
    if (arc > 0xffff_ffff) throw new DerError()
    arc = arc * 128 + (byte & 0x7f)
    if (byte >= 0x80) continue
    arcs.push(arc)
    arc = 0
  }
  if (arcs.length === 0 || element.bytes[element.to - 1] >= 0x80) throw new DerError()
  const first = Math.min(2, Math.floor(arcs[0] / 40))
  return [first, arcs[0] - first * 40, ...arcs.slice(1)].join('.')
}

/** The octets of an INTEGER as hexadecimal without leading zeros; for serial numbers, which are compared. @throws DerError */
export function derSerial(element: DerElement | undefined): string {
  if (element?.tag !== DER.integer) throw new DerError()
  return plainHex(derContent(element).toString('hex'))
}

/** Hexadecimal in one spelling: lower case, no leading zeros. */
export function plainHex(hex: string): string {
  return hex.toLowerCase().replace(/^0+(?=.)/, '')
}

/** A UTCTime or GeneralizedTime in UTC, ms since the epoch. @throws DerError */
export function derTime(element: DerElement | undefined): number {
  if (element === undefined) throw new DerError()
  const text = derContent(element).toString('latin1')
  const full =
    element.tag === DER.utcTime ? (Number(text.slice(0, 2)) < 50 ? '20' : '19') + text : text.replace(/\.\d+(?=Z$)/, '')
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(full)
  if (parts === null || (element.tag !== DER.utcTime && element.tag !== DER.generalizedTime)) throw new DerError()
  const [, year, month, day, hour, minute, second] = parts
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
}

/** PEM of a DER text. */
export function pemOf(label: string, der: Buffer): string {
  const lines = der.toString('base64').replace(/.{64}(?=.)/g, '$&\n')
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`
}

/** The bytes of the only block in a PEM text. */
export function derOfPem(pem: string): Buffer {
  return Buffer.from(pem.replace(/-----[^-]*-----/g, ''), 'base64')
}
