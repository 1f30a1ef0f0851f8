import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import type { Log } from '../../lib/core/metrics.ts'
import type { TurnWork } from '../../lib/core/turn.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import type { DeltaRequest, DiscoveryResponse, WholeRequest, WireResource } from '../../xds-client/protocol/messages.ts'
import { DiscoverySession, type SessionOptions } from '../../xds-client/protocol/session.ts'
import type { DiscoveryRequest } from '../../xds-client/protocol/type-protocol.ts'
import type {
  DiscoveryUpdate,
  DiscoveryWatcher,
  Rejection,
  SubscribeOptions,
  Subscription,
} from '../../xds-client/source.ts'
import { TestClock } from '../support/clock.ts'

export const CLUSTER = 'envoy.config.cluster.v3.Cluster'
export const ENDPOINTS = 'envoy.config.endpoint.v3.ClusterLoadAssignment'
export const ROUTES = 'envoy.config.route.v3.RouteConfiguration'
export const LISTENER = 'envoy.config.listener.v3.Listener'
export const VIRTUAL_HOST = 'envoy.config.route.v3.VirtualHost'

/** Any resource: its name in field 1, as all types have it. */
export function content(name: string): Uint8Array {
  return new BinaryWriter().tag(1, WireType.LengthDelimited).string(name).finish()
}

/** Undefined in `overrides.bytes`: no body. */
export function resource(typeName: string, name: string, overrides: Partial<WireResource> = {}): WireResource {
  const wrapped = overrides.wrapped ?? false
  const base = { name: wrapped ? name : '', version: '', aliases: [], ttlMs: undefined, typeName, wrapped }
  return { ...base, bytes: content(name), ...overrides }
}

/** As delta has them: in a wrapper, with a version. */
export function versioned(
  typeName: string,
  name: string,
  version: string,
  more: Partial<WireResource> = {},
): WireResource {
  return resource(typeName, name, { wrapped: true, name, version, ...more })
}

/** A watcher that keeps what it is told, and refuses what it is told to refuse. */
export class Watcher implements DiscoveryWatcher {
  readonly updates: DiscoveryUpdate[] = []
  readonly absent: string[] = []
  /** Names and versions that are in use. */
  readonly state = new Map<string, string>()
  refuse: (name: string, version: string) => string | undefined = () => undefined
  onEach: ((update: DiscoveryUpdate) => void) | undefined = undefined

  onUpdate(update: DiscoveryUpdate): readonly Rejection[] {
    this.updates.push(update)
    const rejections: Rejection[] = []
    for (const { name, version } of update.resources) {
      const why = this.refuse(name, version)
      if (why === undefined) this.state.set(name, version)
      else
        rejections.push({
          name,
          errors: [{ path: 'some.field', message: why, place: undefined, toString: () => `some.field: ${why}` }],
        })
    }
    for (const name of update.removed) this.state.delete(name)
    this.onEach?.(update)
    return rejections
  }

  onAbsent(names: readonly string[], why: string): void {
    for (const name of names) this.absent.push(`${name} ${why}`)
  }

  get names(): string[] {
    return [...this.state.keys()].sort()
  }

  get last(): DiscoveryUpdate {
    const last = this.updates.at(-1)
    if (last === undefined) throw new Error('no update has come')
    return last
  }
}

/** A session between the hands of a test: turns, time and the stream are moved by hand. */
export class Rig {
  readonly clock = new TestClock()
  readonly metrics = new MetricsStore()
  readonly warnings: string[] = []
  readonly session: DiscoverySession
  readonly sent: DiscoveryRequest[] = []
  /** What the stream answers to `send`. */
  room = true
  readonly wanted: boolean[] = []
  readonly #work: TurnWork[] = []
  #nonces = 0

  constructor(variant: 'sotw' | 'delta', options: Partial<SessionOptions> = {}) {
    const log: Log = {
      debug: () => undefined,
      info: () => undefined,
      warn: (message, fields) =>
        this.warnings.push(`${message} ${String(fields?.type)} ${String(fields?.reason ?? '')}`),
      error: (message, fields) => this.warnings.push(`${message} ${String(fields?.error).split('\n')[0]}`),
    }
    this.session = new DiscoverySession({
      name: 'test',
      variant,
      typeName: undefined,
      nodeOnFirstMessageOnly: true,
      clock: this.clock,
      turn: { defer: (work) => void this.#work.push(work) },
      log,
      metrics: this.metrics,
      statPrefix: '',
      onWanted: (wanted) => void this.wanted.push(wanted),
      ...options,
    })
  }

  /** This turn of the loop ends. */
  turn(): void {
    for (let work = this.#work.shift(); work !== undefined; work = this.#work.shift()) work.turnEnds()
  }

  subscribe(
    typeName: string,
    names: readonly string[],
    more: Partial<SubscribeOptions> = {},
  ): Watcher & { sub: Subscription } {
    const watcher = new Watcher()
    const sub = this.session.subscribe({ typeName, initialFetchTimeoutMs: 15_000, ...more }, watcher)
    sub.want(new Set(names))
    return Object.assign(watcher, { sub })
  }

  /** A new stream, its connection made. */
  connect(established = true): void {
    this.turn()
    this.session.connected({
      send: (request) => {
        this.sent.push(request)
        return this.room
      },
    })
    if (established) this.session.established()
  }

  disconnect(): void {
    this.session.disconnected()
    this.turn()
  }

  /** A response, and what it makes the client say: the turn ends. Answers its nonce. */
  respond(typeName: string, resources: readonly WireResource[], more: Partial<DiscoveryResponse> = {}): string {
    const nonce = more.nonce ?? `n${++this.#nonces}`
    this.session.received({
      version: '1',
      typeName,
      resources,
      removed: [],
      errors: [],
      controlPlane: '',
      ...more,
      nonce,
    })
    this.turn()
    return nonce
  }

  /** What was sent since the last call. */
  take(): DiscoveryRequest[] {
    return this.sent.splice(0)
  }

  /** The only request since the last call, of the state of the world, in short. */
  whole(): { version: string; nonce: string; names: string[]; error: string | undefined; node: boolean } {
    const request = this.#only() as WholeRequest
    const { version, nonce, names, error, node } = request
    return { version, nonce, names: [...names].sort(), error: error?.message, node }
  }

  /** The only request since the last call, delta, in short. */
  delta(): {
    nonce: string
    subscribe: string[]
    unsubscribe: string[]
    versions: Record<string, string>
    error: string | undefined
  } {
    const { nonce, subscribe, unsubscribe, initialVersions, error } = this.#only() as DeltaRequest
    return {
      nonce,
      subscribe: [...subscribe].sort(),
      unsubscribe: [...unsubscribe].sort(),
      versions: Object.fromEntries(initialVersions),
      error: error?.message,
    }
  }

  #only(): DiscoveryRequest {
    const sent = this.take()
    if (sent.length !== 1) throw new Error(`${sent.length} requests were sent, not 1: ${JSON.stringify(sent)}`)
    return sent[0]
  }
}
