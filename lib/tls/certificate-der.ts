import { DER, type DerElement, derChildren, derContent, derElement, derOf, derOid, derRaw, derWhole } from './der.ts'

/** An extension of a certificate or a revocation list (RFC 5280 §4.2, §5.2). */
export interface Extension {
  readonly critical: boolean
  /** What its OCTET STRING holds. */
  readonly value: Buffer
}

/** What the runtime does not tell of a certificate. */
export interface CertificateParts {
  /** Names as DER: for comparing. */
  readonly issuer: Buffer
  readonly subject: Buffer
  /** By dotted identifier. */
  readonly extensions: ReadonlyMap<string, Extension>
}

export const EXTENSIONS = Object.freeze({
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  keyUsage: '2.5.29.15',
  extendedKeyUsage: '2.5.29.37',
  tlsFeature: '1.3.6.1.5.5.7.1.24',
})

/** A name of a type that the certificate itself defines. */
export interface OtherName {
  readonly oid: string
  /** Strings as they are, integers and booleans as text; undefined for anything else. */
  readonly value: string | undefined
}

const VERSION_TAG = 0xa0
const EXTENSIONS_TAG = 0xa3
const OTHER_NAME_TAG = 0xa0

/** Takes a certificate apart (RFC 5280 §4.1). @throws DerError */
export function certificateParts(raw: Buffer): CertificateParts {
  const [tbs] = derChildren(derWhole(raw, DER.sequence))
  const fields = derOf(tbs, DER.sequence)
  // Serial number, algorithm, issuer, validity, subject, public key.
  const at = fields[0]?.tag === VERSION_TAG ? 1 : 0
  const issuer = fields[at + 2]
  const subject = fields[at + 4]
  const extensions = fields.slice(at + 6).find(({ tag }) => tag === EXTENSIONS_TAG)
  derOf(issuer, DER.sequence)
  derOf(subject, DER.sequence)
  return { issuer: derRaw(issuer), subject: derRaw(subject), extensions: readExtensions(extensions) }
}

/** Those inside of an explicit tag; none where it is missing. @throws DerError */
export function readExtensions(tagged: DerElement | undefined): ReadonlyMap<string, Extension> {
  const found = new Map<string, Extension>()
  if (tagged === undefined) return found
  const [list] = derChildren(tagged)
  for (const entry of derOf(list, DER.sequence)) {
    const parts = derOf(entry, DER.sequence)
    const critical = parts[1]?.tag === DER.boolean && parts[1].bytes[parts[1].from] !== 0
    const value = parts[parts.length - 1]
    derOid(parts[0])
    if (value.tag !== DER.octetString) derOf(undefined, DER.octetString)
    found.set(derOid(parts[0]), { critical, value: derContent(value) })
  }
  return found
}

/** The path length of an authority; undefined: unlimited. @throws DerError */
export function pathLength({ extensions }: CertificateParts): number | undefined {
  const constraints = extensions.get(EXTENSIONS.basicConstraints)
  if (constraints === undefined) return undefined
  const length = derChildren(derWhole(constraints.value, DER.sequence)).find(({ tag }) => tag === DER.integer)
  if (length === undefined) return undefined
  return length.to - length.from > 4 ? undefined : length.bytes.readUIntBE(length.from, length.to - length.from)
}

/** Whether its key may be used in handshakes (RFC 5280 §4.2.1.3: digitalSignature or keyAgreement). @throws DerError */
export function signsHandshakes({ extensions }: CertificateParts): boolean {
  const usage = extensions.get(EXTENSIONS.keyUsage)
  if (usage === undefined) return true
  const bits = derContent(derWhole(usage.value, DER.bitString))
  return bits.length > 1 && (bits[1] & 0x88) !== 0
}

/** Whether the certificate wants to be shown with an OCSP staple only (RFC 7633). */
export function mustStaple({ extensions }: CertificateParts): boolean {
  const feature = extensions.get(EXTENSIONS.tlsFeature)
  // status_request is feature 5.
  return feature?.value.includes(Buffer.from([DER.integer, 1, 5])) === true
}

/** The `otherName`s among the subject alternative names, in order; none where they cannot be read. */
export function otherNames(raw: Buffer): readonly OtherName[] {
  try {
    const names = certificateParts(raw).extensions.get(EXTENSIONS.subjectAltName)
    if (names === undefined) return []
    const list = derChildren(derWhole(names.value, DER.sequence))
    return list.filter(({ tag }) => tag === OTHER_NAME_TAG).map(readOtherName)
  } catch {
    return []
  }
}

function readOtherName(element: DerElement): OtherName {
  const [type, tagged] = derChildren(element)
  const value = tagged === undefined ? undefined : derElement(tagged.bytes, tagged.from, tagged.to)
  return { oid: derOid(type), value: value && valueText(value) }
}

const UTF8_STRINGS: ReadonlySet<number> = new Set([DER.utf8String])
/** Numeric, printable, IA5 and visible strings: ASCII. */
const ASCII_STRINGS: ReadonlySet<number> = new Set([0x12, 0x13, 0x16, 0x1a])

/** As Envoy compares them. */
function valueText(element: DerElement): string | undefined {
  const content = derContent(element)
  if (UTF8_STRINGS.has(element.tag)) return plainText(content.toString('utf8'))
  if (ASCII_STRINGS.has(element.tag)) return plainText(content.toString('latin1'))
  if (element.tag === DER.boolean) return content[0] === 0 ? 'false' : 'true'
  if (element.tag === DER.null) return ''
  if (element.tag === DER.oid) return derOid(element)
  const number = element.tag === DER.integer || element.tag === DER.enumerated
  if (!number || content.length === 0 || content.length > 20) return undefined
  const unsigned = BigInt(`0x${content.toString('hex')}`)
  return String(content[0] < 0x80 ? unsigned : unsigned - (1n << BigInt(content.length * 8)))
}

/** NUL and what is not UTF-8 are read differently by different readers. */
function plainText(text: string): string | undefined {
  return text.includes('\0') || text.includes('\ufffd') ? undefined : text
}
