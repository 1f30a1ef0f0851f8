import type { FilterState, TerminalExchange } from '../chain/filter.ts'
import type { Cluster, PickContext, PickMetadata, UpstreamHost, WantedHosts } from '../core/attempt.ts'
import type { ConnectionInfo } from '../core/connection.ts'
import type { JsonObject } from '../core/errors.ts'
import type { Hash64 } from '../core/hash64.ts'
import type { Protocol } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import type { ForwardingStart } from './attempt.ts'
import type { ClusterPolicies } from './cluster-policies.ts'
import { RequestHash } from './hash-policy.ts'
import type { Retries } from './retry/retries.ts'
import type { ForwardAction } from './route.ts'

/** What the choice of a request's host may depend on: the request, its route, and the tries before. */
export abstract class RequestPick implements PickContext {
  readonly #exchange: TerminalExchange
  readonly #policies: ClusterPolicies
  #action: ForwardAction
  /** What the cluster says of hashes; undefined: the route says. */
  #hashedBy: Cluster['hashPolicies']
  /** Undefined: not asked for yet; null: there are none. */
  #labels: JsonObject | null | undefined = undefined
  /** Made when a balancer asks. */
  #hash: RequestHash | undefined = undefined

  constructor({ exchange, router, cluster, action }: ForwardingStart) {
    this.#exchange = exchange
    this.#policies = router.policies
    this.#action = action
    this.#hashedBy = cluster.hashPolicies
  }

  /** The tries to come are for another cluster of the route: they have its labels. */
  protected goesTo(cluster: Cluster, action: ForwardAction): void {
    this.#hashedBy = cluster.hashPolicies
    this.#action = action
    this.#labels = undefined
  }

  protected abstract get retrying(): Retries | undefined

  get downstream(): ConnectionInfo {
    return this.#exchange.connection
  }

  get authority(): string {
    return this.#exchange.head.authority
  }

  get protocol(): Protocol {
    return this.#exchange.info.protocol
  }

  get filterState(): FilterState {
    return this.#exchange.filterState
  }

  /** What the route says and, before it, what filters have noted under `envoy.lb`. */
  get labels(): JsonObject | undefined {
    if (this.#labels === undefined) {
      const { metadataMatch } = this.#action
      const noted = this.#exchange.metadata.get('envoy.lb')
      this.#labels = isObject(noted) ? { ...metadataMatch, ...noted } : (metadataMatch ?? null)
    }
    return this.#labels ?? undefined
  }

  /** Of the first try: retries go where the balancer says (as Envoy's). */
  get wanted(): WantedHosts | undefined {
    const { wantedHosts } = this.#exchange.info
    return wantedHosts === undefined || (this.retrying?.made ?? 0) > 0 ? undefined : wantedHosts
  }

  get metadata(): PickMetadata {
    return this.#exchange.metadata
  }

  header(name: string): string | undefined {
    const { request, head } = this.#exchange
    return name === ':authority' || name === 'host' ? head.authority : request.get(name)
  }

  hash(own: Cluster['hashPolicies'] = this.#hashedBy): Hash64 | undefined {
    const policies = own === undefined ? this.#action.hashPolicies : this.#policies.hashesOf(own)
    if (policies === undefined) return undefined
    if (this.#hash?.policies !== policies) this.#hash = new RequestHash(policies, this.#exchange)
    return this.#hash.value
  }

  /** Those that hash policies have made for the client. */
  protected addCookies(headers: Headers): void {
    this.#hash?.addCookies(headers)
  }

  rejects(host: UpstreamHost): boolean {
    return this.retrying?.rejects(host) === true
  }

  get selectionAttempts(): number {
    return this.retrying?.selectionAttempts ?? 0
  }

  get attempt(): number {
    return 1 + (this.retrying?.made ?? 0)
  }

  get spentPriorities(): readonly number[] | undefined {
    return this.retrying?.spentPriorities
  }

  get spentHosts(): readonly UpstreamHost[] | undefined {
    return this.retrying?.spentHosts
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
