import type { DescMessage, Message } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import type { ServerDuplexStream } from '@grpc/grpc-js'
import type { ControlPlane, PlaneRequest, PlaneResource, PlaneType } from './control-plane.ts'

const PREFIX = 'type.googleapis.com/'
const REQUEST = 'envoy.service.discovery.v3.DiscoveryRequest'
const DELTA_REQUEST = 'envoy.service.discovery.v3.DeltaDiscoveryRequest'
/** An answer names all of them, and what is absent is removed. */
const WHOLE: ReadonlySet<string> = new Set([
  'envoy.config.listener.v3.Listener',
  'envoy.config.cluster.v3.Cluster',
  'envoy.config.route.v3.ScopedRouteConfiguration',
])

/** What a response of the test's own says. Whatever is left out is as a good response has it. */
export interface RawResponse {
  readonly typeName: string
  readonly version?: string
  /** Default: the next one. */
  readonly nonce?: string
  readonly resources?: readonly RawResource[]
  /** Delta. */
  readonly removed?: readonly string[]
  /** Delta, as `removed_resource_names`. */
  readonly removedNames?: readonly string[]
  readonly errors?: readonly { readonly name: string; readonly code: number; readonly message: string }[]
}

export interface RawResource {
  /** Of the Any; default: that of the response. */
  readonly typeName?: string
  /** Undefined: no body (a heartbeat). */
  readonly bytes: Uint8Array | undefined
  /** Sent in an `envoy.service.discovery.v3.Resource`; delta does so always. */
  readonly wrapped?: boolean
  readonly name?: string
  readonly version?: string
  readonly ttlMs?: number
  readonly aliases?: readonly string[]
}

/** One stream of a client, as a test sees it. */
export interface PlaneStream {
  readonly delta: boolean
  /** '' on an ADS stream. */
  readonly typeName: string
  /** Of the metadata that the stream was opened with, the first value; '' where it is absent. */
  metadata(name: string): string
  /** Sends what has changed of a type since it was last sent, as the server does of itself. */
  push(typeName: string): void
  /** Sends anything. Answers its nonce. */
  send(response: RawResponse): string
  /** Sends bytes as one message. */
  sendBytes(bytes: Uint8Array): void
  close(code?: number, details?: string): void
}

interface TypeState {
  names: Set<string>
  wildcard: boolean
  /** A name was given at least once: no names are no wildcard then. */
  explicit: boolean
  nonce: string
  /** State of the world: what was sent last; undefined: nothing yet. */
  version: string | undefined
  /** Names that the last answer was for. */
  answered: string
  /** Delta: what the client has. */
  readonly sent: Map<string, string>
  /** Delta: to be answered even if the client has it, or if it does not exist. */
  readonly asked: Set<string>
}

export class StreamState implements PlaneStream {
  readonly delta: boolean
  readonly typeName: string
  readonly #plane: ControlPlane
  readonly #call: ServerDuplexStream<Buffer, Buffer>
  readonly #types = new Map<string, TypeState>()
  #nonces = 0

  constructor(parts: {
    readonly plane: ControlPlane
    readonly call: ServerDuplexStream<Buffer, Buffer>
    readonly delta: boolean
    readonly typeName: string
  }) {
    this.#plane = parts.plane
    this.#call = parts.call
    this.delta = parts.delta
    this.typeName = parts.typeName
  }

