import { canonicalIp, isIp } from '../../../core/address.ts'
import type { Clock } from '../../../core/clock.ts'
import type { DnsAskingConfig, DnsConfig } from '../config.ts'
import type { HostsFile } from './hosts-file.ts'
import type { ServiceRecord } from './message.ts'
import type { ResolvConf } from './resolv-conf.ts'
import { DEFAULT_RESOLV_CONF, searchOrder } from './resolv-conf.ts'
import type { ReadText } from './system-files.ts'
import { SystemFiles } from './system-files.ts'
import type { DnsReply, IpFamily, MakeTransport } from './transport.ts'
import { SharedQueries, standardTransport } from './transport.ts'

export type DnsFamily = DnsConfig['family']

/** Addresses in the order of the answer, without repetition; `ttlMs` is the shortest, undefined where DNS was not asked. */
export interface DnsFound {
  readonly ok: true
  readonly addresses: readonly string[]
  readonly ttlMs: number | undefined
}

/** `reason` is c-ares' word: `ENOTFOUND` and `ENODATA` are answers, anything else is trouble on the way. */
export interface DnsMissed {
  readonly ok: false
  readonly reason: string
}

export type DnsResult = DnsFound | DnsMissed

/** Where a service is; `ttlMs` is the shortest of its records. */
export interface ServicesFound {
  readonly ok: true
  readonly records: readonly ServiceRecord[]
  readonly ttlMs: number
}

export type ServicesResult = ServicesFound | DnsMissed

/** Of one name and family; of longer answers the first in the order of text, so that rotation takes the same ones. */
export const MAX_ADDRESSES = 1024
const DEADLINE_MS = 15_000
const NO_ASKING: DnsAskingConfig = Object.freeze({})

interface ResolverParts {
  readonly servers: readonly string[]
  readonly asking: DnsAskingConfig
  readonly files: SystemFiles
}

export interface DnsOptions {
  readonly clock: Clock
  /** Default: the machine's files. */
  readonly readText?: ReadText
  /** Default: `standardTransport`. */
  readonly makeTransport?: MakeTransport
}

/** The resolvers of one process: one per list of name servers and way to ask, so that clusters share what they ask. */
export class DnsResolvers implements Disposable {
  readonly #options: DnsOptions
  readonly #files: SystemFiles
  readonly #byServers = new Map<string, DnsResolver>()

  constructor(options: DnsOptions) {
    this.#options = options
    this.#files = new SystemFiles(options.clock, options.readText)
  }

