/** Types of records that are asked for (RFC 1035, 3596, 2782). */
export const TYPE_A = 1
export const TYPE_AAAA = 28
export const TYPE_SRV = 33
const TYPE_CNAME = 5
const TYPE_OPT = 41
const CLASS_IN = 1

/** What fits into a datagram on every path without fragments (DNS flag day 2020). */
export const EDNS_BYTES = 1232
const HEADER_BYTES = 12
/** Aliases of aliases; more are a circle or a joke. */
const MAX_ALIASES = 16

/** Where a service is, as one SRV record says. */
export interface ServiceRecord {
  /** Lower is used first. */
  readonly priority: number
  /** Among those of a priority; 0 to 65,535. */
  readonly weight: number
  readonly port: number
  /** Lower case, without the dot at its end; '' is the root: there is no such service. */
  readonly target: string
  readonly ttlS: number
}

/** A question as it is sent, and what its answer is checked against. */
export interface Question {
  readonly id: number
  /** Lower case, without the dot at its end. */
  readonly name: string
  readonly type: number
  readonly bytes: Buffer
}

/** A record of the type that was asked for. */
export interface RawRecord {
  readonly ttlS: number
  /** Where its data are in `Answer.message`. */
  readonly start: number
  readonly end: number
}

export interface Answer {
  /** RFC 1035 section 4.1.1; 0: no error. */
  readonly rcode: number
  /** It was too long for a datagram. */
  readonly truncated: boolean
  readonly message: Buffer
  /** Those of the name that was asked for, or of what it is an alias of. Their TTL is no longer than that of the aliases. */
  readonly records: readonly RawRecord[]
}

/**
 * A question for one name and type (RFC 1035 section 4), with EDNS (RFC 6891) where
 * `ednsBytes` is not 0: how long a datagram may answer it. Undefined: that is no name.
 */
export function askFor(
  name: string,
  type: number,
  { id, ednsBytes }: { readonly id: number; readonly ednsBytes: number },
): Question | undefined {
  const edns = ednsBytes > 0
  const labels = name === '' ? [] : name.split('.')
  const size = labels.reduce((sum, label) => sum + 1 + Buffer.byteLength(label, 'latin1'), 1)
  if (
    size > 255 ||
    labels.some((label) => label === '' || label.length > 63 || !/^[\x21-\x5b\x5d-\x7e]+$/.test(label))
  ) {
    return undefined
  }
  const bytes = Buffer.alloc(HEADER_BYTES + size + 4 + (edns ? 11 : 0))
  bytes.writeUInt16BE(id, 0)
  // Recursion is desired.
  bytes.writeUInt16BE(0x0100, 2)
  bytes.writeUInt16BE(1, 4)
  bytes.writeUInt16BE(edns ? 1 : 0, 10)
  let at = HEADER_BYTES
  for (const label of labels) {
    bytes[at] = label.length
    bytes.write(label, at + 1, 'latin1')
    at += 1 + label.length
  }
  at = bytes.writeUInt16BE(type, at + 1)
  at = bytes.writeUInt16BE(CLASS_IN, at)
  if (edns) {
    bytes.writeUInt16BE(TYPE_OPT, at + 1)
    bytes.writeUInt16BE(ednsBytes, at + 3)
  }
  return { id, name: name.toLowerCase(), type, bytes }
}

/**
 * The answer to a question. Undefined: it is none to this one (another number, another question, no answer at all), so
 * that whoever cannot see the question cannot slip one in.
 *
 * @throws MalformedAnswer where it is one, and breaks off or contradicts itself.
 */
export function readAnswer(message: Buffer, question: Question): Answer | undefined {
  if (message.length < HEADER_BYTES || message.readUInt16BE(0) !== question.id) return undefined
  const flags = message.readUInt16BE(2)
  // A response to a standard query.
  if ((flags & 0xf800) !== 0x8000) return undefined
  const rcode = flags & 0xf
  const questions = message.readUInt16BE(4)
  // Servers that understand nothing of a question need not repeat it.
  if (questions === 0 && rcode !== 0) return { rcode, truncated: false, message, records: [] }
  if (questions !== 1) return undefined
  const asked = readName(message, HEADER_BYTES)
  need(message, asked.end, 4)
  const same = asked.name === question.name && message.readUInt16BE(asked.end) === question.type
  if (!same || message.readUInt16BE(asked.end + 2) !== CLASS_IN) return undefined
  const truncated = (flags & 0x0200) !== 0
  const records = truncated || rcode !== 0 ? [] : readRecords(message, asked.end + 4, question)
  return { rcode, truncated, message, records }
}

/** An answer that breaks off or contradicts itself. */
export class MalformedAnswer extends Error {}

/** What came of asking one server: its answer, or why there is none. */
export type Heard = Answer | string

