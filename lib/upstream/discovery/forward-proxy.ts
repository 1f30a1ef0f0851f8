import { formatHostPort, isIp } from '../../core/address.ts'
import type { Cancel } from '../../core/clock.ts'
import { FAILURES } from '../../core/failure.ts'
import type { ClusterConfig, DnsConfig, ForwardProxyConfig } from '../config.ts'
import type { ResolvedEndpoint } from '../host.ts'
import type { Demand, Discovery, DiscoveryOptions, OnMembership } from './discovery.ts'
import { DEFAULT_DNS } from './discovery.ts'
import type { DnsResult } from './dns/resolver.ts'
import { NameRefresh } from './name-refresh.ts'

/** One name and port that somebody has asked for. */
interface Entry {
  readonly key: string
  readonly name: string
  readonly port: number
  /** Undefined until the first good answer; the last good one stays through failures. */
  endpoint: ResolvedEndpoint | undefined
  /** Undefined for IP addresses. */
  refresh: NameRefresh | undefined
  /** The first answer, good or bad, while it is awaited. */
  first: Promise<Demand> | undefined
  usedMs: number
}

/** Envoy's defaults. */
export const DEFAULT_FORWARD_PROXY: ForwardProxyConfig = Object.freeze({
  hostTtlMs: 300_000,
  maxHosts: 1024,
  maxPending: 1024,
  preresolve: [],
})

/**
 * The hosts of a dynamic forward proxy: whatever names are asked for, each looked up when it is first wanted, refreshed
 * while it is in use, and forgotten when nobody has asked for it during `hostTtlMs`. The number of names is bounded: one
 * more is refused (Envoy's DNS cache overflow).
 */
export class ForwardProxyDiscovery implements Discovery {
  readonly #options: DiscoveryOptions
  readonly #limits: ForwardProxyConfig
  readonly #dns: DnsConfig
  readonly #entries = new Map<string, Entry>()
  #pending = 0
  #onUpdate: OnMembership | undefined = undefined
  #sweep: Cancel | undefined = undefined
  #closed = false

  constructor(config: ClusterConfig, options: DiscoveryOptions) {
    this.#options = options
    this.#limits = config.forwardProxy ?? DEFAULT_FORWARD_PROXY
    this.#dns = config.dns ?? DEFAULT_DNS
  }

  async start(onUpdate: OnMembership): Promise<void> {
    this.#onUpdate = onUpdate
    this.#publish()
    await Promise.all(this.#limits.preresolve.map(({ host, port }) => this.demand(host, port)))
  }

  demand(given: string, port: number): Demand | Promise<Demand> {
    const name = given.toLowerCase().replace(/\.$/, '')
    const key = formatHostPort(name, port)
    const known = this.#entries.get(key)
    const now = this.#options.clock.now()
    if (known !== undefined) {
      known.usedMs = now
      if (known.endpoint !== undefined) return key
      return known.first ?? FAILURES.dnsFailed
    }
    if (this.#closed || !(isIp(name) || isHostName(name))) return FAILURES.dnsFailed
    if (this.#entries.size >= this.#limits.maxHosts || this.#pending >= this.#limits.maxPending) {
      return FAILURES.overflow
    }
    const entry: Entry = { key, name, port, endpoint: undefined, refresh: undefined, first: undefined, usedMs: now }
    this.#entries.set(key, entry)
    this.#sweepLater()
    if (isIp(name)) {
      entry.endpoint = endpointOf(entry, name)
      this.#publish()
      return key
    }
    return this.#lookUp(entry)
  }

  #lookUp(entry: Entry): Promise<Demand> {
    const { clock, random, stats, dns: resolvers } = this.#options
    const options = { name: entry.name, dns: this.#dns, resolver: resolvers.for(this.#dns.resolvers), clock, random }
    const onAttempt = (): void => {
      stats.updateAttempt.v++
    }
    const refresh = new NameRefresh(options, onAttempt, (result) => this.#take(entry, result))
    entry.refresh = refresh
    this.#pending++
    entry.first = refresh.start().then(() => {
      this.#pending--
      entry.first = undefined
      return entry.endpoint === undefined ? FAILURES.dnsFailed : entry.key
    })
    return entry.first
  }

  #take(entry: Entry, result: DnsResult): void {
    const { stats } = this.#options
    if (!result.ok) {
      stats.updateFailure.v++
      return
    }
    stats.updateSuccess.v++
    const next = endpointOf(entry, result.addresses[0])
    const before = entry.endpoint?.address
    if (before?.kind === 'ip' && next.address.kind === 'ip' && before.host === next.address.host) {
      stats.updateNoRebuild.v++
      return
    }
    entry.endpoint = next
    this.#publish()
  }

  #publish(): void {
    const endpoints: ResolvedEndpoint[] = []
    for (const { endpoint } of this.#entries.values()) if (endpoint !== undefined) endpoints.push(endpoint)
    this.#onUpdate?.([{ priority: 0, endpoints }])
  }

  #sweepLater(): void {
    const { clock } = this.#options
    this.#sweep ??= clock.schedule(this.#limits.hostTtlMs, () => {
      this.#sweep = undefined
      this.#forget(clock.now() - this.#limits.hostTtlMs)
      if (this.#entries.size > 0) this.#sweepLater()
    })
  }

  /** Connections to hosts that are forgotten stay. */
  #forget(usedBeforeMs: number): void {
    const before = this.#entries.size
    for (const [key, entry] of this.#entries) {
      if (entry.usedMs > usedBeforeMs) continue
      entry.refresh?.close()
      this.#entries.delete(key)
    }
    if (this.#entries.size < before) this.#publish()
  }

  close(): void {
    this.#closed = true
    this.#onUpdate = undefined
    this.#sweep?.()
    this.#sweep = undefined
    for (const { refresh } of this.#entries.values()) refresh?.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

const HOST_NAME = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/

/**
 * RFC 1123 section 2.1, with the underscores that names in DNS have; a last label of digits would be (part of) an address.
 * What clients ask for comes into questions, logs and keys.
 */
function isHostName(name: string): boolean {
  return name.length <= 253 && HOST_NAME.test(name) && !/(?:^|\.)\d+$/.test(name)
}

function endpointOf({ key, name, port }: Entry, host: string): ResolvedEndpoint {
  return { key, hostname: name, address: { kind: 'ip', host, port }, weight: 1, health: 'healthy' }
}
