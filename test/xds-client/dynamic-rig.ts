import { fromJson, type JsonValue, toBinary } from '@bufbuild/protobuf'
import { envoyContext } from '../../lib/cli/load-config.ts'
import { standardFilters } from '../../lib/cli/standard-filters.ts'
import { type ConfigChange, ConfigState } from '../../lib/config/change.ts'
import type { ListenerConfig } from '../../lib/config/listener.ts'
import { parseConfigText } from '../../lib/config/parse.ts'
import type { ConfigError, Json } from '../../lib/core/errors.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import type { ConfigSourceConfig } from '../../xds-client/config.ts'
import { DynamicGateway } from '../../xds-client/dynamic/gateway.ts'
import type { DynamicOptions } from '../../xds-client/dynamic/options.ts'
import { type LoadedBootstrap, readBootstrap } from '../../xds-client/envoy/load.ts'
import type {
  DiscoverySource,
  DiscoveryWatcher,
  ReceivedResource,
  Rejection,
  SubscribeOptions,
  Subscription,
} from '../../xds-client/source.ts'
import { settle, TestClock } from '../support/clock.ts'

export const TYPES = {
  listener: 'envoy.config.listener.v3.Listener',
  cluster: 'envoy.config.cluster.v3.Cluster',
  assignment: 'envoy.config.endpoint.v3.ClusterLoadAssignment',
  endpoint: 'envoy.config.endpoint.v3.LbEndpoint',
  routes: 'envoy.config.route.v3.RouteConfiguration',
  scope: 'envoy.config.route.v3.ScopedRouteConfiguration',
  host: 'envoy.config.route.v3.VirtualHost',
  secret: 'envoy.extensions.transport_sockets.tls.v3.Secret',
  extension: 'envoy.config.core.v3.TypedExtensionConfig',
  runtime: 'envoy.service.runtime.v3.Runtime',
} as const

export type TypeKey = keyof typeof TYPES

/** Types of which an answer in the state of the world holds all that there is. */
const WHOLE: ReadonlySet<string> = new Set([TYPES.listener, TYPES.cluster, TYPES.scope])

const context = envoyContext(standardFilters())

/** The bytes of a message from its proto-JSON. */
export function encode(type: string, json: Json): Uint8Array {
  const desc = context.registry.expect(type)
  return toBinary(desc, fromJson(desc, json as JsonValue, { registry: context.registry.files }))
}

/** @throws ConfigRefused */
export function load(bootstrap: Json): LoadedBootstrap {
  return readBootstrap(parseConfigText(JSON.stringify(bootstrap), 'bootstrap.json'), context)
}

interface FakeSubscription {
  readonly options: SubscribeOptions
  readonly watcher: DiscoveryWatcher
  names: ReadonlySet<string>
  paused: boolean
  closed: boolean
}

/** A source that says what the test tells it to, to whoever has asked for it. */
export class FakeSource implements DiscoverySource {
  readonly subscriptions: FakeSubscription[] = []
  /** What was asked for, in order: `type: names`. */
  readonly asked: string[] = []
  disposed = false
  readonly #known = new Map<string, Set<string>>()
  readonly #listeners = new Set<(connected: boolean) => void>()
  readonly #name: string
  #version = 0

  constructor(name: string) {
    this.#name = name
  }

  subscribe(options: SubscribeOptions, watcher: DiscoveryWatcher): Subscription {
    const own: FakeSubscription = { options, watcher, names: new Set(), paused: false, closed: false }
    this.subscriptions.push(own)
    const short = options.typeName.slice(options.typeName.lastIndexOf('.') + 1)
    return {
      want: (names) => {
        own.names = new Set(names)
        this.asked.push(`${short}: ${[...names].sort().join(' ')}`)
      },
      pause: () => {
        own.paused = true
      },
      resume: () => {
        own.paused = false
      },
      close: () => {
        own.closed = true
        own.names = new Set()
        this.asked.push(`${short}: closed`)
      },
    }
  }

  /** Everything that is wanted of a type now. */
  wanted(type: TypeKey): string[] {
    const open = this.#open(type)
    return [...new Set(open.flatMap(({ names }) => [...names]))].sort()
  }

  /** An answer in the state of the world. */
  whole(type: TypeKey, resources: Readonly<Record<string, Json>>): readonly Rejection[] {
    const known = this.#knownOf(type)
    const removed = WHOLE.has(TYPES[type]) ? [...known].filter((name) => !Object.hasOwn(resources, name)) : []
    return this.delta(type, resources, removed)
  }

  /** An incremental answer. */
  delta(
    type: TypeKey,
    resources: Readonly<Record<string, Json>>,
    removed: readonly string[] = [],
  ): readonly Rejection[] {
    const list = Object.entries(resources).map(([name, json]) => ({ name, bytes: encode(TYPES[type], json) }))
    return this.raw(type, list, removed)
  }

