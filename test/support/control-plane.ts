import { type DescMessage, fromBinary, type Message, toBinary } from '@bufbuild/protobuf'
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import type { JsonObject } from '../../lib/core/errors.ts'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import { encodeJson } from '../../lib/proto/encode-json.ts'
import { createProtoRegistry, type ProtoRegistry } from '../../lib/proto/registry.ts'
import { type PlaneStream, StreamState } from './control-plane-stream.ts'
import { Relay } from './relay.ts'

/** The types of resources, by what they are called in everyday speech. */
export const XDS = Object.freeze({
  listener: 'envoy.config.listener.v3.Listener',
  routes: 'envoy.config.route.v3.RouteConfiguration',
  scopedRoutes: 'envoy.config.route.v3.ScopedRouteConfiguration',
  virtualHost: 'envoy.config.route.v3.VirtualHost',
  cluster: 'envoy.config.cluster.v3.Cluster',
  endpoints: 'envoy.config.endpoint.v3.ClusterLoadAssignment',
  lbEndpoint: 'envoy.config.endpoint.v3.LbEndpoint',
  secret: 'envoy.extensions.transport_sockets.tls.v3.Secret',
  extension: 'envoy.config.core.v3.TypedExtensionConfig',
  runtime: 'envoy.service.runtime.v3.Runtime',
})

/** Service, then what follows `Stream` and `Delta` in its methods, then its type; '' is all types. */
const SERVICES: readonly (readonly [service: string, sotw: string, delta: string, typeName: string])[] = Object.freeze([
  ['discovery.v3.AggregatedDiscoveryService', 'StreamAggregatedResources', 'DeltaAggregatedResources', ''],
  ['cluster.v3.ClusterDiscoveryService', 'StreamClusters', 'DeltaClusters', XDS.cluster],
  ['endpoint.v3.EndpointDiscoveryService', 'StreamEndpoints', 'DeltaEndpoints', XDS.endpoints],
  ['endpoint.v3.LocalityEndpointDiscoveryService', '', 'DeltaLocalityEndpoints', XDS.lbEndpoint],
  ['listener.v3.ListenerDiscoveryService', 'StreamListeners', 'DeltaListeners', XDS.listener],
  ['route.v3.RouteDiscoveryService', 'StreamRoutes', 'DeltaRoutes', XDS.routes],
  ['route.v3.VirtualHostDiscoveryService', '', 'DeltaVirtualHosts', XDS.virtualHost],
  ['route.v3.ScopedRoutesDiscoveryService', 'StreamScopedRoutes', 'DeltaScopedRoutes', XDS.scopedRoutes],
  ['secret.v3.SecretDiscoveryService', 'StreamSecrets', 'DeltaSecrets', XDS.secret],
  ['runtime.v3.RuntimeDiscoveryService', 'StreamRuntime', 'DeltaRuntime', XDS.runtime],
  ['extension.v3.ExtensionConfigDiscoveryService', 'StreamExtensionConfigs', 'DeltaExtensionConfigs', XDS.extension],
])

/** A request as it came, with what the server made of it. */
export interface PlaneRequest {
  readonly stream: PlaneStream
  readonly delta: boolean
  readonly typeName: string
  /** ProtoJSON with protobuf names; undefined where the request has none. */
  readonly node: JsonObject | undefined
  /** State of the world. */
  readonly versionInfo: string
  /** State of the world. */
  readonly names: readonly string[]
  readonly nonce: string
  readonly error: { readonly code: number; readonly message: string } | undefined
  /** Delta. */
  readonly subscribe: readonly string[]
  /** Delta. */
  readonly unsubscribe: readonly string[]
  /** Delta. */
  readonly initialVersions: Readonly<Record<string, string>>
  /** `stale`: its nonce is not that of the last response. `first`: of this type on this stream. */
  readonly kind: 'first' | 'ack' | 'nack' | 'subscription' | 'stale'
}

/** One resource as the server holds it. */
export interface PlaneResource {
  readonly version: string
  readonly bytes: Uint8Array
  /** Delta; in state of the world it is sent in a wrapper where this or `wrapped` is set. */
  readonly ttlMs?: number
  readonly aliases?: readonly string[]
  readonly wrapped?: boolean
}

/** Extras of a resource beside its content. */
export type ResourceExtras = Omit<PlaneResource, 'bytes' | 'version'> & { readonly version?: string }

/** All of one type. */
export interface PlaneType {
  version: string
  readonly resources: Map<string, PlaneResource>
}

export interface ControlPlaneOptions {
  /** PEM; `clientCa`: clients must show a certificate of it. */
  readonly tls?: { readonly chain: string; readonly key: string; readonly clientCa?: string }
  /** Listens on a Unix socket instead of a port. */
  readonly path?: string
  /** Making one takes 80 ms: pass what the test has. */
  readonly registry?: ProtoRegistry
  /** Served beside those of discovery. */
  readonly services?: readonly {
    readonly definition: ServiceDefinition
    readonly implementation: UntypedServiceImplementation
  }[]
}

