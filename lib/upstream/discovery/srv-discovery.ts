import { type Address, formatHostPort } from '../../core/address.ts'
import type { ClusterConfig } from '../config.ts'
import type { ResolvedEndpoint, ResolvedLocality } from '../host.ts'
import { type AddressFilter, compileAddressFilter, lookupOf } from './address-filter.ts'
import type { DnsConfig } from './config.ts'
import type { Discovery, DiscoveryOptions, OnMembership } from './discovery.ts'
import { DEFAULT_DNS } from './discovery.ts'
import type { ServiceRecord } from './dns/message.ts'
import type { DnsMissed, DnsResolver, DnsResult, ServicesResult } from './dns/resolver.ts'
import { isAbsence } from './dns/resolver.ts'
import { isHostName } from './forward-proxy.ts'
import { NameRefresh } from './name-refresh.ts'

/** Of longer answers the first by priority, then in the order of text, so that rotation takes the same ones. */
const MAX_RECORDS = 1024
/** As many levels as clusters have (Envoy's limit); what is behind them shares the last one. */
const MAX_LEVELS = 128
const UNUSABLE: DnsMissed = Object.freeze({ ok: false, reason: 'EBADRESP' })

/** A host that records name: however many do, it is looked up once. The last good answer stays through failures. */
interface Target {
  readonly name: string
  addresses: readonly string[]
  failing: boolean
  readonly refresh: NameRefresh<DnsResult>
  /** Resolves when it has been looked up once, or is wanted no more. */
  readonly first: Promise<void>
}

/**
 * The endpoints of a service, as its SRV records say (RFC 2782): ports from the records, their priorities, in order, as ours
 * from 0 on, their weights as weights. Each record is one endpoint, whose connections go to whichever address of its target
 * answers first. The records and each target are refreshed in their own time, and what they say last stays through failures;
 * the one record "." says that there is no such service, and takes all endpoints away.
 */
export class SrvDiscovery implements Discovery {
  readonly #name: string
  readonly #options: DiscoveryOptions
  readonly #dns: DnsConfig
  readonly #resolver: DnsResolver
  readonly #admits: AddressFilter | undefined
  readonly #refresh: NameRefresh<ServicesResult>
  readonly #targets = new Map<string, Target>()
  #records: readonly ServiceRecord[] = []
  #failing = false
  #isLong = false
  /** Answers with other records so far. */
  #round = 0
  /** All targets of `#records` are known, or have failed: until then what was told before stays. */
  #ready = false
  #first: Promise<void> | undefined = undefined
  #onUpdate: OnMembership | undefined = undefined
  #closed = false

  constructor(config: ClusterConfig, options: DiscoveryOptions) {
    const { clock, random, dns: resolvers } = options
    const dns = config.dns ?? DEFAULT_DNS
    const name = config.service ?? ''
    const resolver = resolvers.for(dns.resolvers, dns.asking)
    const ask = (): Promise<ServicesResult> => resolver.services(name, dns.queryTimeoutMs)
    this.#name = name
    this.#options = options
    this.#dns = dns
    this.#resolver = resolver
    this.#admits = dns.addresses && compileAddressFilter(dns.addresses)
    this.#refresh = new NameRefresh({ ask, dns, clock, random }, this.#attempt, (result) => this.#take(result))
  }

  async start(onUpdate: OnMembership): Promise<void> {
    this.#onUpdate = onUpdate
    await this.#refresh.start()
    await this.#first
  }