  raw(
    type: TypeKey,
    list: readonly { readonly name: string; readonly bytes: Uint8Array; readonly aliases?: readonly string[] }[],
    removed: readonly string[] = [],
  ): readonly Rejection[] {
    const version = `v${++this.#version}`
    const known = this.#knownOf(type)
    for (const name of removed) known.delete(name)
    for (const { name } of list) known.add(name)
    const rejections: Rejection[] = []
    for (const { names, watcher } of this.#open(type)) {
      const wants = (name: string, aliases: readonly string[] = []): boolean =>
        names.has('*') ||
        [name, ...aliases].some((one) => names.has(one) || names.has(`${one.slice(0, one.lastIndexOf('/'))}/*`))
      const resources: ReceivedResource[] = list
        .filter(({ name, aliases }) => wants(name, aliases))
        .map(({ name, bytes, aliases = [] }) => ({ name, version, typeName: TYPES[type], bytes, aliases }))
      const gone = removed.filter((name) => wants(name))
      if (resources.length === 0 && gone.length === 0 && !names.has('*')) continue
      rejections.push(...watcher.onUpdate({ version, resources, removed: gone }))
    }
    return rejections
  }

  absent(type: TypeKey, names: readonly string[], why: 'timeout' | 'does-not-exist' = 'timeout'): void {
    for (const own of this.#open(type)) {
      const mine = names.filter((name) => own.names.has(name))
      if (mine.length > 0) own.watcher.onAbsent(mine, why)
    }
  }

  connect(connected: boolean): void {
    for (const listener of this.#listeners) listener(connected)
  }

  status(): { name: string; connected: boolean; lastUpdateMs: undefined; lastError: undefined } {
    return { name: this.#name, connected: true, lastUpdateMs: undefined, lastError: undefined }
  }

  onConnection(listener: (connected: boolean) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  [Symbol.dispose](): void {
    this.disposed = true
  }

  #open(type: TypeKey): FakeSubscription[] {
    return this.subscriptions.filter(({ options, closed }) => options.typeName === TYPES[type] && !closed)
  }

  #knownOf(type: TypeKey): Set<string> {
    let known = this.#known.get(TYPES[type])
    if (known === undefined) this.#known.set(TYPES[type], (known = new Set()))
    return known
  }
}

interface LogLine {
  readonly message: string
  readonly fields: Record<string, unknown> | undefined
}

export interface RigOptions extends Partial<Omit<DynamicOptions, 'loaded' | 'clock'>> {
  readonly bootstrap?: Json
  /** Clusters whose absence is no mistake at the moment. */
  readonly tolerated?: Set<string>
}

export const ADS = { ads: {}, resource_api_version: 'V3' }

export const BOOTSTRAP = {
  node: { id: 'test-id', cluster: 'test-cluster' },
  dynamic_resources: {
    ads_config: { api_type: 'GRPC', grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }] },
    lds_config: ADS,
    cds_config: ADS,
  },
  static_resources: {
    clusters: [
      {
        name: 'xds',
        type: 'STATIC',
        load_assignment: {
          cluster_name: 'xds',
          endpoints: [
            { lb_endpoints: [{ endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: 1 } } } }] },
          ],
        },
      },
    ],
  },
} satisfies Json

/** A gateway under test, with what it published. Checks at every step that nothing published names what is not there. */
export class Rig {
  readonly clock = new TestClock()
  readonly metrics = new MetricsStore()
  readonly changes: ConfigChange[] = []
  readonly state: ConfigState
  readonly gateway: DynamicGateway
  readonly sources = new Map<string, FakeSource>()
  readonly log: LogLine[] = []
  /** What was wrong with a publication. */
  readonly broken: string[] = []
  /** Clusters whose absence is no mistake at the moment. */
  readonly tolerated: Set<string>
  initialised = false
  confirmed = false

  constructor({ bootstrap = BOOTSTRAP, tolerated = new Set(), ...options }: RigOptions = {}) {
    this.tolerated = tolerated
    const loaded = load(bootstrap)
    this.state = new ConfigState({ ...loaded.config, listeners: [], clusters: [] })
    const note = (message: string, fields?: Record<string, unknown>): void => {
      this.log.push({ message, fields })
    }
    this.gateway = new DynamicGateway({
      loaded,
      open: (source) => this.#open(source),
      check: () => [] as ConfigError[],
      clock: this.clock,
      log: { debug: () => {}, info: () => {}, warn: note, error: note },
      metrics: this.metrics,
      ...options,
    })
    void this.gateway.initialised.then(() => {
      this.initialised = true
    })
    void this.gateway.confirmed.then(() => {
      this.confirmed = true
    })
  }

