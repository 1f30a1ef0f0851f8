import type { Cluster, Clusters } from '../core/attempt.ts'
import type { Counter, Gauge, Histogram, Metrics } from '../core/metrics.ts'

/** Methods that calls may bring counters into being for, in one process. What exceeds them is counted per cluster. */
export const MAX_METHOD_NAMES = 1024

/** Gauge: how many of them there are. */
export const METHOD_NAMES_GAUGE = 'grpc.dynamic_method_names'

/** How calls are told apart in statistics. */
export interface MethodNaming {
  /** Before the names: Envoy's `grpc`, `grpc-web`. */
  readonly protocol: 'grpc' | 'grpc-web'
  /** These have counters of their own; `all`: whatever is called; empty: none. */
  readonly methods: 'all' | readonly (readonly [service: string, method: string])[]
  /** `a.b.Service` becomes `a_b_Service` where methods are `all`, so that tags can be extracted. */
  readonly replaceDots: boolean
}

/** Counters of one method of a cluster, or of all its calls that have none of their own. Each is made when first used. */
export class MethodStats {
  readonly #metrics: Metrics
  readonly #prefix: string
  readonly #total: Counter
  #success: Counter | undefined = undefined
  #failure: Counter | undefined = undefined
  #requestMessages: Counter | undefined = undefined
  #responseMessages: Counter | undefined = undefined
  #upstreamTime: Histogram | undefined = undefined
  /** By status; the last one for all that gRPC does not know. */
  readonly #statuses: (Counter | undefined)[] = new Array<Counter | undefined>(OTHER + 1).fill(undefined)

  /** `prefix` ends with a dot. */
  constructor(metrics: Metrics, prefix: string) {
    this.#metrics = metrics
    this.#prefix = prefix
    this.#total = metrics.counter(`${prefix}total`)
  }

  /** The end of a call, by its `grpc-status`: what is no status of gRPC counts as `other`, and as a failure. */
  ended(status: string): void {
    this.#total.v++
    if (status === '0') {
      this.#success ??= this.#counter('success')
      this.#success.v++
    } else {
      this.#failure ??= this.#counter('failure')
      this.#failure.v++
    }
    const known = KNOWN_STATUS.test(status) ? Number(status) : OTHER
    const cell = this.#statuses[known] ?? this.#counter(known === OTHER ? 'other' : status)
    this.#statuses[known] = cell
    cell.v++
  }

  requestMessages(count: number): void {
    this.#requestMessages ??= this.#counter('request_message_count')
    this.#requestMessages.v += count
  }

  responseMessages(count: number): void {
    this.#responseMessages ??= this.#counter('response_message_count')
    this.#responseMessages.v += count
  }

  upstreamTime(elapsedMs: number): void {
    this.#upstreamTime ??= this.#metrics.histogram(`${this.#prefix}upstream_rq_time`)
    this.#upstreamTime.record(elapsedMs)
  }

  #counter(name: string): Counter {
    return this.#metrics.counter(this.#prefix + name)
  }
}

/** What is known of one cluster. */
interface ClusterEntry {
  readonly prefix: string
  /** By path, `/service/method`. */
  readonly methods: Map<string, MethodStats>
  /** Of calls without counters of their own: `cluster.<name>.grpc.total`. */
  rest: MethodStats | undefined
}

/**
 * Finds the counters of calls: `cluster.<name>.grpc.<service>.<method>.success` and the like, Envoy's names.
 *
 * Clients choose the paths: with `all`, methods get counters only while there are fewer than `MAX_METHOD_NAMES` of them in
 * the process, over all snapshots, and only where their names are ones that gRPC can have. Envoy has no such bound.
 */
export class MethodStatsIndex {
  readonly #metrics: Metrics
  readonly #clusters: Clusters
  readonly #naming: MethodNaming
  readonly #listed: ReadonlyMap<string, readonly [service: string, method: string]>
  readonly #names: Gauge
  readonly #byCluster = new Map<string, ClusterEntry>()

  constructor(metrics: Metrics, clusters: Clusters, naming: MethodNaming) {
    const { methods } = naming
    this.#metrics = metrics
    this.#clusters = clusters
    this.#naming = naming
    this.#listed = new Map(methods === 'all' ? [] : methods.map((names) => [`/${names[0]}/${names[1]}`, names]))
    this.#names = metrics.gauge(METHOD_NAMES_GAUGE)
  }

  /** Undefined where the path names no method, or there is no such cluster. `path` may have a query. */
  find(clusterName: string, path: string): MethodStats | undefined {
    const entry = this.#byCluster.get(clusterName) ?? this.#enter(clusterName)
    if (entry === undefined) return undefined
    return entry.methods.get(path) ?? this.#resolve(entry, path)
  }

  #enter(clusterName: string): ClusterEntry | undefined {
    // The name may have come from a header: only clusters that exist are remembered.
    const cluster: Cluster | undefined = clusterName === '' ? undefined : this.#clusters.get(clusterName)
    if (cluster === undefined) return undefined
    const prefix = `cluster.${cluster.statName}.${this.#naming.protocol}.`
    const entry: ClusterEntry = { prefix, methods: new Map(), rest: undefined }
    this.#byCluster.set(clusterName, entry)
    return entry
  }

  #resolve(entry: ClusterEntry, path: string): MethodStats | undefined {
    const names = namesIn(path)
    if (names === undefined) return undefined
    const key = `/${names[0]}/${names[1]}`
    const known = entry.methods.get(key)
    if (known !== undefined) return known
    const prefix = this.#prefixOf(entry, key, names)
    if (prefix === undefined) {
      entry.rest ??= new MethodStats(this.#metrics, entry.prefix)
      return entry.rest
    }
    const made = new MethodStats(this.#metrics, prefix)
    entry.methods.set(key, made)
    return made
  }

  /** Undefined where the method gets no counters of its own. */
  #prefixOf(entry: ClusterEntry, key: string, names: readonly [string, string]): string | undefined {
    const { methods, replaceDots } = this.#naming
    if (methods !== 'all') return this.#listed.has(key) ? `${entry.prefix}${names[0]}.${names[1]}.` : undefined
    if (!SERVICE.test(names[0]) || !METHOD.test(names[1])) return undefined
    const service = replaceDots ? names[0].replaceAll('.', '_') : names[0]
    const prefix = `${entry.prefix}${service}.${names[1]}.`
    // What an earlier snapshot has admitted stays admitted.
    if (this.#metrics.has(`${prefix}total`)) return prefix
    if (this.#names.v >= MAX_METHOD_NAMES) return undefined
    this.#names.v++
    return prefix
  }
}

function namesIn(path: string): readonly [service: string, method: string] | undefined {
  const query = path.indexOf('?')
  const parts = (query < 0 ? path : path.slice(0, query)).split('/').filter((part) => part !== '')
  return parts.length === 2 ? [parts[0], parts[1]] : undefined
}

/** Protobuf's identifiers, of a length that a name in statistics may have. */
const SERVICE = /^[A-Za-z_][\w.]{0,199}$/
const METHOD = /^[A-Za-z_]\w{0,99}$/

const KNOWN_STATUS = /^(?:\d|1[0-6])$/
/** Place of the counter for any other status. */
const OTHER = 17
