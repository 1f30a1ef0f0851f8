/**
 * Our own closed-loop load generator, started by generator.ts where wrk is not installed: raw node:net, no pipelining,
 * requests written from prepared buffers. It costs about three times what wrk does, so ratios of fast proxies get closer
 * to each other than with wrk; figures of the two are never mixed in one table.
 */
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { build } from 'hdr-histogram-js'
import type { Load, LoadResult } from './load.ts'
import { MessageCounter } from './message-counter.ts'

const latency = build({
  lowestDiscernibleValue: 1,
  highestTrackableValue: 60_000_000,
  numberOfSignificantValueDigits: 3,
})

function prepare(load: Load): Buffer[] {
  const body = Buffer.alloc(load.bodyBytes, 'x')
  return load.requests.map(({ method, path, header }) => {
    const lines = [`${method} ${path} HTTP/1.1`, `Host: 127.0.0.1:${load.port}`]
    if (header !== undefined) lines.push(`${header[0]}: ${header[1]}`)
    if (load.bodyBytes > 0) lines.push(`Content-Length: ${load.bodyBytes}`)
    return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), body])
  })
}

class Run {
  requests = 0
  errors = 0
  bytesRead = 0
  readonly #load: Load
  readonly #buffers: Buffer[]
  readonly #sockets = new Set<Socket>()
  #next = 0
  #ended = false

  constructor(load: Load) {
    this.#load = load
    this.#buffers = prepare(load)
  }

  /** Runs for the load's time, then cuts all connections. */
  async run(): Promise<LoadResult> {
    const start = performance.now()
    for (let i = 0; i < this.#load.connections; i++) this.#open()
    await new Promise((resolve) => setTimeout(resolve, this.#load.seconds * 1000))
    const seconds = (performance.now() - start) / 1000
    this.#ended = true
    for (const socket of this.#sockets) socket.destroy()
    return {
      tool: 'own',
      requests: this.requests,
      seconds,
      bytesRead: this.bytesRead,
      errors: this.errors,
      p50Us: latency.getValueAtPercentile(50),
      p99Us: latency.getValueAtPercentile(99),
    }
  }

  #open(): void {
    const target = { port: this.#load.port, host: '127.0.0.1', noDelay: true }
    const tls = this.#load.tls === true
    const socket = tls ? connectTls({ ...target, rejectUnauthorized: false }) : connect(target)
    const counter = new MessageCounter()
    let sentAt = 0
    const send = (): void => {
      sentAt = performance.now()
      socket.write(this.#buffers[this.#next])
      this.#next = (this.#next + 1) % this.#buffers.length
    }
    this.#sockets.add(socket)
    socket.setTimeout(10_000, () => socket.destroy(new Error('no answer for 10 s')))
    socket.on(tls ? 'secureConnect' : 'connect', send)
    socket.on('data', (chunk: Buffer) => {
      this.bytesRead += chunk.length
      const before = counter.failures
      const complete = counter.push(chunk)
      if (complete === 0) return
      this.requests += complete
      this.errors += counter.failures - before + (complete - 1)
      latency.recordValue(Math.round((performance.now() - sentAt) * 1000))
      send()
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      this.#sockets.delete(socket)
      if (this.#ended) return
      this.errors++
      // Not at once: a proxy that refuses everything must not turn this into a busy loop.
      setTimeout(() => this.#ended || this.#open(), 20)
    })
  }
}

process.once('message', (load: Load) => {
  void new Run(load).run().then((result) => process.send?.(result, () => process.exit(0)))
})
process.on('disconnect', () => process.exit(0))
