import type { Scope } from '../../lib/chain/filter.ts'
import type {
  AnyListenerFilterFactory,
  AnyNetworkFilterFactory,
  ListenerFilter,
  NetworkConnection,
  NetworkFilter,
  NetworkScope,
} from '../../lib/chain/network.ts'
import type {
  FilterChainConfig,
  FilterChainMatchConfig,
  ListenerConfig,
  ListenerFilterConfig,
  NetworkFilterConfig,
} from '../../lib/config/listener.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { Clock } from '../../lib/core/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { type Wire, WireClient } from '../support/wire.ts'

/** A listener on any port of 127.0.0.1 with one chain, which echoes. */
export function listenerOf(fields: Partial<ListenerConfig> = {}): ListenerConfig {
  return {
    name: 'main',
    statPrefix: fields.name ?? 'main',
    addresses: [{ kind: 'ip', host: '127.0.0.1', port: 0 }],
    internal: false,
    bufferLimitBytes: 64 * 1024,
    filterChains: [chainOf({})],
    listenerFilters: [],
    listenerFiltersTimeoutMs: 5_000,
    continueOnListenerFiltersTimeout: false,
    backlog: 511,
    drainType: 'default',
    ignoreGlobalLimit: false,
    accessLogs: [],
    ...fields,
  }
}

/** A chain that sends its name and a newline, and echoes from there on. */
export function chainOf({ match, ...fields }: ChainFields): FilterChainConfig {
  return {
    name: 'echo',
    networkFilters: [networkFilter('test-echo')],
    ...fields,
    ...(match && {
      match: {
        destinations: [],
        serverNames: [],
        applicationProtocols: [],
        directSources: [],
        sourceType: 'any',
        sources: [],
        sourcePorts: [],
        ...match,
      },
    }),
  }
}

export type ChainFields = Omit<Partial<FilterChainConfig>, 'match'> & {
  readonly match?: Partial<FilterChainMatchConfig>
}

export function networkFilter(name: string): NetworkFilterConfig {
  return { name, typeUrl: name, config: {} }
}

export function listenerFilter(name: string, fields: Partial<ListenerFilterConfig> = {}): ListenerFilterConfig {
  return { name, typeUrl: name, config: {}, ...fields }
}

/** What the echo has been told, over all its connections. */
export interface EchoLog {
  draining: number
  closed: number
  /** Snapshots of it that were disposed of. */
  disposed: number
  readonly connections: NetworkConnection[]
}

/** A gateway whose configuration is made by hand, with these listener filters by name. */
export class Rig {
  readonly echo: EchoLog = { draining: 0, closed: 0, disposed: 0, connections: [] }
  readonly client = new WireClient()
  disposedListenerFilters = 0
  #config: GatewayConfig
  #gateway: TestGateway | undefined

  private constructor(config: Partial<GatewayConfig>) {
    this.#config = complete(config)
  }

  static async start(
    t: { teardown(run: () => Promise<void>): void },
    config: Partial<GatewayConfig>,
    options: {
      readonly filters?: { readonly [name: string]: ListenerFilter<never> | ListenerFilter }
      readonly clock?: Clock
    } = {},
  ): Promise<Rig> {
    const rig = new Rig(config)
    const { filters = {}, clock } = options
    rig.#gateway = await TestGateway.start(
      {},
      {
        ...(clock && { clock }),
        networkFilters: [rig.#echoFactory()],
        listenerFilters: Object.entries(filters).map(([name, filter]) =>
          factoryOf(name, filter as ListenerFilter, () => void rig.disposedListenerFilters++),
        ),
        adjust: () => rig.#config,
      },
    )
    t.teardown(async () => {
      await rig.client.closeAll()
      await rig.gateway.close()
    })
    return rig
  }

  #echoFactory(): AnyNetworkFilterFactory {
    const log = this.echo
    const filter: NetworkFilter = {
      onConnect(connection) {
        log.connections.push(connection)
        connection.write(Buffer.from(`${connection.facts.filterChainName}\n`))
      },
      onRead(connection, chunk, end) {
        if (chunk.length > 0) connection.write(Buffer.from(chunk))
        if (end) connection.end()
        return null
      },
      onDraining: () => void log.draining++,
      onClose: () => void log.closed++,
    }
    return {
      name: 'test-echo',
      typeUrls: ['test-echo'],
      terminal: true,
      parse: () => ({}),
      compile(_config: unknown, scope: NetworkScope) {
        scope.own({ [Symbol.dispose]: () => void log.disposed++ })
        return filter
      },
    }
  }

  get gateway(): TestGateway {
    if (this.#gateway === undefined) throw new Error('not started')
    return this.#gateway
  }

  get config(): GatewayConfig {
    return this.#config
  }

  /** The next configuration. */
  async apply(config: Partial<GatewayConfig>): Promise<void> {
    this.#config = complete(config)
    await this.gateway.apply({})
  }

  connect(listener = 'main'): Promise<Wire> {
    return this.client.connect(this.gateway.port(listener))
  }

  /** How a connection ends that is turned away at once, which the client may learn while it connects. */
  async turnedAway(listener = 'main'): Promise<string> {
    try {
      return await (await this.connect(listener)).expectEnd()
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ECONNRESET' ? 'reset' : String(error)
    }
  }

  /** The facts of the latest connection that the echo has. */
  get facts(): NetworkConnection['facts'] {
    const last = this.echo.connections.at(-1)
    if (last === undefined) throw new Error('no connection yet')
    return last.facts
  }
}

function complete(config: Partial<GatewayConfig>): GatewayConfig {
  return { node: { id: '', cluster: '' }, listeners: [], clusters: [], runtime: {}, ignored: [], ...config }
}

function factoryOf(name: string, filter: ListenerFilter, disposed: () => void): AnyListenerFilterFactory {
  return {
    name,
    typeUrls: [name],
    parse: () => ({}),
    compile(_config: unknown, scope: Scope) {
      scope.own({ [Symbol.dispose]: disposed })
      return filter
    },
  }
}
