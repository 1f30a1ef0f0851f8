import type { ClientHttp2Session } from 'node:http2'
import { askOn, openSession } from './client.ts'

/** HTTP/2 connections that have had one request answered and then stay silent. Whoever opened them calls `close`. */
export class IdleSessions {
  readonly #sessions: ClientHttp2Session[] = []
  #closing = false
  #lost = 0

  /** Connections that the other side has ended. */
  get lost(): number {
    return this.#lost
  }

  /** Opens `count` connections, at most 50 at once, so that the proxy needs no more than 50 to its origin. */
  async open(port: number, count: number, tls = false): Promise<void> {
    for (let left = count; left > 0; left -= 50) {
      await Promise.all(Array.from({ length: Math.min(50, left) }, () => this.#openOne(port, tls)))
    }
  }

  close(): void {
    this.#closing = true
    for (const session of this.#sessions) session.destroy()
  }

  async #openOne(port: number, tls: boolean): Promise<void> {
    const session = openSession(port, tls)
    this.#sessions.push(session)
    session.on('close', () => {
      if (!this.#closing) this.#lost++
    })
    const answer = await askOn(session, { method: 'GET', path: '/' })
    if (answer.status !== 200) throw new Error(`answered ${answer.status}`)
  }
}