  metadata(name: string): string {
    return String(this.#call.metadata.get(name)[0] ?? '')
  }

  close(code = 0, details = ''): void {
    if (code === 0) this.#call.end()
    else this.#call.emit('error', { code, details })
  }

  sendBytes(bytes: Uint8Array): void {
    if (!this.#call.cancelled && !this.#call.destroyed) this.#call.write(Buffer.from(bytes))
  }

  send(response: RawResponse): string {
    const nonce = response.nonce ?? `${this.delta ? 'd' : 's'}${++this.#nonces}`
    const state = this.#state(response.typeName)
    state.nonce = nonce
    this.sendBytes(encodeResponse(response, nonce, this.delta))
    return nonce
  }

  // --- requests -----------------------------------------------------------------------------------------------------

  receive(bytes: Buffer): void {
    const desc = this.#plane.registry.expect(this.delta ? DELTA_REQUEST : REQUEST)
    const message = this.#plane.decode(desc.typeName, bytes)
    const request = this.#describe(desc, message)
    if (this.delta) this.#takeDelta(request)
    else this.#take(request)
    this.#plane.record(request)
    if (request.kind !== 'stale' && !this.#plane.isHeld(request.typeName)) this.push(request.typeName)
  }

  #describe(desc: DescMessage, message: Message): PlaneRequest {
    const json = this.#plane.toJson(desc, message)
    const text = (key: string): string => (json[key] as string | undefined) ?? ''
    const list = (key: string): string[] => (json[key] as string[] | undefined) ?? []
    const typeUrl = text('type_url')
    const typeName = typeUrl === '' ? this.typeName : typeUrl.slice(typeUrl.lastIndexOf('/') + 1)
    const error = json.error_detail as { code?: number; message?: string } | undefined
    const nonce = text('response_nonce')
    const known = this.#types.get(typeName)
    const kind =
      known === undefined
        ? 'first'
        : nonce === ''
          ? 'subscription'
          : nonce !== known.nonce
            ? 'stale'
            : error !== undefined
              ? 'nack'
              : 'ack'
    return {
      stream: this,
      delta: this.delta,
      typeName,
      node: json.node as PlaneRequest['node'],
      versionInfo: text('version_info'),
      names: list('resource_names'),
      nonce,
      error: error && { code: error.code ?? 0, message: error.message ?? '' },
      subscribe: list('resource_names_subscribe'),
      unsubscribe: list('resource_names_unsubscribe'),
      initialVersions: (json.initial_resource_versions ?? {}) as Record<string, string>,
      kind,
    }
  }

  #state(typeName: string): TypeState {
    let state = this.#types.get(typeName)
    if (state === undefined) {
      state = {
        names: new Set(),
        wildcard: false,
        explicit: false,
        nonce: '',
        version: undefined,
        answered: '',
        sent: new Map(),
        asked: new Set(),
      }
      this.#types.set(typeName, state)
    }
    return state
  }

  #take(request: PlaneRequest): void {
    const first = request.kind === 'first'
    const state = this.#state(request.typeName)
    // As go-control-plane: a request with a stale nonce is dropped, its names with it.
    if (request.kind === 'stale') return
    if (request.names.length > 0) state.explicit = true
    state.names = new Set(request.names)
    state.wildcard = request.names.includes('*') || (!state.explicit && WHOLE.has(request.typeName))
    if (!first) return
    // What the client has is not sent again.
    if (request.versionInfo !== '' && request.versionInfo === this.#plane.types.get(request.typeName)?.version) {
      state.version = request.versionInfo
      state.answered = key(state)
    }
  }

  #takeDelta(request: PlaneRequest): void {
    const first = request.kind === 'first'
    const state = this.#state(request.typeName)
    if (first) for (const [name, version] of Object.entries(request.initialVersions)) state.sent.set(name, version)
    if (first && request.subscribe.length === 0 && request.unsubscribe.length === 0) state.wildcard = true
    for (const name of request.unsubscribe) {
      if (name === '*') state.wildcard = false
      // A member of the wildcard: it is told again that it is there, or not.
      else if (state.names.delete(name) && state.wildcard) state.asked.add(name)
      else state.sent.delete(name)
    }
    for (const name of request.subscribe) {
      if (name === '*') state.wildcard = true
      else {
        if (!first) state.sent.delete(name)
        state.names.add(name)
        state.asked.add(name)
      }
    }
  }

  // --- answers ------------------------------------------------------------------------------------------------------

  push(typeName: string): void {
    const state = this.#types.get(typeName)
    const type = this.#plane.types.get(typeName)
    if (state === undefined || type === undefined) return
    if (this.delta) this.#pushDelta(typeName, state, type)
    else this.#pushWhole(typeName, state, type)
  }

  #pushWhole(typeName: string, state: TypeState, type: PlaneType): void {
    if (state.version === type.version && state.answered === key(state)) return
    const chosen = [...type.resources].filter(([name]) => state.wildcard || state.names.has(name))
    if (chosen.length === 0 && !(WHOLE.has(typeName) && (state.wildcard || state.names.size > 0))) return
    state.version = type.version
    state.answered = key(state)
    const resources = chosen.map(([name, held]) => raw(name, held))
    this.send({ typeName, version: type.version, resources })
  }

  #pushDelta(typeName: string, state: TypeState, type: PlaneType): void {
    const resources: RawResource[] = []
    const removed: string[] = []
    for (const [name, held] of type.resources) {
      const wanted = state.wildcard || state.names.has(name) || held.aliases?.some((alias) => state.names.has(alias))
      if (!wanted || state.sent.get(name) === held.version) continue
      resources.push(raw(name, held))
      state.sent.set(name, held.version)
      state.asked.delete(name)
      for (const alias of held.aliases ?? []) state.asked.delete(alias)
    }
    for (const name of state.sent.keys()) if (!type.resources.has(name)) removed.push(name)
    for (const name of state.asked) if (!type.resources.has(name) && !removed.includes(name)) removed.push(name)
    for (const name of removed) state.sent.delete(name)
    const unanswered = state.wildcard && state.nonce === ''
    state.asked.clear()
    if (resources.length === 0 && removed.length === 0 && !unanswered) return
    this.send({ typeName, version: type.version, resources, removed })
  }
}

