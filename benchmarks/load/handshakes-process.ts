/**
 * Opens TLS connections one after the other, started by handshakes.ts. A connection without a name to ask for is ended by
 * us as soon as the handshake is over; it counts when the proxy has read our end and sent its own, and so has seen the
 * handshake's end too.
 */
import { connect, type TLSSocket } from 'node:tls'
import type { HandshakeLoad, HandshakeResult } from './handshakes.ts'

class Run {
  readonly #load: HandshakeLoad
  readonly #sockets = new Set<TLSSocket>()
  #handshakes = 0
  #errors = 0
  #firstError: string | undefined
  #next = 0
  #ended = false

  constructor(load: HandshakeLoad) {
    this.#load = load
  }

  async run(): Promise<HandshakeResult> {
    const start = performance.now()
    for (let i = 0; i < this.#load.connections; i++) this.#open()
    const { atLeast = 0 } = this.#load
    for (let waited = 0; waited === 0 || (this.#handshakes < atLeast && waited < 60_000); ) {
      const forMs = waited === 0 ? this.#load.seconds * 1000 : 50
      await new Promise((resolve) => setTimeout(resolve, forMs))
      waited += forMs
    }
    this.#ended = true
    const seconds = (performance.now() - start) / 1000
    for (const socket of this.#sockets) socket.destroy()
    return { handshakes: this.#handshakes, seconds, errors: this.#errors, firstError: this.#firstError }
  }

  #open(): void {
    const { port, group, names } = this.#load
    const name = names?.[this.#next++ % names.length]
    const socket = connect({
      port,
      host: '127.0.0.1',
      servername: name?.serverName ?? '',
      ecdhCurve: group,
      minVersion: 'TLSv1.3',
      rejectUnauthorized: false,
    })
    let failure: string | undefined = 'ended before the handshake'
    let read = ''
    this.#sockets.add(socket)
    socket.setTimeout(10_000, () => socket.destroy(new Error('nothing for 10 s')))
    socket.on('secureConnect', () => {
      const info = socket.getEphemeralKeyInfo() as { readonly name?: string }
      failure = socket.isSessionReused() ? 'resumed' : undefined
      if (info.name !== undefined && info.name !== group) failure = `the group is ${info.name}`
      if (name === undefined) socket.end()
    })
    socket.on('data', (chunk: Buffer) => {
      read += chunk.latin1Slice()
    })
    socket.on('error', (error) => {
      failure = error.message
    })
    socket.on('close', () => {
      this.#sockets.delete(socket)
      if (this.#ended) return
      if (failure === undefined && name !== undefined && read !== name.answer) failure = `${name.serverName}: "${read}"`
      if (failure === undefined) {
        this.#handshakes++
        this.#open()
        return
      }
      this.#errors++
      this.#firstError ??= failure
      // Not at once: a proxy that refuses everything must not turn this into a busy loop.
      setTimeout(() => this.#ended || this.#open(), 20)
    })
  }
}

process.once('message', (load: HandshakeLoad) => {
  void new Run(load).run().then((result) => process.send?.(result, () => process.exit(0)))
})
process.on('disconnect', () => process.exit(0))