/** As `readAnswer`, and `EBADRESP` where it throws. */
export function heardIn(message: Buffer, question: Question): Heard | undefined {
  try {
    return readAnswer(message, question)
  } catch (error) {
    if (error instanceof MalformedAnswer) return 'EBADRESP'
    throw error
  }
}

interface OwnedRecord extends RawRecord {
  readonly owner: string
}

function readRecords(message: Buffer, from: number, question: Question): RawRecord[] {
  const found: OwnedRecord[] = []
  const aliases = new Map<string, { readonly target: string; readonly ttlS: number }>()
  let at = from
  for (let left = message.readUInt16BE(6); left > 0; left--) {
    const { name: owner, end } = readName(message, at)
    need(message, end, 10)
    const type = message.readUInt16BE(end)
    const ttlS = lifetime(message.readUInt32BE(end + 4))
    const start = end + 10
    const size = message.readUInt16BE(end + 8)
    need(message, start, size)
    at = start + size
    if (message.readUInt16BE(end + 2) !== CLASS_IN) continue
    if (type === question.type) found.push({ owner, ttlS, start, end: at })
    else if (type === TYPE_CNAME) aliases.set(owner, { target: readName(message, start).name, ttlS })
  }
  const names = namesOf(question.name, aliases)
  return found.flatMap(({ owner, ttlS, start, end }) => {
    const limitS = names.get(owner)
    return limitS === undefined ? [] : [{ ttlS: Math.min(ttlS, limitS), start, end }]
  })
}

/** The name and what it is an alias of, each with the shortest life of the aliases that lead there. */
function namesOf(
  name: string,
  aliases: ReadonlyMap<string, { readonly target: string; readonly ttlS: number }>,
): ReadonlyMap<string, number> {
  const names = new Map<string, number>([[name, Number.POSITIVE_INFINITY]])
  let [at, ttlS] = [name, Number.POSITIVE_INFINITY]
  for (let n = 0; n < MAX_ALIASES; n++) {
    const alias = aliases.get(at)
    if (alias === undefined || names.has(alias.target)) break
    at = alias.target
    ttlS = Math.min(ttlS, alias.ttlS)
    names.set(at, ttlS)
  }
  return names
}

/** RFC 2181 section 8: a TTL with the highest bit set is to be taken as 0. */
function lifetime(ttlS: number): number {
  return ttlS > 0x7fffffff ? 0 : ttlS
}

/** The text of an A or AAAA record. @throws MalformedAnswer where it is not as long as one. */
export function addressOf(message: Buffer, { start, end }: RawRecord): string {
  if (end - start === 4) return `${message[start]}.${message[start + 1]}.${message[start + 2]}.${message[start + 3]}`
  if (end - start !== 16) throw new MalformedAnswer('an address is too long or too short')
  const groups: string[] = []
  for (let at = start; at < end; at += 2) groups.push(message.readUInt16BE(at).toString(16))
  return groups.join(':')
}

/** @throws MalformedAnswer */
export function serviceOf(message: Buffer, { start, end, ttlS }: RawRecord): ServiceRecord {
  if (end - start < 7) throw new MalformedAnswer('an SRV record is too short')
  const target = readName(message, start + 6)
  if (target.end !== end) throw new MalformedAnswer('an SRV record is longer or shorter than its target')
  return {
    priority: message.readUInt16BE(start),
    weight: message.readUInt16BE(start + 2),
    port: message.readUInt16BE(start + 4),
    target: target.name,
    ttlS,
  }
}

/**
 * A name with its pointers followed (RFC 1035 section 4.1.4), lower case; `end` is behind it where it stands. Each pointer
 * leads further back, so that none leads in a circle. Octets that are no text of a name become escapes, which no name has.
 */
function readName(message: Buffer, from: number): { readonly name: string; readonly end: number } {
  const labels: string[] = []
  let [at, end, lowest, size] = [from, -1, from, 0]
  for (;;) {
    need(message, at, 1)
    const length = message[at]
    if (length === 0) break
    if (length >= 0xc0) {
      need(message, at, 2)
      if (end < 0) end = at + 2
      at = message.readUInt16BE(at) & 0x3fff
      if (at >= lowest) throw new MalformedAnswer('a pointer does not lead back')
      lowest = at
      continue
    }
    need(message, at, 1 + length)
    size += 1 + length
    if (length > 63 || size > 255) throw new MalformedAnswer('a name is too long')
    labels.push(label(message, at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.'), end: end < 0 ? at + 1 : end }
}

function label(message: Buffer, start: number, end: number): string {
  const text = message.toString('latin1', start, end).toLowerCase()
  return text.replace(/[^\x21-\x7e]|[.\\]/g, (octet) => `\\${String(octet.charCodeAt(0)).padStart(3, '0')}`)
}

function need(message: Buffer, at: number, bytes: number): void {
  if (at + bytes > message.length) throw new MalformedAnswer('a message breaks off')
}
