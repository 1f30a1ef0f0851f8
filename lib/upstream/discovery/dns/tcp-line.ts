import { randomInt } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import type { Cancel, Clock } from '../../../core/clock.ts'
import { type Heard, heardIn, type Question } from './message.ts'
import type { NameServer } from './name-server.ts'

/** Without questions a connection is kept for so long (RFC 7766 section 6.2.3 asks for a few seconds). */
const IDLE_MS = 2_000
const NUMBERS = 0x10000

interface Asked {
  readonly question: Question
  readonly finish: (heard: Heard) => void
}

/**
 * Questions to one name server over TCP (RFC 7766): any number at once on one connection, answers in any order, told apart
 * by their number. The connection is made when there is a question and closed when there has been none for a while; where
 * it breaks all that were asked fail, and the next question makes another.
 */
export class TcpLine {
  readonly #server: NameServer
  readonly #clock: Clock
  readonly #asked = new Map<number, Asked>()
  #socket: Socket | undefined = undefined
  #received: Buffer = EMPTY
  #idle: Cancel | undefined = undefined
  /** Chunks so far, of all connections. */
  #heard = 0

  constructor(server: NameServer, clock: Clock) {
    this.#server = server
    this.#clock = clock
  }

  /** A random one that no question under way has. */
  freeNumber(): number {
    let id = randomInt(NUMBERS)
    while (this.#asked.has(id)) id = (id + 1) % NUMBERS
    return id
  }

  /** `question.id` is a free number. */
  ask(question: Question, timeoutMs: number): Promise<Heard> {
    return new Promise((resolve) => {
      this.#idle?.()
      this.#idle = undefined
      const before = this.#heard
      const cancelTimer = this.#clock.schedule(timeoutMs, () => {
        finish('ETIMEOUT')
        if (this.#heard === before) this.#giveUp(socket)
      })
      const finish = (heard: Heard): void => {
        if (!this.#asked.delete(question.id)) return
        cancelTimer()
        resolve(heard)
        if (this.#asked.size === 0) this.#closeLater()
      }
      this.#asked.set(question.id, { question, finish })
      const frame = Buffer.alloc(2 + question.bytes.length)
      frame.writeUInt16BE(question.bytes.length, 0)
      question.bytes.copy(frame, 2)
      const socket = this.#connected().ref()
      socket.write(frame)
    })
  }

  #connected(): Socket {
    if (this.#socket !== undefined) return this.#socket
    const socket = connect({ host: this.#server.host, port: this.#server.port, noDelay: true })
    this.#socket = socket
    this.#received = EMPTY
    let why = 'ECONNRESET'
    socket.on('data', (chunk: Buffer) => this.#take(socket, chunk))
    socket.on('error', (error: NodeJS.ErrnoException) => {
      why = error.code ?? why
    })
    // A server that is done with the connection: what it has not answered it never will.
    socket.on('end', () => socket.destroy())
    socket.on('close', () => {
      if (this.#socket === socket) this.#lost(why)
    })
    return socket
  }

  #take(socket: Socket, chunk: Buffer): void {
    if (this.#socket !== socket) return
    this.#heard++
    let buffer = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
    while (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0)) {
      const end = 2 + buffer.readUInt16BE(0)
      this.#hear(buffer.subarray(2, end))
      buffer = buffer.subarray(end)
    }
    this.#received = buffer
  }

  #hear(message: Buffer): void {
    const asked = message.length < 2 ? undefined : this.#asked.get(message.readUInt16BE(0))
    if (asked === undefined) return
    const heard = heardIn(message, asked.question)
    if (heard !== undefined) asked.finish(heard)
  }

  #lost(why: string): void {
    this.#socket = undefined
    this.#received = EMPTY
    for (const { finish } of [...this.#asked.values()]) finish(why)
  }

  /** Nothing has come all that time: it may be dead, and questions would go to it for as long as there are any. */
  #giveUp(socket: Socket): void {
    if (this.#socket !== socket) return
    this.#drop()
    this.#lost('ETIMEOUT')
  }

  /** What is only kept for later keeps no process alive. */
  #closeLater(): void {
    this.#idle?.()
    this.#socket?.unref()
    this.#idle = this.#clock.schedule(IDLE_MS, () => this.#drop())
  }

  #drop(): void {
    this.#idle?.()
    this.#idle = undefined
    const socket = this.#socket
    this.#socket = undefined
    socket?.destroy()
  }

  /** What is under way ends with `ECANCELLED`. */
  close(): void {
    for (const { finish } of [...this.#asked.values()]) finish('ECANCELLED')
    this.#drop()
  }
}

const EMPTY: Buffer = Buffer.alloc(0)