interface Waiter {
  readonly wanted: (request: PlaneRequest) => boolean
  readonly resolve: (request: PlaneRequest) => void
}

/** Anything longer is a hang. */
const PATIENCE_MS = 10_000

/**
 * A management server on @grpc/grpc-js that serves ADS and the services of single types, state of the world and delta. It
 * answers as go-control-plane does from the resources it was given, until it is told otherwise: to hold its answers back, to
 * send something of the test's own, to break off, to freeze, to stop.
 *
 * @example
 * const plane = await ControlPlane.start({ registry })
 * plane.set(XDS.cluster, [{ name: 'a', connect_timeout: '1s' }])
 * const ack = await plane.request((r) => r.kind === 'ack' && r.typeName === XDS.cluster)
 * await plane.close()
 */
export class ControlPlane {
  readonly registry: ProtoRegistry
  /** Every request, in order. */
  readonly requests: PlaneRequest[] = []
  /** Streams that are open. */
  readonly streams: PlaneStream[] = []
  /** Streams that were ever opened. */
  streamsOpened = 0
  /** @internal */
  readonly types = new Map<string, PlaneType>()
  readonly #server = new Server({
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
  })
  readonly #waiters = new Set<Waiter>()
  readonly #held = new Set<string>()
  #relay: Relay | undefined = undefined
  #holdAll = false
  #count = 0

  private constructor(registry: ProtoRegistry) {
    this.registry = registry
  }

  static async start(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
    const plane = new ControlPlane(options.registry ?? createProtoRegistry())
    plane.#addServices()
    for (const { definition, implementation } of options.services ?? [])
      plane.#server.addService(definition, implementation)
    const { tls } = options
    const credentials =
      tls === undefined
        ? ServerCredentials.createInsecure()
        : ServerCredentials.createSsl(
            tls.clientCa === undefined ? null : Buffer.from(tls.clientCa),
            [{ cert_chain: Buffer.from(tls.chain), private_key: Buffer.from(tls.key) }],
            tls.clientCa !== undefined,
          )
    const port = await new Promise<number>((resolve, reject) =>
      plane.#server.bindAsync('127.0.0.1:0', credentials, (error, at) => (error ? reject(error) : resolve(at))),
    )
    plane.#relay = await Relay.start({ host: '127.0.0.1', port }, options.path)
    return plane
  }

  /** Of 127.0.0.1; 0 where it listens on a path. Stays over `stop` and `restart`. */
  get port(): number {
    return (this.#relay as Relay).port
  }

  /** The wire in front of the server: its connections can be counted, broken and frozen. */
  get wire(): Relay {
    return this.#relay as Relay
  }

  // --- resources ----------------------------------------------------------------------------------------------------

  /**
   * These are all resources of the type, as ProtoJSON, and are pushed to whoever asked for them. Resources whose content is
   * what it was keep their version. The version of the type counts up where none is given.
   */
  set(typeName: string, resources: readonly JsonObject[], version: string = String(++this.#count)): void {
    const type = this.#type(typeName)
    const names = new Set<string>()
    for (const json of resources) names.add(this.#store(type, { typeName, json, version }))
    for (const name of type.resources.keys()) if (!names.has(name)) type.resources.delete(name)
    type.version = version
    this.push(typeName)
  }

  /** Adds or replaces one resource of the type. */
  put(typeName: string, json: JsonObject, extras: ResourceExtras = {}): void {
    const type = this.#type(typeName)
    const version = extras.version ?? String(++this.#count)
    this.#store(type, { typeName, json, version, extras })
    type.version = version
    this.push(typeName)
  }

  /** Takes one resource of the type away. */
  remove(typeName: string, name: string): void {
    const type = this.#type(typeName)
    type.resources.delete(name)
    type.version = String(++this.#count)
    this.push(typeName)
  }

  /** A resource as it is found inside an Any. @throws Error where the JSON is none of that type */
  encode(typeName: string, json: JsonObject): Uint8Array {
    const desc = this.registry.expect(typeName)
    const { message, errors } = decodeJson(this.registry, desc, json, '')
    if (message === undefined || errors.length > 0) throw new Error(`${typeName}: ${errors.join('; ')}`)
    return toBinary(desc, message)
  }

  #type(typeName: string): PlaneType {
    let type = this.types.get(typeName)
    if (type === undefined) this.types.set(typeName, (type = { version: '', resources: new Map() }))
    return type
  }

  #store(
    type: PlaneType,
    entry: { typeName: string; json: JsonObject; version: string; extras?: ResourceExtras },
  ): string {
    const { typeName, json, version, extras } = entry
    const name = String(json.name ?? json.cluster_name ?? json.clusterName ?? '')
    const bytes = this.encode(typeName, json)
    const known = type.resources.get(name)
    if (extras === undefined && known !== undefined && Buffer.compare(known.bytes, bytes) === 0) return name
    type.resources.set(name, { ...extras, version, bytes })
    return name
  }

  // --- answers ------------------------------------------------------------------------------------------------------

  /** Requests are taken and not answered, of one type or of all; pushes wait too. */
  hold(typeName?: string): void {
    if (typeName === undefined) this.#holdAll = true
    else this.#held.add(typeName)
  }

  /** Answers what has been held back. */
  release(typeName?: string): void {
    if (typeName === undefined) this.#holdAll = false
    else this.#held.delete(typeName)
    for (const name of typeName === undefined ? this.types.keys() : [typeName]) this.push(name)
  }

  isHeld(typeName: string): boolean {
    return this.#holdAll || this.#held.has(typeName)
  }

  /** Sends what has changed to every stream that asked for the type. */
  push(typeName: string): void {
    if (this.isHeld(typeName)) return
    for (const stream of [...this.streams]) stream.push(typeName)
  }

  /** The only stream that is open. @throws Error where it is not one */
  get stream(): PlaneStream {
    if (this.streams.length !== 1) throw new Error(`${this.streams.length} streams are open, not 1`)
    return this.streams[0]
  }

  // --- requests -----------------------------------------------------------------------------------------------------

  /** The first request that is wanted, of those from number `from` on and those to come. */
  async request(wanted: (request: PlaneRequest) => boolean, what = 'a request', from = 0): Promise<PlaneRequest> {
    for (let i = from; i < this.requests.length; i++) if (wanted(this.requests[i])) return this.requests[i]
    const { promise, resolve, reject } = Promise.withResolvers<PlaneRequest>()
    const waiter: Waiter = { wanted, resolve }
    const timer = setTimeout(() => {
      const seen = this.requests.map((r) => `${r.kind} ${r.typeName.slice(r.typeName.lastIndexOf('.') + 1)}`)
      reject(new Error(`waited for ${what}; came: ${seen.slice(-20).join(', ')}`))
    }, PATIENCE_MS)
    this.#waiters.add(waiter)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#waiters.delete(waiter)
    }
  }

  /** The requests of one type so far. */
  of(typeName: string): PlaneRequest[] {
    return this.requests.filter((request) => request.typeName === typeName)
  }

  /** @internal */
  record(request: PlaneRequest): void {
    this.requests.push(request)
    for (const waiter of [...this.#waiters]) if (waiter.wanted(request)) waiter.resolve(request)
  }

  // --- faults -------------------------------------------------------------------------------------------------------

  /** Ends all streams with a status; 0 is what a server does that limits the age of streams. */
  closeStreams(code: number = status.OK, details = ''): void {
    for (const stream of [...this.streams]) stream.close(code, details)
  }

  /** The process is gone: connections break, nobody listens on the port. */
  async stop(): Promise<void> {
    await this.wire.stop()
  }

  /** Listens again on the same port; what it was given is still there. */
  async restart(): Promise<void> {
    await this.wire.restart()
  }

  async close(): Promise<void> {
    await this.#relay?.stop()
    this.#server.forceShutdown()
  }

  // --- the services -------------------------------------------------------------------------------------------------

  #addServices(): void {
    for (const [service, sotw, delta, typeName] of SERVICES) {
      const definition: Record<string, ServiceDefinition[string]> = {}
      const implementation: UntypedServiceImplementation = {}
      for (const method of [sotw, delta]) {
        if (method === '') continue
        definition[method] = {
          path: `/envoy.service.${service}/${method}`,
          requestStream: true,
          responseStream: true,
          requestSerialize: (bytes: Buffer) => bytes,
          requestDeserialize: (bytes: Buffer) => bytes,
          responseSerialize: (bytes: Buffer) => bytes,
          responseDeserialize: (bytes: Buffer) => bytes,
        }
        implementation[method] = (call: ServerDuplexStream<Buffer, Buffer>) =>
          this.#open(call, method === delta, typeName)
      }
      this.#server.addService(definition, implementation)
    }
  }

  #open(call: ServerDuplexStream<Buffer, Buffer>, delta: boolean, typeName: string): void {
    const stream = new StreamState({ plane: this, call, delta, typeName })
    this.streams.push(stream)
    this.streamsOpened++
    const gone = (): void => {
      const at = this.streams.indexOf(stream)
      if (at >= 0) this.streams.splice(at, 1)
    }
    call.on('data', (bytes: Buffer) => stream.receive(bytes))
    call.on('end', () => {
      gone()
      call.end()
    })
    call.on('cancelled', gone)
    call.on('error', gone)
    call.on('close', gone)
  }

  /** @internal */
  decode(typeName: string, bytes: Uint8Array): Message {
    return fromBinary(this.registry.expect(typeName), bytes)
  }

  /** @internal */
  toJson(desc: DescMessage, message: Message): JsonObject {
    return encodeJson(this.registry, desc, message) as JsonObject
  }
}

export type { PlaneStream }
