import type { FilterState, LocalReply, Metadata, Replied, Route } from '../chain/filter.ts'
import type { LoggedConnection } from '../chain/network.ts'
import type { Sink } from '../core/body.ts'
import type { ConnectionInfo } from '../core/connection.ts'
import type { Json } from '../core/errors.ts'
import type { Failure } from '../core/failure.ts'
import type { RequestHead } from '../core/head.ts'
import { Headers } from '../core/headers.ts'
import type { StreamInfo } from '../core/stream-info.ts'
import type { LogStream } from './format/operator.ts'

const NO_REQUEST: RequestHead = Object.freeze({
  method: '',
  scheme: '',
  authority: '',
  path: '',
  protocol: undefined,
})

/**
 * A connection of layer 4 as formats and log filters read exchanges: it has addresses, bytes, times, flags, metadata and
 * filter state, and neither request nor response. For reading alone: what would change an exchange throws.
 */
export class ConnectionLogStream implements LogStream, Metadata {
  readonly layer4 = true
  readonly connection: ConnectionInfo
  readonly info: StreamInfo
  readonly random: number
  readonly head: RequestHead = NO_REQUEST
  readonly request: Headers = new Headers()
  readonly response: Headers = new Headers()
  readonly responseTrailers = undefined
  readonly route: Route | undefined = undefined
  readonly status = 0
  readonly bufferLimit = 0

  /** @param random one draw of [0, 1), for log filters that decide by chance */
  constructor({ facts, info }: LoggedConnection, random: number) {
    this.connection = facts
    this.info = info
    this.random = random
  }

  get metadata(): Metadata {
    return this
  }

  get filterState(): FilterState {
    return { get: (key) => this.connection.state.object(key), set: () => this.#unavailable() }
  }

  get signal(): AbortSignal {
    return this.#unavailable()
  }

  /** Of `Metadata`. */
  get(namespace: string): Json | undefined {
    return this.connection.state.metadata(namespace)
  }

  merge(namespace: string, value: Json): void {
    this.connection.state.mergeMetadata(namespace, value)
  }

  #unavailable(): never {
    throw new Error('a connection is no HTTP exchange')
  }

  refreshRoute(): void {
    this.#unavailable()
  }

  reply(_reply: LocalReply): Replied {
    return this.#unavailable()
  }

  respond(): Sink {
    return this.#unavailable()
  }

  collectRequest(): Promise<Buffer | Failure> {
    return this.#unavailable()
  }

  collectResponse(): Promise<Buffer | Failure> {
    return this.#unavailable()
  }

  peekRequest(): Promise<Buffer> {
    return this.#unavailable()
  }

  peekResponse(): Promise<Buffer> {
    return this.#unavailable()
  }

  writeRequest(): boolean {
    return this.#unavailable()
  }

  writeResponse(): boolean {
    return this.#unavailable()
  }

  setRequestTrailers(): void {
    this.#unavailable()
  }

  setResponseTrailers(): void {
    this.#unavailable()
  }
}
