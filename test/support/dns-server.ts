import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, isIPv6, type Server, type Socket } from 'node:net'

/** What the server says to one name and type. `silence` answers nothing, `garbage` bytes that are no DNS message. */
export type DnsReply =
  | { readonly addresses: readonly string[]; readonly ttlS?: number; readonly lie?: DnsLie }
  | { readonly services: readonly DnsService[]; readonly ttlS?: number }
  /** The name is an alias of this one, which has the addresses. */
  | {
      readonly alias: string
      readonly aliasTtlS: number
      readonly addresses: readonly string[]
      readonly ttlS?: number
    }
  | 'NODATA'
  | 'NXDOMAIN'
  | 'SERVFAIL'
  | 'REFUSED'
  | 'silence'
  | 'garbage'

/** One SRV record. */
export interface DnsService {
  readonly priority: number
  readonly weight: number
  readonly port: number
  readonly target: string
}

/**
 * What is wrong with an answer: its number, or its question, is another one's; its addresses are too short; it says that it
 * holds more records than it does.
 */
export type DnsLie = 'id' | 'question' | 'rdata' | 'count'

export type DnsType = 'A' | 'AAAA' | 'SRV'

export interface DnsServer extends AsyncDisposable {
  /** `127.0.0.1:port`, for UDP and TCP. */
  readonly address: string
  /** Questions received, in order, as `A web.test.`, `AAAA/tcp web.test.` */
  readonly questions: string[]
  /** Replies to come for this name (lower-case, no trailing dot): one each, the last one for ever. */
  set(type: DnsType, name: string, ...replies: DnsReply[]): void
  close(): Promise<void>
}

const RCODES = { NODATA: 0, SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 } as const
const TYPES: ReadonlyMap<number, DnsType> = new Map<number, DnsType>([
  [1, 'A'],
  [33, 'SRV'],
  [28, 'AAAA'],
])
const OPT = 41
const PLAIN_UDP_BYTES = 512

interface Question {
  readonly id: number
  readonly name: string
  readonly type: number
  /** The question section as it came, to be repeated in the answer. */
  readonly section: Buffer
  readonly udpBytes: number
}

/**
 * A real DNS server (RFC 1035, 6891) on a loopback port, for tests: what is too long for UDP is truncated and served
 * over TCP. Names that were not set do not exist.
 */
export async function startDnsServer(): Promise<DnsServer> {
  const replies = new Map<string, DnsReply[]>()
  const questions: string[] = []
  const replyTo = (message: Buffer, tcp: boolean): Buffer | undefined => {
    const question = readQuestion(message)
    if (question === undefined) return undefined
    const type = TYPES.get(question.type) ?? `TYPE${question.type}`
    questions.push(`${type}${tcp ? '/tcp' : ''} ${question.name}.`)
    const queue = replies.get(`${type} ${question.name.toLowerCase()}`) ?? ['NXDOMAIN']
    // A truncated answer is asked for again over TCP: the same reply must still be there.
    const reply = queue[0]
    const answer = encode(question, reply, tcp ? 0xffff : question.udpBytes)
    if (queue.length > 1 && (answer === undefined || !answer.truncated)) queue.shift()
    return answer?.bytes
  }
  const [udp, tcp, sockets] = await listen(replyTo)
  const close = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy()
    await Promise.all([
      new Promise<void>((resolve) => udp.close(() => resolve())),
      new Promise<void>((resolve) => tcp.close(() => resolve())),
    ])
  }
  return {
    address: `127.0.0.1:${udp.address().port}`,
    questions,
    set: (type, name, ...list) => void replies.set(`${type} ${name}`, list),
    close,
    [Symbol.asyncDispose]: close,
  }
}

type ReplyTo = (message: Buffer, tcp: boolean) => Buffer | undefined

async function listen(replyTo: ReplyTo): Promise<[UdpSocket, Server, Set<Socket>]> {
  for (;;) {
    const udp = createSocket('udp4')
    udp.on('message', (message, peer) => {
      const answer = replyTo(message, false)
      if (answer !== undefined) udp.send(answer, peer.port, peer.address)
    })
    udp.bind(0, '127.0.0.1')
    await once(udp, 'listening')
    const sockets = new Set<Socket>()
    const tcp = createServer((socket) => serveTcp(socket, sockets, replyTo))
    tcp.listen(udp.address().port, '127.0.0.1')
    try {
      await once(tcp, 'listening')
      return [udp, tcp, sockets]
    } catch {
      // Someone else has that port on TCP: take another pair.
      udp.close()
    }
  }
}

function serveTcp(socket: Socket, sockets: Set<Socket>, replyTo: ReplyTo): void {
  sockets.add(socket)
  let pending = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk])
    while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
      const end = 2 + pending.readUInt16BE(0)
      const answer = replyTo(pending.subarray(2, end), true)
      pending = pending.subarray(end)
      if (answer === undefined) continue
      const length = Buffer.alloc(2)
      length.writeUInt16BE(answer.length)
      socket.write(Buffer.concat([length, answer]))
    }
  })
  socket.on('error', () => undefined)
  socket.on('close', () => sockets.delete(socket))
}

