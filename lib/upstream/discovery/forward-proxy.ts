import { type Address, formatHostPort, isIp } from '../../core/address.ts'
import type { Waiter } from '../../core/attempt.ts'
import type { Cancel } from '../../core/clock.ts'
import { FAILURES, type Failure } from '../../core/failure.ts'
import type { ClusterConfig } from '../config.ts'
import type { ResolvedEndpoint } from '../host.ts'
import { type AddressFilter, compileAddressFilter, DENIED, lookupOf } from './address-filter.ts'
import type { DnsConfig, ForwardProxyConfig } from './config.ts'
import type { Demand, Discovery, DiscoveryOptions, OnEndpoint, OnMembership } from './discovery.ts'
import { DEFAULT_DNS } from './discovery.ts'
import type { DnsResult } from './dns/resolver.ts'
import { type DnsCacheStats, dnsCacheStats, unnamedCacheStats } from './dns-cache-stats.ts'
import { NameRefresh } from './name-refresh.ts'
import { NameStore, type StoredName } from './name-store.ts'

/** One name and port that somebody has asked for. */
interface Entry {
  readonly key: string
  readonly name: string
  readonly port: number
  /** Undefined until the first good answer; the last good one stays through failures. */
  endpoint: ResolvedEndpoint | undefined
  /** Undefined for IP addresses. */
  refresh: NameRefresh<DnsResult> | undefined
  /** The first answer, good or bad, while it is awaited. */
  first: Promise<Demand> | undefined
  /** Who awaits it. */
  waiting: number
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
 * more is refused (Envoy's DNS cache overflow). Addresses that `DnsConfig.addresses` does not admit are as if the answer had
 * not held them, and as names they are refused.
 */
export class ForwardProxyDiscovery implements Discovery {
  readonly #options: DiscoveryOptions
  readonly #limits: ForwardProxyConfig
  readonly #dns: DnsConfig
  readonly #admits: AddressFilter | undefined
  readonly #cache: DnsCacheStats
  /** Undefined: nothing is kept. */
  readonly #store: NameStore | undefined
  readonly #entries = new Map<string, Entry>()
  #pending = 0
  #onUpdate: OnMembership | undefined = undefined
  #onEndpoint: OnEndpoint | undefined = undefined
  #sweep: Cancel | undefined = undefined
  #closed = false

  constructor(config: ClusterConfig, options: DiscoveryOptions) {
    this.#options = options
    this.#limits = config.forwardProxy ?? DEFAULT_FORWARD_PROXY
    this.#dns = config.dns ?? DEFAULT_DNS
    this.#admits = this.#dns.addresses && compileAddressFilter(this.#dns.addresses)
    const { cache, store } = this.#limits
    const { metrics } = options
    this.#cache = cache === undefined || metrics === undefined ? unnamedCacheStats() : dnsCacheStats(metrics, cache)
    this.#store = store && new NameStore(store, options.clock, options.log)
  }

  async start(onUpdate: OnMembership, onEndpoint: OnEndpoint): Promise<void> {
    this.#onUpdate = onUpdate
    this.#onEndpoint = onEndpoint
    if (this.#store !== undefined) {
      for (const [key, name] of await this.#store.load()) this.#restore(key, name)
    }
    this.#publish()
    await Promise.all(this.#limits.preresolve.map(({ host, port }) => this.demand(host, port)))
  }

  demand(given: string, port: number, waiter?: Waiter | 'nobody'): Demand | Promise<Demand> {
    const name = given.toLowerCase().replace(/\.$/, '')
    const key = formatHostPort(name, port)
    const known = this.#entries.get(key)
    const now = this.#options.clock.now()
    if (known !== undefined) {
      known.usedMs = now
      if (known.endpoint !== undefined) return key
      return known.first === undefined ? FAILURES.dnsFailed : this.#join(known, known.first, waiter)
    }
    const refused = this.#refusal(name)
    if (refused !== undefined) return refused
    const entry = newEntry(key, { name, port, usedMs: now })
    this.#add(entry)
    if (isIp(name)) {
      entry.endpoint = endpointOf(entry, [name])
      this.#onEndpoint?.(entry.endpoint)
      return key
    }
    return this.#counted(entry, this.#lookUp(entry), waiter)
  }

  #add(entry: Entry): void {
    this.#entries.set(entry.key, entry)
    this.#cache.hostAdded.v++
    this.#cache.hosts.v++
    this.#sweepLater()
  }

  /** A name from before: it serves at once, and is looked up again at once. */
  #restore(key: string, { addresses }: StoredName): void {
    const at = key.lastIndexOf(':')
    const [name, port] = [key.slice(0, at), Number(key.slice(at + 1))]
    const usable = this.#admits === undefined ? addresses : addresses.filter(this.#admits)
    if (this.#closed || this.#entries.has(key) || this.#entries.size >= this.#limits.maxHosts) return
    if (!isHostName(name) || !(port > 0 && port < 65_536) || usable.length === 0) return
    const entry = newEntry(key, { name, port, usedMs: this.#options.clock.now() })
    entry.endpoint = endpointOf(entry, usable)
    this.#add(entry)
    this.#cache.cacheLoad.v++
    void this.#lookUp(entry)
  }

  /** Why nothing is done about a name that is not known. */
  #refusal(name: string): Demand | undefined {
    if (this.#closed || !(isIp(name) || isHostName(name))) return FAILURES.dnsFailed
    if (isIp(name) && this.#admits?.(name) === false) return FAILURES.dnsFailed
    if (this.#entries.size >= this.#limits.maxHosts) {
      this.#cache.hostOverflow.v++
      return FAILURES.dnsCacheOverflow
    }
    return isIp(name) ? undefined : this.#crowded()
  }

  #crowded(): Failure | undefined {
    if (this.#pending < this.#limits.maxPending) return undefined
    this.#cache.pendingOverflow.v++
    return FAILURES.dnsPendingOverflow
  }

  /** One more who waits for the answer; each counts (as Envoy's pending requests). */
  #join(entry: Entry, first: Promise<Demand>, waiter: Waiter | 'nobody' | undefined): Demand | Promise<Demand> {
    return (waiter === 'nobody' ? undefined : this.#crowded()) ?? this.#counted(entry, first, waiter)
  }

  /** Counts until the answer is there, or until whoever waits has gone. */
  #counted(entry: Entry, first: Promise<Demand>, waiter: Waiter | 'nobody' | undefined): Promise<Demand> {
    if (waiter === 'nobody') return first
    this.#wait(entry, 1)
    if (waiter === undefined) return first
    const { signal } = waiter
    const leave = (): void => {
      if (entry.first === first) this.#wait(entry, -1)
    }
    signal.addEventListener('abort', leave, { once: true })
    void first.then(() => signal.removeEventListener('abort', leave))
    return first
  }

  #lookUp(entry: Entry): Promise<Demand> {
    const { clock, random, stats, dns: resolvers } = this.#options
    const dns = this.#dns
    const resolver = resolvers.for(dns.resolvers, dns.asking)
    const options = { ask: lookupOf(entry.name, { resolver, dns, admits: this.#admits }), dns, clock, random }
    const onAttempt = (): void => {
      stats.updateAttempt.v++
      this.#cache.queryAttempt.v++
    }
    const refresh = new NameRefresh(options, onAttempt, (result) => this.#take(entry, result))
    entry.refresh = refresh
    entry.first = refresh.start().then(() => {
      this.#wait(entry, -entry.waiting)
      entry.first = undefined
      return entry.endpoint === undefined ? FAILURES.dnsFailed : entry.key
    })
    return entry.first
  }

  #wait(entry: Entry, more: number): void {
    const { maxPending } = this.#limits
    const wasFull = this.#pending >= maxPending
    entry.waiting += more
    this.#pending += more
    const full = this.#pending >= maxPending
    if (full !== wasFull) this.#cache.pendingOpen.v += full ? 1 : -1
  }

  #take(entry: Entry, result: DnsResult): void {
    const { stats, log } = this.#options
    const cache = this.#cache
    if (!result.ok) {
      stats.updateFailure.v++
      if (result.reason === 'ETIMEOUT') cache.queryTimeout.v++
      cache.queryFailure.v++
      if (result.reason === DENIED) log.warn('a name leads to addresses that may not be used', { name: entry.name })
      if (this.#limits.dropFailed === true) this.#drop(entry)
      return
    }
    stats.updateSuccess.v++
    cache.querySuccess.v++
    this.#store?.set(entry.key, result.addresses)
    const next = endpointOf(entry, result.addresses)
    if (entry.endpoint !== undefined && sameHosts(entry.endpoint, next)) {
      stats.updateNoRebuild.v++
      return
    }
    const known = entry.endpoint !== undefined
    entry.endpoint = next
    if (known) {
      cache.hostAddressChanged.v++
      this.#publish()
    } else this.#onEndpoint?.(next)
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
    let published = false
    for (const entry of this.#entries.values()) {
      if (entry.usedMs > usedBeforeMs) continue
      published ||= entry.endpoint !== undefined
      this.#remove(entry)
    }
    if (published) this.#publish()
  }

  #drop(entry: Entry): void {
    this.#remove(entry)
    if (entry.endpoint !== undefined) this.#publish()
  }

  #remove(entry: Entry): void {
    this.#end(entry)
    this.#store?.remove(entry.key)
    this.#entries.delete(entry.key)
  }

  #end(entry: Entry): void {
    entry.refresh?.close()
    this.#cache.hostRemoved.v++
    this.#cache.hosts.v--
  }

  /** What is known stays, for requests that have got the cluster. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#onUpdate = undefined
    this.#onEndpoint = undefined
    this.#sweep?.()
    this.#sweep = undefined
    this.#store?.close()
    for (const entry of this.#entries.values()) this.#end(entry)
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
export function isHostName(name: string): boolean {
  return name.length <= 253 && HOST_NAME.test(name) && !/(?:^|\.)\d+$/.test(name)
}

function newEntry(key: string, known: Pick<Entry, 'name' | 'port' | 'usedMs'>): Entry {
  return { key, ...known, endpoint: undefined, refresh: undefined, first: undefined, waiting: 0 }
}

/** All of its addresses are one host's: a connection goes to the one that answers first. */
function endpointOf({ key, name, port }: Entry, hosts: readonly string[]): ResolvedEndpoint {
  const [first, ...more] = hosts.map((host): Address => ({ kind: 'ip', host, port }))
  const endpoint = { key, hostname: name, address: first, weight: 1, health: 'healthy' as const }
  return more.length === 0 ? endpoint : { ...endpoint, additionalAddresses: more }
}

/** As sets: name servers rotate their answers. */
function sameHosts(a: ResolvedEndpoint, b: ResolvedEndpoint): boolean {
  const before = new Set(addressesOf(a))
  const after = addressesOf(b)
  return after.length === before.size && after.every((host) => before.has(host))
}

function addressesOf({ address, additionalAddresses = [] }: ResolvedEndpoint): string[] {
  return [address, ...additionalAddresses].map((one) => (one.kind === 'ip' ? one.host : ''))
}
