import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Test } from 'tap'
import { systemClock } from '../../lib/core/clock.ts'
import { Headers } from '../../lib/core/headers.ts'
import type { Log } from '../../lib/core/metrics.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { GrpcClient } from '../../lib/grpc/client.ts'
import { ENVOY_HTTP2 } from '../../lib/http2/config.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { UpstreamCluster } from '../../lib/upstream/cluster.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import { DnsResolvers } from '../../lib/upstream/discovery/dns/resolver.ts'
import type { ApiSourceConfig, ConfigSourceConfig, GrpcTargetConfig } from '../../xds-client/config.ts'
import { describeNode } from '../../xds-client/node.ts'
import type { DiscoverySource, SubscribeOptions, Subscription } from '../../xds-client/source.ts'
import { type OpenSources, openSources, type SourcesOptions } from '../../xds-client/transport/open-sources.ts'
import { TestClock } from '../support/clock.ts'
import { watchLeaks } from '../support/leaks.ts'
import { Watcher } from './protocol-rig.ts'

/** One for all tests of a file: making one takes 80 ms. */
export const registry = createProtoRegistry()

const PATIENCE_MS = 10_000
const THRESHOLDS = { maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024, maxRetries: 3 }

/** Turns the loop until it is so. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const giveUpMs = performance.now() + PATIENCE_MS
  while (!condition()) {
    if (performance.now() > giveUpMs) throw new Error(`waited for ${what}`)
    await nextTurn()
  }
}

export function target(cluster: string, more: Partial<GrpcTargetConfig> = {}): GrpcTargetConfig {
  return { cluster, authority: '', initialMetadata: [], ...more }
}

export function api(kind: ApiSourceConfig['api'], more: Partial<ApiSourceConfig> = {}): ApiSourceConfig {
  return {
    kind: 'api',
    api: kind,
    targets: [target('plane')],
    refreshMs: 1_000,
    requestTimeoutMs: 1_000,
    nodeOnFirstMessageOnly: true,
    ...more,
  }
}

/** Where a cluster of the test goes. */
export interface Place extends Partial<Pick<ClusterConfig, 'tls' | 'protocol' | 'http2'>> {
  readonly port?: number
  readonly path?: string
}

/** Sources over real clusters, their clock moved by hand. */
export class WireRig {
  readonly clock = new TestClock()
  readonly metrics = new MetricsStore()
  readonly warnings: string[] = []
  readonly infos: string[] = []
  readonly wheel = new TimerWheel(systemClock)
  readonly clusters = new Map<string, UpstreamCluster>()
  readonly sources: OpenSources
  /** Clients that were made, by target. */
  readonly made: string[] = []
  /** Of the next clients. */
  token = 'token-1'
  readonly #dns = new DnsResolvers({ clock: systemClock })
  readonly #log: Log
  #connections = 0

  /** `leaks` false: what is left behind is not looked for (a TLS session that was reset shows until it is collected). */
  constructor(
    t: Test,
    { leaks: look = true, ...options }: Partial<SourcesOptions> & { readonly leaks?: boolean } = {},
  ) {
    const leaks = look ? watchLeaks() : undefined
    this.#log = {
      debug: () => undefined,
      info: (message) => void this.infos.push(message),
      warn: (message, fields) => void this.warnings.push(`${message} ${JSON.stringify(fields)}`),
      error: (message, fields) => void this.warnings.push(`${message} ${JSON.stringify(fields)}`),
    }
    const node = { id: 'test-node', cluster: 'test', metadata: { role: 'gateway' } }
    this.sources = openSources({
      ads: undefined,
      registry,
      node: describeNode({ node, version: '1.2.3-dev', extensions: [] }),
      clock: this.clock,
      turn: this.wheel.turn,
      random: () => 0.5,
      log: this.#log,
      metrics: this.metrics,
      cluster: (name) => this.clusters.get(name),
      grpcClient: (to) => this.#client(to),
      ...options,
    })
    t.teardown(async () => {
      this.close()
      await leaks?.assertNone()
    })
  }

  #client(to: GrpcTargetConfig): GrpcClient {
    this.made.push(to.cluster)
    return new GrpcClient({
      cluster: () => this.clusters.get(to.cluster),
      authority: 'plane.test',
      wheel: this.wheel,
      log: this.#log,
      initialMetadata: new Headers(['authorization', `Bearer ${this.token}`]),
    })
  }

  async addCluster(name: string, { port = 0, path, ...more }: Place): Promise<void> {
    const address =
      path === undefined ? ({ kind: 'ip', host: '127.0.0.1', port } as const) : ({ kind: 'pipe', path } as const)
    const config: ClusterConfig = {
      name,
      statName: name,
      type: 'static',
      localities: [{ priority: 0, endpoints: [{ address, weight: 1, health: 'healthy' }] }],
      balancer: { kind: 'round-robin' },
      connectTimeoutMs: 5_000,
      bufferLimitBytes: 1 << 20,
      thresholds: { default: THRESHOLDS, high: THRESHOLDS },
      idleTimeoutMs: 3_600_000,
      maxResponseHeaderBytes: 61_440,
      maxResponseHeaders: 100,
      protocol: 'http2',
      http1: { headerCase: 'lower', enableTrailers: false },
      http2: ENVOY_HTTP2,
      preconnectRatio: 1,
      ...more,
    }
    const cluster = new UpstreamCluster(config, {
      metrics: new MetricsStore(),
      wheel: this.wheel,
      random: Math.random,
      log: this.#log,
      dns: this.#dns,
      nextConnectionId: () => ++this.#connections,
    })
    await cluster.warm()
    this.clusters.set(name, cluster)
  }

  open(source: ConfigSourceConfig['source'], key = 'key'): DiscoverySource {
    return this.sources.open({ key, source, initialFetchTimeoutMs: 15_000 })
  }

  close(): void {
    this.sources[Symbol.dispose]()
    for (const cluster of this.clusters.values()) cluster.destroy()
    this.wheel.close()
    this.#dns[Symbol.dispose]()
  }
}

/** A watcher of a source, and its subscription. */
export function watch(
  source: DiscoverySource,
  typeName: string,
  names: readonly string[],
  more: Partial<SubscribeOptions> = {},
): Watcher & { readonly sub: Subscription } {
  const watcher = new Watcher()
  const sub = source.subscribe({ typeName, initialFetchTimeoutMs: 15_000, ...more }, watcher)
  sub.want(new Set(names))
  return Object.assign(watcher, { sub })
}
