import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import type { Clock } from '../../../core/clock.ts'
import {
  type Answer,
  addressOf,
  askFor,
  EDNS_BYTES,
  type Heard,
  heardIn,
  MalformedAnswer,
  type Question,
  serviceOf,
  TYPE_A,
  TYPE_AAAA,
  TYPE_SRV,
} from './message.ts'
import { type NameServer, parseServer } from './name-server.ts'
import { TcpLine } from './tcp-line.ts'
import type { DnsReply, DnsServers, DnsTransport, IpFamily, ServicesReply } from './transport.ts'

/** Retries back off by doubling, to at most this. */
const LONGEST_TRY_MS = 5_000
const LOCAL: readonly string[] = Object.freeze(['127.0.0.1'])
/** How many numbers questions can have. */
const NUMBERS = 0x10000
const FORMAT_ERROR = 1
const NAME_ERROR = 3
/** c-ares' words for what name servers say (RFC 1035 section 4.1.1). */
const RCODES: readonly string[] = Object.freeze(['', 'EFORMERR', 'ESERVFAIL', 'ENOTFOUND', 'ENOTIMP', 'EREFUSED'])

/**
 * Asks name servers by itself (RFC 1035, 6891, 7766), for what `node:dns` cannot be asked: over TCP alone, and for SRV records
 * with their TTL. Each question goes from a port of its own and with a number of its own, both random, and its
 * answer must repeat it. One server after the other is asked, all of them once in each try. Throws on a server that is no
 * IP address.
 */
export class WireTransport implements DnsTransport {
  readonly #servers: readonly NameServer[]
  readonly #tries: number
  readonly #timeoutMs: number
  readonly #tcp: boolean
  readonly #rotate: boolean
  readonly #ednsBytes: number
  /** Questions so far. */
  #turn = 0
  readonly #clock: Clock
  readonly #lines = new Map<NameServer, TcpLine>()
  readonly #cancels = new Set<() => void>()
  #closed = false

  constructor({ servers, timeoutMs, attempts, tcp, rotate, ednsBytes = EDNS_BYTES }: DnsServers, clock: Clock) {
    this.#servers = (servers.length > 0 ? servers : LOCAL).map(parseServer)
    this.#tries = attempts
    this.#timeoutMs = timeoutMs
    this.#tcp = tcp === true
    this.#rotate = rotate === true
    this.#ednsBytes = ednsBytes
    this.#clock = clock
  }

  async query(name: string, family: IpFamily): Promise<DnsReply> {
    const type = family === 4 ? TYPE_A : TYPE_AAAA
    const bytes = family === 4 ? 4 : 16
    const { code, records } = await this.#ask(name, type, ({ message, records }) =>
      records.map((record) => {
        if (record.end - record.start !== bytes) throw new MalformedAnswer('an address is too long or too short')
        return { address: addressOf(message, record), ttlS: record.ttlS }
      }),
    )
    return { code, records }
  }

  async services(name: string): Promise<ServicesReply> {
    return this.#ask(name, TYPE_SRV, ({ message, records }) => records.map((record) => serviceOf(message, record)))
  }

  close(): void {
    this.#closed = true
    for (const cancel of [...this.#cancels]) cancel()
    for (const line of this.#lines.values()) line.close()
    this.#lines.clear()
  }

  async #ask<T>(
    name: string,
    type: number,
    read: (answer: Answer) => readonly T[],
  ): Promise<{ readonly code: string; readonly records: readonly T[] }> {
    let code = 'ETIMEOUT'
    const count = this.#servers.length
    const first = this.#rotate ? this.#turn++ % count : 0
    for (let attempt = 0; attempt < this.#tries; attempt++) {
      const timeoutMs = Math.min(Math.max(this.#timeoutMs, LONGEST_TRY_MS), this.#timeoutMs * 2 ** attempt)
      for (let n = 0; n < count; n++) {
        const server = this.#servers[(first + n) % count]
        if (this.#closed) return { code: 'ECANCELLED', records: [] }
        const heard = await this.#hear(server, { name, type }, timeoutMs)
        if (typeof heard === 'string') code = heard
        // Cut over TCP too: what is missing is not known to be absent.
        else if (heard.truncated) code = 'EBADRESP'
        else if (heard.rcode === 0 || heard.rcode === NAME_ERROR) return settled(heard, read)
        else code = RCODES[heard.rcode] ?? 'ESERVFAIL'
        if (code === 'ECANCELLED' || code === 'EBADNAME') return { code, records: [] }
      }
    }
    return { code, records: [] }
  }

  /** What one server says, over TCP where it does not fit into a datagram, and without EDNS where it knows nothing of it. */
  async #hear(server: NameServer, what: { name: string; type: number }, timeoutMs: number): Promise<Heard> {
    const send = async (tcp: boolean, size: number): Promise<Heard> => {
      const line = tcp ? this.#lineTo(server) : undefined
      const id = line === undefined ? randomInt(NUMBERS) : line.freeNumber()
      const question = askFor(what.name, what.type, { id, ednsBytes: size })
      if (question === undefined) return 'EBADNAME'
      return line === undefined ? this.#overUdp(server, question, timeoutMs) : line.ask(question, timeoutMs)
    }
    let ednsBytes = this.#ednsBytes
    let heard = await send(this.#tcp, ednsBytes)
    if (typeof heard !== 'string' && heard.rcode === FORMAT_ERROR) {
      ednsBytes = 0
      heard = await send(this.#tcp, ednsBytes)
    }
    const cut = typeof heard !== 'string' && heard.truncated && !this.#tcp && !this.#closed
    return cut ? send(true, ednsBytes) : heard
  }

  #lineTo(server: NameServer): TcpLine {
    const known = this.#lines.get(server)
    if (known !== undefined) return known
    const line = new TcpLine(server, this.#clock)
    this.#lines.set(server, line)
    return line
  }

  #overUdp({ host, port, v6 }: NameServer, question: Question, timeoutMs: number): Promise<Heard> {
    return new Promise((resolve) => {
      const socket = createSocket(v6 ? 'udp6' : 'udp4')
      let open = true
      const finish = (heard: Heard): void => {
        if (!open) return
        open = false
        cancelTimer()
        this.#cancels.delete(cancel)
        socket.close()
        resolve(heard)
      }
      const cancel = (): void => finish('ECANCELLED')
      const cancelTimer = this.#clock.schedule(timeoutMs, () => finish('ETIMEOUT'))
      this.#cancels.add(cancel)
      const failed = (error: NodeJS.ErrnoException): void => finish(error.code ?? 'EUNKNOWN')
      socket.on('error', failed)
      socket.on('message', (message) => {
        const heard = heardIn(message, question)
        if (heard !== undefined) finish(heard)
      })
      // Connected: what comes from anywhere else never arrives, and a port that nobody listens on is an error at once.
      // Without a callback, which would be told of errors in place of the listener.
      socket.once('connect', () => {
        if (!open) return
        socket.send(question.bytes, (error) => {
          if (error !== null && error !== undefined) failed(error as NodeJS.ErrnoException)
        })
      })
      socket.connect(port, host)
    })
  }
}

function settled<T>(
  answer: Answer,
  read: (answer: Answer) => readonly T[],
): { readonly code: string; readonly records: readonly T[] } {
  if (answer.rcode !== 0) return { code: RCODES[answer.rcode], records: [] }
  try {
    const records = read(answer)
    return { code: records.length > 0 ? '' : 'ENODATA', records }
  } catch (error) {
    if (error instanceof MalformedAnswer) return { code: 'EBADRESP', records: [] }
    throw error
  }
}
