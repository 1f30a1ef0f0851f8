import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { FLAG, type Frame, FrameReader, PREFACE, settings, settingsAck, T } from '../support/http2-wire.ts'

const DEADLINE_MS = 10_000
/** Bytes given to the socket at once. */
const BATCH_BYTES = 64 * 1024
/** Frames kept of what the gateway says; more than any attack looks at. */
const KEPT_FRAMES = 10_000

export interface AttackerOptions {
  /** SETTINGS of ours. */
  readonly settings?: readonly (readonly [id: number, value: number])[]
  /** False: the gateway's SETTINGS are not acknowledged. */
  readonly ack?: boolean
  /** False: not even the preface is sent. */
  readonly preface?: boolean
}

/** One hostile connection, a client's or an upstream's: writes what it likes, as fast as the gateway takes it, and keeps count of what comes back. */
export class Attacker {
  readonly socket: Socket
  readonly #reader: FrameReader
  readonly frames: Frame[] = []
  /** DATA payload received. */
  dataBytes = 0
  dataFrames = 0
  /** Error code of the gateway's GOAWAY, the last one; undefined before. */
  goaway: number | undefined = undefined
  /** The gateway has closed its side, or reset the connection. */
  ended = false
  closed = false
  readonly #waiting: (() => void)[] = []
  #onFrame: (frame: Frame) => void = () => {}

  private constructor(socket: Socket, ack: boolean, server = false) {
    this.socket = socket
    this.#reader = new FrameReader({ preface: server })
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      for (const frame of this.#reader.read(chunk)) this.#take(frame, ack)
      this.#changed()
    })
    socket.on('end', () => this.#over())
    socket.on('close', () => {
      this.closed = true
      this.#over()
    })
  }

  static async open(port: number, options: AttackerOptions = {}): Promise<Attacker> {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    const attacker = new Attacker(socket, options.ack !== false)
    await once(socket, 'connect')
    if (options.preface === false) return attacker
    attacker.send(PREFACE, settings(...(options.settings ?? [])))
    await attacker.until(() => attacker.frames.some((f) => f.type === T.SETTINGS && (f.flags & FLAG.ACK) !== 0), 'ack')
    return attacker
  }

  /** The server's side of a connection that the gateway has made: a hostile upstream. */
  static adopt(socket: Socket, options: AttackerOptions = {}): Attacker {
    const attacker = new Attacker(socket, options.ack !== false, true)
    if (options.preface !== false) attacker.send(settings(...(options.settings ?? [])))
    return attacker
  }

  /** Called with every frame, for attacks that answer. */
  onFrame(take: (frame: Frame) => void): void {
    this.#onFrame = take
  }

  send(...pieces: readonly Buffer[]): void {
    if (!this.socket.destroyed && !this.socket.writableEnded) this.socket.write(Buffer.concat(pieces))
  }

  /** Sends what `next` makes, up to `most` times or until the gateway ends it; answers how many were sent. */
  async flood(most: number, next: (i: number) => Buffer): Promise<number> {
    let sent = 0
    while (sent < most && !this.ended) {
      const batch: Buffer[] = []
      for (let bytes = 0; sent < most && bytes < BATCH_BYTES; sent++) {
        const piece = next(sent)
        batch.push(piece)
        bytes += piece.length
      }
      if (this.socket.write(Buffer.concat(batch))) await new Promise(setImmediate)
      else await this.#drained()
    }
    return sent
  }

  /** Waits until the gateway takes more, ends the connection, or plainly does neither. */
  async #drained(): Promise<void> {
    const stuck = performance.now() + 1_000
    while (this.socket.writableNeedDrain && !this.ended && performance.now() < stuck) {
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }

  async until(done: () => boolean, what: string, deadlineMs = DEADLINE_MS): Promise<void> {
    let late = false
    const timer = setTimeout(() => {
      late = true
      this.#changed()
    }, deadlineMs)
    while (!done()) {
      if (late) throw new Error(`attacker: no ${what} within ${deadlineMs} ms`)
      if (this.closed) throw new Error(`attacker: the connection closed before ${what}`)
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    clearTimeout(timer)
  }

  /** Waits for the end; answers the GOAWAY's code. */
  async end(deadlineMs = DEADLINE_MS): Promise<number | undefined> {
    this.socket.resume()
    await this.until(() => this.ended, 'end of the connection', deadlineMs)
    this.socket.destroy()
    return this.goaway
  }

  /** How often the gateway has reset a stream with each code. */
  get resets(): ReadonlyMap<number, number> {
    const codes = new Map<number, number>()
    for (const frame of this.frames) {
      if (frame.type !== T.RST_STREAM) continue
      const code = frame.payload.readUInt32BE(0)
      codes.set(code, (codes.get(code) ?? 0) + 1)
    }
    return codes
  }

  /** Heads that came. */
  get heads(): number {
    return this.frames.filter((frame) => frame.type === T.HEADERS).length
  }

  close(): void {
    this.socket.destroy()
  }

  #take(frame: Frame, ack: boolean): void {
    if (frame.type === T.DATA) {
      this.dataFrames++
      this.dataBytes += frame.payload.length
    } else if (this.frames.length < KEPT_FRAMES) this.frames.push(frame)
    if (frame.type === T.SETTINGS && (frame.flags & FLAG.ACK) === 0 && ack) this.send(settingsAck())
    if (frame.type === T.GOAWAY) this.goaway = frame.payload.readUInt32BE(4)
    this.#onFrame(frame)
  }

  #over(): void {
    this.ended = true
    this.#changed()
  }

  #changed(): void {
    for (const wake of this.#waiting.splice(0)) wake()
  }
}
