import { connect, type Socket } from 'node:net'
import { MessageCounter } from './message-counter.ts'

/** What came of a stretch of paced requests. */
export interface PacedResult {
  readonly requests: number
  /** Answers other than 200, and connections that broke. */
  readonly failures: number
  /** Milliseconds from when a request was due to the end of its answer, sorted. */
  readonly latencies: Float64Array
}

interface Slot {
  readonly socket: Socket
  readonly counter: MessageCounter
  dueMs: number
}

/**
 * So many requests a second on kept connections, each at its time whether others are late or not: a request that finds no
 * connection free waits, and its wait counts.
 */
export class PacedClient {
  readonly #port: number
  readonly #path: () => string
  readonly #free: Slot[] = []
  readonly #slots: Slot[] = []
  readonly #waiting: number[] = []
  readonly #latencies: number[] = []
  #failures = 0

  constructor(port: number, path: () => string) {
    this.#port = port
    this.#path = path
  }

  async run(perSecond: number, seconds: number, connections = 32): Promise<PacedResult> {
    await Promise.all(Array.from({ length: connections }, () => this.#open()))
    const begin = performance.now()
    const total = perSecond * seconds
    for (let sent = 0; sent < total; ) {
      const due = Math.min(total, Math.floor(((performance.now() - begin) / 1000) * perSecond))
      for (; sent < due; sent++) this.#send(begin + (sent / perSecond) * 1000)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    const last = performance.now() + 5000
    while (this.#latencies.length + this.#failures < total && performance.now() < last) {
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const lost = total - this.#latencies.length - this.#failures
    for (const { socket } of this.#slots) socket.destroy()
    const latencies = Float64Array.from(this.#latencies).sort()
    return { requests: total, failures: this.#failures + Math.max(0, lost), latencies }
  }

  #open(): Promise<void> {
    const socket = connect({ port: this.#port, host: '127.0.0.1', noDelay: true })
    const slot: Slot = { socket, counter: new MessageCounter(), dueMs: 0 }
    this.#slots.push(slot)
    socket.on('data', (chunk: Buffer) => this.#received(slot, chunk))
    socket.on('error', () => undefined)
    socket.on('close', () => {
      if (slot.dueMs > 0) this.#failures++
      slot.dueMs = 0
      const at = this.#free.indexOf(slot)
      if (at >= 0) this.#free.splice(at, 1)
    })
    return new Promise((resolve) => {
      socket.on('connect', () => {
        this.#free.push(slot)
        resolve()
      })
      socket.on('close', () => resolve())
    })
  }

  #send(dueMs: number): void {
    const slot = this.#free.pop()
    if (slot === undefined) this.#waiting.push(dueMs)
    else this.#write(slot, dueMs)
  }

  #write(slot: Slot, dueMs: number): void {
    slot.dueMs = dueMs
    slot.socket.write(`GET ${this.#path()} HTTP/1.1\r\nHost: bench\r\n\r\n`)
  }

  #received(slot: Slot, chunk: Buffer): void {
    if (slot.counter.push(chunk) === 0) return
    if (slot.counter.head.startsWith('HTTP/1.1 200 ')) this.#latencies.push(performance.now() - slot.dueMs)
    else this.#failures++
    slot.dueMs = 0
    const waiting = this.#waiting.shift()
    if (waiting === undefined) this.#free.push(slot)
    else this.#write(slot, waiting)
  }
}

/** The value below which a share of sorted values lies. */
export function quantile(sorted: Float64Array, share: number): number {
  return sorted.length === 0 ? Number.NaN : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
}
