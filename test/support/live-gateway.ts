import type { AnyFilterFactory } from '../../lib/chain/registry.ts'
import { FilterRegistry } from '../../lib/chain/registry.ts'
import { standardFilters } from '../../lib/cli/standard-filters.ts'
import type { ConfigChange, ResourceChange } from '../../lib/config/change.ts'
import type { HttpConnectionManagerConfig, ListenerConfig } from '../../lib/config/listener.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import { readNativeConfig } from '../../lib/config/native/read.ts'
import type { FilterConfigs, RouteTableConfig, VirtualHostConfig } from '../../lib/router/config.ts'
import type { AssignmentConfig, ClusterConfig } from '../../lib/upstream/config.ts'
import { managerOf, tableOf } from './chains.ts'
import { type GatewayOptions, TestGateway } from './gateway.ts'
import { type Wire, WireClient, type WireResponse } from './wire.ts'

/** Parts of configurations as a control plane would bring them: by hand, or read from the native form. */
export class Parts {
  readonly #registry: FilterRegistry

  constructor(filters: readonly AnyFilterFactory[] = []) {
    this.#registry = new FilterRegistry([...standardFilters(), ...filters])
  }

  /** A listener on 127.0.0.1:0 with HTTP, whose routes are found as `where` says. */
  listener(name: string, where: Partial<HttpConnectionManagerConfig>, filters: readonly object[] = []): ListenerConfig {
    const http = {
      statPrefix: name,
      routes: [],
      ...(filters.length > 0 && { filters: [...filters, { name: 'router', type: 'router' }] }),
    }
    const native = { listeners: [{ name, address: '127.0.0.1:0', http }] }
    const [listener] = readNativeConfig(native, { registry: this.#registry }).listeners
    const { routes: _, ...manager } = managerOf(listener)
    return { ...listener, filterChains: [{ ...listener.filterChains[0], http: { ...manager, ...where } }] }
  }

  /** A route table of one virtual host for all names, unless `hosts` says otherwise. */
  table(name: string, routes: readonly object[], more: Partial<RouteTableConfig> = {}): RouteTableConfig {
    const clusters = [{ name: 'any', endpoints: ['127.0.0.1:1'] }]
    const native = { listeners: [{ address: '127.0.0.1:0', http: { routes } }], clusters }
    const [listener] = readNativeConfig(native, { registry: this.#registry }).listeners
    return { ...tableOf(managerOf(listener)), name, validateClusters: false, ...more }
  }

  /** A table that forwards everything to one cluster. */
  forwarding(name: string, cluster: string): RouteTableConfig {
    const table = this.table(name, [{ match: {}, action: { kind: 'route', cluster: 'any' } }])
    return { ...table, virtualHosts: table.virtualHosts.map((host) => towards(host, cluster)) }
  }

  /** A table that answers everything with one word. */
  saying(name: string, word: string): RouteTableConfig {
    return this.table(name, [{ match: {}, action: { kind: 'direct', status: 200, body: word } }])
  }

  /** A table whose routes from the first on have these settings for filters: type and value by the filter's name. */
  withSettings(table: RouteTableConfig, ...settings: readonly FilterConfigs[]): RouteTableConfig {
    const virtualHosts = table.virtualHosts.map((host) => ({
      ...host,
      routes: host.routes.map((route, i) => ({ ...route, ...(settings[i] && { filterConfigs: settings[i] }) })),
    }))
    return { ...table, virtualHosts }
  }

  /** A cluster of type `eds`. */
  cluster(name: string, more: Partial<ClusterConfig> = {}): ClusterConfig {
    const native = { listeners: [], clusters: [{ name, endpoints: ['127.0.0.1:1'] }] }
    const [cluster] = readNativeConfig(native, { registry: this.#registry }).clusters
    const balancer = { kind: 'round-robin' } as const
    return { ...cluster, type: 'eds', assignment: name, localities: [], balancer, ...more }
  }
}

function towards(host: VirtualHostConfig, name: string): VirtualHostConfig {
  const routes = host.routes.map((route) =>
    route.action.kind === 'route'
      ? { ...route, action: { ...route.action, cluster: { kind: 'cluster', name } } }
      : route,
  )
  return { ...host, routes: routes as VirtualHostConfig['routes'] }
}

export function assignment(name: string, ...ports: readonly number[]): AssignmentConfig {
  const endpoints = ports.map((port) => ({
    address: { kind: 'ip', host: '127.0.0.1', port } as const,
    weight: 1,
    health: 'healthy' as const,
  }))
  return { name, localities: [{ priority: 0, endpoints }] }
}

export function setting<T>(...set: readonly T[]): ResourceChange<T> {
  return { set, remove: [] }
}

export function removing(...remove: readonly string[]): ResourceChange<never> {
  return { set: [], remove }
}

/** A gateway that begins with nothing and gets everything by changes. */
export class LiveGateway {
  readonly gateway: TestGateway
  readonly client = new WireClient()

  private constructor(gateway: TestGateway) {
    this.gateway = gateway
  }

  static async start(
    t: { teardown(run: () => Promise<void>): void },
    options: GatewayOptions = {},
  ): Promise<LiveGateway> {
    const live = new LiveGateway(await TestGateway.start({}, { ...options, adjust: () => NOTHING }))
    t.teardown(async () => {
      await live.client.closeAll()
      await live.gateway.close()
    })
    return live
  }

  update(change: ConfigChange): Promise<void> {
    return this.gateway.engine.update(change)
  }

  connect(listener?: string): Promise<Wire> {
    return this.client.connect(this.gateway.port(listener))
  }

  /** One request on a connection of its own. */
  async get(listener?: string, head = ''): Promise<WireResponse> {
    const wire = await this.connect(listener)
    const response = await ask(wire, head)
    await wire.close()
    return response
  }

  stat(name: string): number {
    return this.gateway.stat(name)
  }
}

/** One request on a connection; `head`: fields, each with its line end. */
export async function ask(wire: Wire, head = '', path = '/'): Promise<WireResponse> {
  const host = /^host:/m.test(head) ? '' : 'host: a.test\r\n'
  await wire.write(`GET ${path} HTTP/1.1\r\n${host}${head}\r\n`)
  return wire.readResponse()
}

const NOTHING: GatewayConfig = Object.freeze({
  node: { id: '', cluster: '' },
  listeners: [],
  clusters: [],
  runtime: {},
  ignored: [],
})