  close(): void {
    this.#closed = true
    this.#onUpdate = undefined
    this.#refresh.close()
    for (const { refresh } of this.#targets.values()) refresh.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  readonly #attempt = (): void => {
    this.#options.stats.updateAttempt.v++
  }

  #take(result: ServicesResult): void {
    if (!result.ok) {
      this.#failed(this.#name, result, { failing: this.#failing, kept: this.#records.length })
      this.#failing = true
      return
    }
    const { stats } = this.#options
    const records = this.#usable(result.records)
    // What cannot be used says nothing; "." does.
    if (records.length === 0 && result.records.some(({ target }) => target !== '')) {
      this.#failed(this.#name, UNUSABLE, { failing: this.#failing, kept: this.#records.length })
      this.#failing = true
      return
    }
    stats.updateSuccess.v++
    this.#failing = false
    if (sameRecords(this.#records, records)) {
      stats.updateNoRebuild.v++
      return
    }
    this.#records = records
    const wanted = new Set(records.map(({ target }) => target))
    for (const [name, { refresh }] of this.#targets) {
      if (wanted.has(name)) continue
      this.#targets.delete(name)
      refresh.close()
    }
    for (const name of wanted) if (!this.#targets.has(name)) this.#follow(name)
    const ready = this.#settle(++this.#round)
    this.#first ??= ready
  }

  async #settle(round: number): Promise<void> {
    this.#ready = false
    await Promise.all([...this.#targets.values()].map(({ first }) => first))
    if (round !== this.#round) return
    this.#ready = true
    this.#publish()
  }

  /** What can be connected to, each once, in one order. */
  #usable(given: readonly ServiceRecord[]): readonly ServiceRecord[] {
    const records: ServiceRecord[] = []
    const seen = new Set<string>()
    for (const record of [...given].sort(inOrder)) {
      const key = formatHostPort(record.target, record.port)
      if (record.port === 0 || !isHostName(record.target) || seen.has(key)) continue
      seen.add(key)
      records.push(record)
    }
    const isLong = records.length > MAX_RECORDS
    if (isLong && !this.#isLong) {
      const fields = { name: this.#name, records: records.length, taken: MAX_RECORDS }
      this.#options.log.warn('a service has more SRV records than are taken', fields)
    }
    this.#isLong = isLong
    return isLong ? records.slice(0, MAX_RECORDS) : records
  }

  /** Looks a target up from now on. */
  #follow(name: string): void {
    const { clock, random } = this.#options
    const dns = this.#dns
    // Targets are whole names: no search domains are tried.
    const ask = lookupOf(`${name}.`, { resolver: this.#resolver, dns, admits: this.#admits })
    const refresh = new NameRefresh({ ask, dns, clock, random }, this.#attempt, (result) => this.#found(target, result))
    const target: Target = { name, addresses: [], failing: false, refresh, first: refresh.start() }
    this.#targets.set(name, target)
  }

  #found(target: Target, result: DnsResult): void {
    if (!result.ok) {
      this.#failed(target.name, result, { failing: target.failing, kept: target.addresses.length })
      target.failing = true
      return
    }
    const { stats } = this.#options
    stats.updateSuccess.v++
    target.failing = false
    if (sameAddresses(target.addresses, result.addresses)) {
      stats.updateNoRebuild.v++
      return
    }
    target.addresses = result.addresses
    if (this.#ready) this.#publish()
  }

  /** Told once for each outage. */
  #failed(name: string, { reason }: DnsMissed, { failing, kept }: { failing: boolean; kept: number }): void {
    const { stats, log } = this.#options
    stats.updateFailure.v++
    if (isAbsence(reason)) stats.updateEmpty.v++
    if (!failing)
      log.warn('DNS resolution failed, what was known last stays', { service: this.#name, name, reason, kept })
  }

  #publish(): void {
    if (this.#closed) return
    const levels: { readonly priority: number; readonly endpoints: ResolvedEndpoint[] }[] = []
    let last = -1
    for (const record of this.#records) {
      // Levels are those of all records: a target that is not known yet moves nobody else.
      if (record.priority !== last && levels.length < MAX_LEVELS) {
        levels.push({ priority: levels.length, endpoints: [] })
      }
      last = record.priority
      const { addresses = [] } = this.#targets.get(record.target) ?? {}
      if (addresses.length > 0) levels[levels.length - 1].endpoints.push(endpointOf(record, addresses))
    }
    const localities: readonly ResolvedLocality[] = levels.length === 0 ? [{ priority: 0, endpoints: [] }] : levels
    this.#onUpdate?.(localities)
  }
}

/** A weight of 0 stands for "hardly ever" beside larger ones (RFC 2782), which the smallest of ours is. */
function endpointOf({ target, port, weight }: ServiceRecord, hosts: readonly string[]): ResolvedEndpoint {
  const [address, ...more] = hosts.map((host): Address => ({ kind: 'ip', host, port }))
  return {
    key: formatHostPort(target, port),
    hostname: target,
    address,
    weight: Math.max(1, weight),
    health: 'healthy',
    ...(more.length > 0 && { additionalAddresses: more }),
  }
}

function inOrder(a: ServiceRecord, b: ServiceRecord): number {
  return (
    a.priority - b.priority ||
    (a.target < b.target ? -1 : Number(a.target > b.target)) ||
    a.port - b.port ||
    b.weight - a.weight
  )
}

/** Both are in order. */
function sameRecords(a: readonly ServiceRecord[], b: readonly ServiceRecord[]): boolean {
  return a.length === b.length && a.every((one, i) => inOrder(one, b[i]) === 0)
}

/** As sets: name servers rotate their answers. */
function sameAddresses(a: readonly string[], b: readonly string[]): boolean {
  const known = new Set(a)
  return b.length === known.size && b.every((address) => known.has(address))
}
