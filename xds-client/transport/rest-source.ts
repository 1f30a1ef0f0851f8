import type { SourceStatus } from '../../lib/config/status.ts'
import type { Cluster } from '../../lib/core/attempt.ts'
import type { Cancel } from '../../lib/core/clock.ts'
import { ConfigRefused, type Json, type JsonObject } from '../../lib/core/errors.ts'
import type { ProtoRegistry } from '../../lib/proto/registry.ts'
import type { ApiSourceConfig } from '../config.ts'
import { resourceType } from '../protocol/types.ts'
import type { DiscoverySource, DiscoveryWatcher, SubscribeOptions, Subscription } from '../source.ts'
import type { SourceParts } from './grpc-source.ts'
import { type HttpAnswer, httpCall } from './http-call.ts'
import { PolledLink } from './polled-link.ts'
import { PolledType } from './polled-type.ts'
import { readJsonResponse } from './read-document.ts'

/** Nobody has as much to say; without an end a broken server would take all memory there is. */
const LIMIT_BYTES = 256 * 1024 * 1024
const NOT_MODIFIED = 304

export interface RestSourceParts extends SourceParts {
  readonly name: string
  readonly config: ApiSourceConfig
  readonly registry: ProtoRegistry
  /** Requests carry it; Envoy's field names. */
  readonly node: JsonObject
  readonly cluster: (name: string) => Cluster | undefined
}

/** The polls of one type. */
interface Poll {
  readonly polled: PolledType
  readonly path: string
  timer: Cancel | undefined
  call: Cancel | undefined
  /** What is wanted has changed while a request was under way. */
  again: boolean
}

/**
 * Resources from a REST server: `POST /v3/discovery:<type>` with a `DiscoveryRequest` in ProtoJSON, again and again. As in
 * Envoy the interval is `refresh_delay` and up to as much again, and 304 means that nothing has changed. Clusters are asked
 * in turn: the next one after each failure.
 */
export class RestSource implements DiscoverySource {
  readonly #parts: RestSourceParts
  readonly #polls = new Map<string, Poll>()
  readonly #link: PolledLink
  #at = 0
  #disposed = false

  constructor(parts: RestSourceParts) {
    this.#parts = parts
    this.#link = new PolledLink(parts.name)
  }

  /** @throws TypeError for a type that has no REST endpoint */
  subscribe(options: SubscribeOptions, watcher: DiscoveryWatcher): Subscription {
    const { typeName } = options
    let poll = this.#polls.get(typeName)
    if (poll === undefined) {
      const path = resourceType(typeName)?.rest ?? ''
      if (path === '') throw new TypeError(`${typeName} has no REST endpoint`)
      const refresh = (): void => this.#soon(poll as Poll)
      const polled = new PolledType({ ...this.#parts, typeName, refresh })
      poll = { polled, path, timer: undefined, call: undefined, again: false }
      this.#polls.set(typeName, poll)
    }
    return poll.polled.interest.subscribe(options, watcher)
  }

  #soon(poll: Poll): void {
    if (this.#disposed) return
    if (poll.call !== undefined) {
      poll.again = true
      return
    }
    poll.timer?.()
    poll.timer = undefined
    // Without a version: the server might find that of the names before unchanged.
    if (!poll.polled.interest.empty) this.#ask(poll, '')
  }

  #later(poll: Poll): void {
    const { config, clock, random } = this.#parts
    if (poll.again) {
      poll.again = false
      this.#soon(poll)
      return
    }
    const delayMs = config.refreshMs + Math.floor(random() * config.refreshMs)
    poll.timer = clock.schedule(delayMs, () => {
      poll.timer = undefined
      if (!poll.polled.interest.empty) this.#ask(poll, poll.polled.version)
    })
  }

  #ask(poll: Poll, version: string): void {
    const { config, clock, node, cluster: clusterOf } = this.#parts
    const { cluster: name, authority } = config.targets[this.#at]
    const cluster = clusterOf(name)
    if (cluster === undefined) {
      this.#failed(poll, `there is no cluster "${name}"`)
      return
    }
    const { names, wildcard } = poll.polled.interest
    const resourceNames = wildcard && names.size === 1 ? [] : [...names]
    const request: JsonObject = {
      ...(version !== '' && { version_info: version }),
      node,
      ...(resourceNames.length > 0 && { resource_names: resourceNames }),
      type_url: `type.googleapis.com/${poll.polled.typeName}`,
    }
    const options = {
      cluster,
      clock,
      method: 'POST',
      authority: authority === '' ? name : authority,
      path: poll.path,
      headers: JSON_HEADERS,
      body: Buffer.from(JSON.stringify(request)),
      timeoutMs: config.requestTimeoutMs,
      limitBytes: LIMIT_BYTES,
    }
    poll.call = httpCall(options, (answer) => {
      poll.call = undefined
      this.#answered(poll, answer)
    })
  }

  #answered(poll: Poll, answer: HttpAnswer): void {
    if (this.#disposed) return
    if (!answer.ok) this.#failed(poll, answer.why)
    else if (answer.status === NOT_MODIFIED) {
      this.#link.set(true)
      this.#later(poll)
    } else if (answer.status !== 200) this.#failed(poll, `the server answered with status ${answer.status}`)
    else this.#take(poll, answer.body)
  }

  #take(poll: Poll, body: Buffer): void {
    const { clock, registry } = this.#parts
    try {
      const response = readJsonResponse(registry, JSON.parse(body.toString('utf8')) as Json)
      this.#link.lastUpdateMs = clock.wall()
      this.#link.set(true)
      const reason = poll.polled.take(response)
      this.#link.lastError = reason === '' ? undefined : reason
    } catch (error) {
      const why = error instanceof ConfigRefused || error instanceof SyntaxError ? error.message : String(error)
      this.#failed(poll, why)
      return
    }
    if (!this.#disposed) this.#later(poll)
  }

  #failed(poll: Poll, why: string): void {
    const { name, log, config } = this.#parts
    if (this.#link.lastError !== why) log.warn('the control plane gave no answer', { source: name, why })
    this.#link.lastError = why
    this.#at = (this.#at + 1) % config.targets.length
    poll.polled.interest.failed()
    this.#link.set(false)
    if (!this.#disposed) this.#later(poll)
  }

  status(): SourceStatus {
    return this.#link.status()
  }

  onConnection(listener: (connected: boolean) => void): () => void {
    return this.#link.onChange(listener)
  }

  [Symbol.dispose](): void {
    this.#disposed = true
    this.#link.close()
    for (const { polled, timer, call } of this.#polls.values()) {
      timer?.()
      call?.()
      polled.interest.dispose()
    }
    this.#polls.clear()
  }
}

const JSON_HEADERS: readonly string[] = Object.freeze([
  'content-type',
  'application/json',
  'accept',
  'application/json',
])