  /** `servers` as in `DnsConfig.resolvers`; empty: those of the machine. Throws on one that is no IP address. */
  for(servers: readonly string[], asking: DnsAskingConfig = NO_ASKING): DnsResolver {
    const key = `${servers.join(' ')} ${JSON.stringify(asking)}`
    let resolver = this.#byServers.get(key)
    if (resolver === undefined) {
      resolver = new DnsResolver({ servers, asking, files: this.#files }, this.#options)
      this.#byServers.set(key, resolver)
    }
    return resolver
  }

  /** Ends all queries under way. */
  [Symbol.dispose](): void {
    for (const resolver of this.#byServers.values()) resolver.close()
    this.#byServers.clear()
  }
}

/**
 * Resolves names as getaddrinfo(3) would: IP literals pass, then /etc/hosts, `localhost` (RFC 6761 §6.3: never asked
 * for), then DNS with the search domains and `ndots` of /etc/resolv.conf, which `resolve4` knows nothing of.
 *
 * The search goes on after "no such name" and "no such record" only. Unlike glibc it stops at SERVFAIL and timeouts: an
 * outage must not send traffic to the next domain's host of that name.
 */
export class DnsResolver {
  readonly #servers: readonly string[]
  readonly #asking: DnsAskingConfig
  readonly #files: SystemFiles
  readonly #clock: Clock
  readonly #makeTransport: MakeTransport
  #queries: SharedQueries | undefined = undefined
  #queriesKey = ''
  #closed = false

  constructor({ servers, asking, files }: ResolverParts, options: DnsOptions) {
    this.#servers = servers
    this.#asking = asking
    this.#files = files
    this.#clock = options.clock
    this.#makeTransport = options.makeTransport ?? standardTransport
    // At once, so that a wrong address is an error where it was configured.
    if (servers.length > 0) this.#queriesTo(DEFAULT_RESOLV_CONF)
  }

  /** Never rejects. `deadlineMs`: for one name with all its search domains; what is asked still is left to end by itself. */
  async resolve(name: string, family: DnsFamily, deadlineMs: number = DEADLINE_MS): Promise<DnsResult> {
    if (isIp(name)) return found([name], undefined)
    const lower = name.toLowerCase()
    const bare = lower.endsWith('.') ? lower.slice(0, -1) : lower
    const { hosts, conf } = await this.#files.load()
    const local = localAddresses(bare, family, hosts)
    if (local.length > 0) return found(local, undefined)
    if (isLocalhost(bare)) return missed('ENODATA')
    const names = this.#asking.whole === true ? [bare] : searchOrder(lower, conf)
    return this.#beforeDeadline(
      this.#search(names, conf, (queries, one) => lookup(queries, one, family)),
      deadlineMs,
    )
  }

  /** The SRV records of a name (RFC 2782), which is completed like others. As `resolve`; /etc/hosts has none. */
  async services(name: string, deadlineMs: number = DEADLINE_MS): Promise<ServicesResult> {
    const lower = name.toLowerCase()
    const { conf } = await this.#files.load()
    const names = this.#asking.whole === true ? [lower.replace(/\.$/, '')] : searchOrder(lower, conf)
    const ask = async (queries: SharedQueries, one: string): Promise<ServicesResult> => {
      const { code, records } = await queries.services(one)
      if (code !== '') return missed(code)
      const ttlS = records.reduce((least, record) => Math.min(least, record.ttlS), Number.POSITIVE_INFINITY)
      return { ok: true, records, ttlMs: ttlS * 1000 }
    }
    return this.#beforeDeadline(this.#search(names, conf, ask), deadlineMs)
  }

  close(): void {
    this.#closed = true
    this.#queries?.close()
  }

  async #search<R extends DnsResult | ServicesResult>(
    names: readonly string[],
    conf: ResolvConf,
    ask: (queries: SharedQueries, name: string) => Promise<R>,
  ): Promise<R | DnsMissed> {
    let last: R | DnsMissed = missed('ENOTFOUND')
    for (const name of names) {
      if (this.#closed) return missed('ECANCELLED')
      const result = await ask(this.#queriesTo(conf), name)
      if (result.ok || !isAbsence(result.reason)) return result
      last = result
    }
    return last
  }

  /** The transport follows /etc/resolv.conf: a machine that moves to another network gets other name servers. */
  #queriesTo(conf: ResolvConf): SharedQueries {
    const own = this.#servers.length > 0 && (this.#asking.fallback !== true || conf.servers.length === 0)
    const servers = own ? this.#servers : conf.servers
    const timeoutMs = this.#asking.timeoutMs ?? conf.timeoutMs
    const attempts = this.#asking.tries ?? conf.attempts
    const { tcp, rotate, ednsBytes } = this.#asking
    const ways = { ...(tcp && { tcp }), ...(rotate && { rotate }), ...(ednsBytes !== undefined && { ednsBytes }) }
    const key = `${servers.join(' ')} ${timeoutMs} ${attempts}`
    if (this.#queries === undefined || this.#queriesKey !== key) {
      this.#queries = new SharedQueries(this.#makeTransport({ servers, timeoutMs, attempts, ...ways }, this.#clock))
      this.#queriesKey = key
    }
    return this.#queries
  }

  #beforeDeadline<R>(result: Promise<R>, deadlineMs: number): Promise<R | DnsMissed> {
    return new Promise((resolve) => {
      const cancel = this.#clock.schedule(deadlineMs, () => resolve(missed('ETIMEOUT')))
      void result.then((r) => {
        cancel()
        resolve(r)
      })
    })
  }
}

/** One name without search domains, by Envoy's `dns_lookup_family`. */
async function lookup(queries: SharedQueries, name: string, family: DnsFamily): Promise<DnsResult> {
  switch (family) {
    case 'v4-only':
      return addressesOf(await queries.query(name, 4))
    case 'v6-only':
      return addressesOf(await queries.query(name, 6))
    case 'auto':
      return firstOf(queries, name, [6, 4])
    case 'v4-preferred':
      return firstOf(queries, name, [4, 6])
    case 'all': {
      const [v6, v4] = await Promise.all([queries.query(name, 6), queries.query(name, 4)])
      return joined(addressesOf(v6), addressesOf(v4))
    }
  }
}

async function firstOf(queries: SharedQueries, name: string, [first, second]: IpFamily[]): Promise<DnsResult> {
  const preferred = addressesOf(await queries.query(name, first))
  return preferred.ok ? preferred : joined(preferred, addressesOf(await queries.query(name, second)))
}

/** Both families' addresses; where neither has any, trouble outweighs absence. */
function joined(a: DnsResult, b: DnsResult): DnsResult {
  if (a.ok && b.ok) {
    return found([...a.addresses, ...b.addresses], Math.min(a.ttlMs ?? Infinity, b.ttlMs ?? Infinity))
  }
  if (a.ok || (!b.ok && !isAbsence(a.reason))) return a
  return b
}

function addressesOf(reply: DnsReply): DnsResult {
  if (reply.code !== '') return missed(reply.code)
  if (reply.records.length === 0) return missed('ENODATA')
  let ttlS = Infinity
  const addresses = new Set<string>()
  for (const record of reply.records) {
    // RFC 2181 §8: a TTL with the highest bit set is to be taken as 0.
    ttlS = Math.min(ttlS, record.ttlS > 0x7fffffff ? 0 : record.ttlS)
    addresses.add(canonicalIp(record.address))
  }
  const list = [...addresses]
  return found(list.length > MAX_ADDRESSES ? list.sort().slice(0, MAX_ADDRESSES) : list, ttlS * 1000)
}

/** From /etc/hosts, else the loopback addresses for `localhost`; empty: ask DNS. */
function localAddresses(name: string, family: DnsFamily, hosts: HostsFile): readonly string[] {
  const known = hosts.get(name)
  const listed = known === undefined ? [] : ofFamily(known, family)
  if (listed.length > 0 || !isLocalhost(name)) return listed
  return ofFamily(['127.0.0.1', '::1'], family)
}

function isLocalhost(name: string): boolean {
  return name === 'localhost' || name.endsWith('.localhost')
}

function ofFamily(addresses: readonly string[], family: DnsFamily): readonly string[] {
  const v6 = addresses.filter((address) => address.includes(':'))
  const v4 = addresses.filter((address) => !address.includes(':'))
  switch (family) {
    case 'v4-only':
      return v4
    case 'v6-only':
      return v6
    case 'auto':
      return v6.length > 0 ? v6 : v4
    case 'v4-preferred':
      return v4.length > 0 ? v4 : v6
    case 'all':
      return [...v6, ...v4]
  }
}

/** The name servers answered: there is no such name, or none of that type. */
export function isAbsence(reason: string): boolean {
  return reason === 'ENOTFOUND' || reason === 'ENODATA'
}

function found(addresses: readonly string[], ttlMs: number | undefined): DnsFound {
  return { ok: true, addresses, ttlMs }
}

function missed(reason: string): DnsMissed {
  return { ok: false, reason }
}
