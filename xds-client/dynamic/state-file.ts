import { createHash } from 'node:crypto'

/** One accepted resource, as it is kept. */
export interface StateRecord {
  readonly name: string
  readonly version: string
  /** Key of the collection that it belongs to; '' where there is none. */
  readonly collection: string
  readonly bytes: Uint8Array
}

/** What a file says of itself; all of it must be as expected, or nothing of the file is used. */
export interface StateIdentity {
  /** `node.id`: what was sent to another node is not for this one. */
  readonly node: string
  readonly typeName: string
  readonly source: string
}

const FORMAT = 'headgate-state-1'
const NEWLINE = 0x0a

/** The bytes of a file: a line of JSON, and the records, each with the lengths of its two parts before it. */
export function encodeState(identity: StateIdentity, records: readonly StateRecord[]): Buffer[] {
  const chunks: Buffer[] = []
  const hash = createHash('sha256')
  for (const { bytes, ...facts } of records) {
    const head = Buffer.from(JSON.stringify(facts), 'utf8')
    const lengths = Buffer.alloc(8)
    lengths.writeUInt32BE(head.length, 0)
    lengths.writeUInt32BE(bytes.length, 4)
    for (const chunk of [lengths, head, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)]) {
      hash.update(chunk)
      chunks.push(chunk)
    }
  }
  const line = { format: FORMAT, ...identity, records: records.length, sha256: hash.digest('hex') }
  chunks.unshift(Buffer.from(`${JSON.stringify(line)}\n`, 'utf8'))
  return chunks
}

/** @throws Error that says why the file cannot be used */
export function decodeState(file: Buffer, identity: StateIdentity): StateRecord[] {
  const end = file.indexOf(NEWLINE)
  if (end < 0) throw new Error('it has no first line')
  const line = JSON.parse(file.toString('utf8', 0, end)) as Record<string, unknown>
  if (line.format !== FORMAT) throw new Error('it is of another format')
  for (const key of ['node', 'typeName', 'source'] as const) {
    if (line[key] !== identity[key]) throw new Error(`it is of another ${key}: ${JSON.stringify(line[key])}`)
  }
  const body = file.subarray(end + 1)
  if (createHash('sha256').update(body).digest('hex') !== line.sha256) throw new Error('its checksum is wrong')
  return decodeRecords(body)
}

function decodeRecords(body: Buffer): StateRecord[] {
  const records: StateRecord[] = []
  let at = 0
  while (at < body.length) {
    const headEnd = at + 8 + body.readUInt32BE(at)
    const end = headEnd + body.readUInt32BE(at + 4)
    if (end > body.length) throw new Error('it ends too early')
    const facts = JSON.parse(body.toString('utf8', at + 8, headEnd)) as Omit<StateRecord, 'bytes'>
    records.push({ ...facts, bytes: body.subarray(headEnd, end) })
    at = end
  }
  return records
}