function readQuestion(message: Buffer): Question | undefined {
  if (message.length < 17 || message.readUInt16BE(4) !== 1) return undefined
  const labels: string[] = []
  let at = 12
  while (message[at] !== 0) {
    labels.push(message.toString('latin1', at + 1, at + 1 + message[at]))
    at += 1 + message[at]
  }
  const end = at + 5
  // An OPT record right after the question: root name, type, UDP size in the class field.
  const edns = message.readUInt16BE(10) > 0 && message[end] === 0 && message.readUInt16BE(end + 1) === OPT
  return {
    id: message.readUInt16BE(0),
    name: labels.join('.'),
    type: message.readUInt16BE(at + 1),
    section: message.subarray(12, end),
    udpBytes: edns ? Math.max(PLAIN_UDP_BYTES, message.readUInt16BE(end + 3)) : PLAIN_UDP_BYTES,
  }
}

function encode(
  question: Question,
  reply: DnsReply,
  limitBytes: number,
): { readonly bytes: Buffer; readonly truncated: boolean } | undefined {
  if (reply === 'silence') return undefined
  if (reply === 'garbage') return { bytes: Buffer.from('this is not DNS, not at all'), truncated: false }
  const lie = typeof reply === 'string' || !('lie' in reply) ? undefined : reply.lie
  const cut = (bytes: Buffer): Buffer => (lie === 'rdata' ? bytes.subarray(0, -2) : bytes)
  const records = typeof reply === 'string' ? [] : recordsOf(reply).map(cut)
  const size = records.reduce((sum, r) => sum + r.length, 12 + question.section.length)
  const truncated = size > limitBytes
  const header = Buffer.alloc(12)
  header.writeUInt16BE(lie === 'id' ? question.id ^ 1 : question.id, 0)
  // Response, authoritative, recursion desired and available; TC where it did not fit.
  const code = typeof reply === 'string' ? RCODES[reply] : 0
  header.writeUInt16BE(0x8580 | (truncated ? 0x0200 : 0) | code, 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(truncated ? 0 : records.length + (lie === 'count' ? 1 : 0), 6)
  const section = Buffer.from(question.section)
  // The first letter of the name, in its other case or another letter.
  if (lie === 'question') section[1] ^= 1
  return { bytes: Buffer.concat([header, section, ...(truncated ? [] : records)]), truncated }
}

function recordsOf(reply: Exclude<DnsReply, string>): Buffer[] {
  const ttlS = reply.ttlS ?? 60
  if ('services' in reply) return reply.services.map((service) => record(33, serviceBytes(service), ttlS))
  const owner: Buffer = 'alias' in reply ? encodeName(reply.alias) : QUESTION_NAME
  const addresses = reply.addresses.map((address) => {
    const data = isIPv6(address) ? ipv6Bytes(address) : Buffer.from(address.split('.').map(Number))
    return record(data.length === 16 ? 28 : 1, data, ttlS, owner)
  })
  return 'alias' in reply ? [record(5, encodeName(reply.alias), reply.aliasTtlS), ...addresses] : addresses
}

/** A pointer to the question's name. */
const QUESTION_NAME: Buffer = Buffer.from([0xc0, 0x0c])

function record(type: number, data: Buffer, ttlS: number, owner: Buffer = QUESTION_NAME): Buffer {
  const head = Buffer.alloc(10)
  head.writeUInt16BE(type, 0)
  head.writeUInt16BE(1, 2)
  head.writeUInt32BE(ttlS, 4)
  head.writeUInt16BE(data.length, 8)
  return Buffer.concat([owner, head, data])
}

function serviceBytes({ priority, weight, port, target }: DnsService): Buffer {
  const head = Buffer.alloc(6)
  head.writeUInt16BE(priority, 0)
  head.writeUInt16BE(weight, 2)
  head.writeUInt16BE(port, 4)
  return Buffer.concat([head, encodeName(target)])
}

/** `.` is the root. */
function encodeName(name: string): Buffer {
  const labels = name.split('.').filter((label) => label !== '')
  return Buffer.concat([
    ...labels.map((label) => Buffer.from(`${String.fromCharCode(label.length)}${label}`)),
    Buffer.alloc(1),
  ])
}

/** Only hexadecimal groups with at most one `::`: what tests write. */
function ipv6Bytes(address: string): Buffer {
  const [left, right] = address.split('::').map((side) => side.split(':').filter((group) => group !== ''))
  const tail = right ?? []
  const groups = [...left, ...new Array<string>(8 - left.length - tail.length).fill('0'), ...tail]
  const bytes = Buffer.alloc(16)
  groups.forEach((group, i) => void bytes.writeUInt16BE(Number.parseInt(group, 16), 2 * i))
  return bytes
}