function key(state: TypeState): string {
  return JSON.stringify([state.wildcard, ...[...state.names].sort()])
}

function raw(name: string, held: PlaneResource): RawResource {
  const { bytes, version, ttlMs, aliases, wrapped = ttlMs !== undefined } = held
  return { bytes, name, version, ttlMs, aliases, wrapped }
}

// --- the wire form, by hand: shares nothing with what reads it ------------------------------------------------------------

function encodeResponse(response: RawResponse, nonce: string, delta: boolean): Uint8Array {
  const { typeName, version = '', resources = [], removed = [], removedNames = [], errors = [] } = response
  const writer = new BinaryWriter()
  if (version !== '') writer.tag(1, WireType.LengthDelimited).string(version)
  for (const resource of resources) {
    const inner = resource.typeName ?? typeName
    const wrapped = delta || resource.wrapped === true
    const wrapper = wrapped ? encodeResource(resource, inner) : undefined
    const bytes = delta
      ? (wrapper as Uint8Array)
      : wrapper === undefined
        ? encodeAny(inner, resource.bytes ?? EMPTY)
        : encodeAny('envoy.service.discovery.v3.Resource', wrapper)
    writer.tag(2, WireType.LengthDelimited).bytes(bytes)
  }
  writer.tag(4, WireType.LengthDelimited).string(PREFIX + typeName)
  writer.tag(5, WireType.LengthDelimited).string(nonce)
  for (const name of removed) writer.tag(6, WireType.LengthDelimited).string(name)
  for (const name of removedNames) {
    writer
      .tag(8, WireType.LengthDelimited)
      .bytes(new BinaryWriter().tag(1, WireType.LengthDelimited).string(name).finish())
  }
  for (const error of errors) writer.tag(delta ? 9 : 7, WireType.LengthDelimited).bytes(encodeError(error))
  return writer.finish()
}

function encodeAny(typeName: string, bytes: Uint8Array): Uint8Array {
  return new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .string(PREFIX + typeName)
    .tag(2, WireType.LengthDelimited)
    .bytes(bytes)
    .finish()
}

function encodeResource(resource: RawResource, typeName: string): Uint8Array {
  const { bytes, name, version, ttlMs, aliases = [] } = resource
  const writer = new BinaryWriter()
  if (version !== undefined) writer.tag(1, WireType.LengthDelimited).string(version)
  if (bytes !== undefined) writer.tag(2, WireType.LengthDelimited).bytes(encodeAny(typeName, bytes))
  if (name !== undefined) writer.tag(3, WireType.LengthDelimited).string(name)
  for (const alias of aliases) writer.tag(4, WireType.LengthDelimited).string(alias)
  if (ttlMs !== undefined) {
    const duration = new BinaryWriter()
      .tag(1, WireType.Varint)
      .int64(Math.floor(ttlMs / 1000))
      .tag(2, WireType.Varint)
      .int32((ttlMs % 1000) * 1_000_000)
      .finish()
    writer.tag(6, WireType.LengthDelimited).bytes(duration)
  }
  return writer.finish()
}

function encodeError({ name, code, message }: { name: string; code: number; message: string }): Uint8Array {
  const detail = new BinaryWriter()
    .tag(1, WireType.Varint)
    .int32(code)
    .tag(2, WireType.LengthDelimited)
    .string(message)
    .finish()
  return new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .bytes(new BinaryWriter().tag(1, WireType.LengthDelimited).string(name).finish())
    .tag(2, WireType.LengthDelimited)
    .bytes(detail)
    .finish()
}

const EMPTY = new Uint8Array(0)