  start(): this {
    this.gateway.start({ publish: (change) => this.#publish(change) })
    return this
  }

  get ads(): FakeSource {
    return this.source('')
  }

  source(key: string): FakeSource {
    const source = this.sources.get(key)
    if (source === undefined) throw new Error(`no source "${key}": ${[...this.sources.keys()]}`)
    return source
  }

  /** Lets the turn end. */
  async turn(): Promise<void> {
    await settle()
  }

  get names(): {
    readonly clusters: string[]
    readonly listeners: string[]
    readonly tables: string[]
    readonly assignments: string[]
  } {
    const { clusters, listeners, routeTables, assignments } = this.state
    const own = (map: ReadonlyMap<string, unknown>): string[] => [...map.keys()].filter((name) => name !== 'xds').sort()
    return {
      clusters: own(clusters),
      listeners: own(listeners),
      tables: own(routeTables),
      assignments: own(assignments),
    }
  }

  counter(name: string): number {
    return this.metrics.counter(name).v
  }

  gauge(name: string): number {
    return this.metrics.gauge(name).v
  }

  #open(config: ConfigSourceConfig): FakeSource {
    const source = new FakeSource(config.key === '' ? 'ads' : config.key)
    this.sources.set(config.key, source)
    return source
  }

  #publish(change: ConfigChange): void {
    this.changes.push(structuredClone(change))
    this.state.apply(change)
    const { clusters, routeTables, listeners } = this.state
    for (const table of routeTables.values()) {
      for (const name of clustersIn(table)) {
        if (!clusters.has(name) && !this.tolerated.has(name))
          this.broken.push(`table ${table.name} without cluster ${name}`)
      }
    }
    for (const listener of listeners.values()) {
      for (const table of tablesIn(listener)) {
        if (!routeTables.has(table) && !this.tolerated.has(table))
          this.broken.push(`listener ${listener.name} without table ${table}`)
      }
      for (const name of clustersIn(listener)) {
        if (!clusters.has(name) && !this.tolerated.has(name))
          this.broken.push(`listener ${listener.name} without cluster ${name}`)
      }
    }
  }
}

/** Names of clusters anywhere in a configuration's routes. */
export function clustersIn(config: unknown): string[] {
  const names = new Set<string>()
  JSON.stringify(config, (_, value: unknown) => {
    if (typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'cluster' && 'name' in value) {
      names.add(String(value.name))
    }
    return value
  })
  return [...names]
}

function tablesIn({ filterChains }: ListenerConfig): string[] {
  return filterChains.flatMap(({ http }) => [
    ...(http?.routeTable === undefined ? [] : [http.routeTable]),
    ...(http?.scopedRoutes?.scopes.flatMap(({ routeTable }) => (routeTable === undefined ? [] : [routeTable])) ?? []),
  ])
}

// --- resources ------------------------------------------------------------------------------------------------------

export function edsCluster(name: string, more: Readonly<Record<string, Json>> = {}): Json {
  return { name, type: 'EDS', eds_cluster_config: { eds_config: ADS }, connect_timeout: '1s', ...more }
}

export function staticCluster(name: string, port = 80): Json {
  return { name, type: 'STATIC', connect_timeout: '1s', load_assignment: endpoints(name, port) as Json }
}

export function endpoints(cluster: string, ...ports: readonly number[]): Json {
  const lb = ports.map((port) => ({
    endpoint: { address: { socket_address: { address: '10.0.0.1', port_value: port } } },
  }))
  return { cluster_name: cluster, endpoints: [{ lb_endpoints: lb }] }
}

export function routes(name: string, ...clusters: readonly string[]): Json {
  return {
    name,
    virtual_hosts: [
      {
        name: 'all',
        domains: ['*'],
        routes: clusters.map((cluster) => ({ match: { prefix: `/${cluster}` }, route: { cluster } })),
      },
    ],
  }
}

export const ROUTER = {
  name: 'envoy.filters.http.router',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
}

export interface ListenerShape {
  /** Fields of the connection manager; by default `rds` of a table called `table`. */
  readonly manager?: Readonly<Record<string, Json>>
  readonly filters?: readonly Json[]
  readonly transport?: Json
  readonly port?: number
  readonly more?: Readonly<Record<string, Json>>
}

export function rds(table: string, source: Json = ADS): Readonly<Record<string, Json>> {
  return { rds: { route_config_name: table, config_source: source } }
}

export function listener(
  name: string,
  { manager = rds('table'), filters = [], transport, port = 0, more }: ListenerShape = {},
): Json {
  return {
    name,
    address: { socket_address: { address: '127.0.0.1', port_value: port } },
    filter_chains: [
      {
        ...(transport !== undefined && { transport_socket: transport }),
        filters: [
          {
            name: 'http',
            typed_config: {
              '@type':
                'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
              stat_prefix: name,
              http_filters: [...filters, ROUTER],
              ...manager,
            },
          },
        ],
      },
    ],
    ...more,
  }
}
