import type { PickContext } from '../../core/attempt.ts'
import type { Json, JsonObject } from '../../core/errors.ts'
import type { SubsetConfig, SubsetSelectorConfig } from '../config.ts'
import type { Host } from '../host.ts'
import type { HostView } from '../host-view.ts'
import type { Balancer } from './balancer.ts'
import type { HostLoads } from './host-loads.ts'
import type { BalancerOptions } from './policy.ts'
import type { Subset } from './subset.ts'
import { SubsetIndex } from './subset-index.ts'
import { type Criteria, criteriaOf, isObject, onlyKeys } from './subset-labels.ts'
import { SubsetStats } from './subset-stats.ts'

/** The label that holds alternatives, with `fallbackList`. */
const FALLBACK_LIST = 'fallback_list'

/** What a subset makes of a request. */
type Ask = (subset: Subset, context: PickContext) => Host | undefined

/** What is to be tried for the labels of a request. */
interface Request {
  /** One after another, until there is a host. */
  readonly tries: readonly Criteria[]
}

/**
 * Hosts with the labels that a request asks for, and what happens where there are none (Envoy's subset load balancer).
 *
 * ```
 * labels ─▶ a subset of exactly these? ─yes─▶ a host of it, or none
 *              └─no─▶ a selector with these keys and a fallback of its own? ─yes─▶ that
 *                        └─no─▶ the fallback of the policy ─none usable─▶ any host, with panicAny
 * ```
 */
export class SubsetBalancer implements Balancer {
  readonly #config: SubsetConfig
  readonly #index: SubsetIndex
  readonly #stats: SubsetStats
  readonly #loads: HostLoads | undefined
  readonly #stop: () => void
  /** Those of most keys first, as in Envoy where a request may have more keys. */
  readonly #mostKeysFirst: readonly SubsetSelectorConfig[]
  /** By their keys, as they are looked up. */
  readonly #selectors = new Map<string, SubsetSelectorConfig>()
  /** What was worked out for labels; routes have the same object for all of their requests. */
  readonly #requests = new WeakMap<JsonObject, Request>()
  /** What is asked for in place of labels that nobody has, with the fallback `keys`. */
  readonly #fewer = new WeakMap<Criteria, Criteria>()

  constructor(
    config: SubsetConfig,
    view: HostView,
    from: { readonly options: BalancerOptions; readonly loads: HostLoads | undefined; make(view: HostView): Balancer },
  ) {
    this.#config = config
    this.#mostKeysFirst = config.selectors.toSorted((a, b) => b.keys.length - a.keys.length)
    this.#stats = new SubsetStats(from.options.stats)
    this.#index = new SubsetIndex(config, { view, config, make: from.make }, this.#stats)
    for (const selector of config.selectors) {
      const key = keysOf([...selector.keys].sort())
      if (!this.#selectors.has(key)) this.#selectors.set(key, selector)
    }
    this.#loads = from.loads
    this.#stop = view.onChange(() => {
      this.#index.update()
      this.#loads?.keep(view.all)
    })
  }

  pick(context: PickContext): Host | undefined {
    return this.#ask(context, pickOf)
  }

  peek(context: PickContext): Host | undefined {
    return this.#ask(context, peekOf)
  }

  #ask(context: PickContext, ask: Ask): Host | undefined {
    const { labels } = context
    if (labels === undefined) return this.#fallBack(context, ask)
    for (const criteria of this.#requestOf(labels).tries) {
      const host = this.#try(criteria, context, ask)
      if (host !== undefined) return host
    }
    return undefined
  }

  #requestOf(labels: JsonObject): Request {
    let request = this.#requests.get(labels)
    if (request === undefined) {
      request = { tries: this.#alternatives(labels).map((one) => criteriaOf(this.#reduced(one))) }
      this.#requests.set(labels, request)
    }
    return request
  }

  #alternatives(labels: JsonObject): readonly JsonObject[] {
    if (this.#config.fallbackList !== true || !Object.hasOwn(labels, FALLBACK_LIST)) return [labels]
    const { [FALLBACK_LIST]: list, ...rest } = labels
    if (!Array.isArray(list) || list.length === 0) return [rest]
    return list.map((one: Json) => (isObject(one) ? { ...rest, ...one } : rest))
  }

  /** Only the keys of the largest selector that has all of its keys among them, where more than those may be asked for. */
  #reduced(labels: JsonObject): JsonObject {
    if (this.#config.redundantKeys !== true) return labels
    const first = this.#mostKeysFirst.find(({ keys }) => keys.every((key) => Object.hasOwn(labels, key)))
    return first === undefined ? labels : onlyKeys(labels, first.keys)
  }

  #try(criteria: Criteria, context: PickContext, ask: Ask): Host | undefined {
    const subset = this.#index.get(criteria.key)
    if (subset !== undefined) {
      if (ask === pickOf) this.#stats.selected()
      return ask(subset, context)
    }
    const selector = this.#selectors.get(keysOf(criteria.keys))
    switch (selector?.fallback) {
      case undefined:
        return this.#fallBack(context, ask)
      case 'none':
        return undefined
      case 'any':
        return this.#index.any && ask(this.#index.any, context)
      case 'default':
        return this.#index.fallback && ask(this.#index.fallback, context)
      case 'keys':
        // Fewer keys each time, so that it ends.
        return this.#try(this.#withFewer(criteria, selector?.fallbackKeys ?? []), context, ask)
    }
  }

  #withFewer(criteria: Criteria, keys: readonly string[]): Criteria {
    let fewer = this.#fewer.get(criteria)
    if (fewer === undefined) {
      fewer = criteriaOf(this.#reduced(onlyKeys(criteria.labels, keys)))
      this.#fewer.set(criteria, fewer)
    }
    return fewer
  }

  #fallBack(context: PickContext, ask: Ask): Host | undefined {
    const { fallback } = this.#config
    if (fallback === 'none') return undefined
    const to = fallback === 'any' ? this.#index.any : this.#index.fallback
    const host = to && ask(to, context)
    if (host !== undefined) {
      if (ask === pickOf) this.#stats.fallback()
      return host
    }
    if (this.#config.panicAny !== true || this.#index.any === undefined) return undefined
    const last = ask(this.#index.any, context)
    if (last !== undefined && ask === pickOf) this.#stats.fallbackPanic()
    return last
  }

  retire(): void {
    this.#index.retire()
    this.#stats.retire()
    this.#loads?.retire()
  }

  [Symbol.dispose](): void {
    this.#stop()
    this.retire()
    this.#index[Symbol.dispose]()
    this.#loads?.[Symbol.dispose]()
  }
}

function pickOf(subset: Subset, context: PickContext): Host | undefined {
  return subset.pick(context)
}

function peekOf(subset: Subset, context: PickContext): Host | undefined {
  return subset.peek(context)
}

/** `keys` in order. */
function keysOf(keys: readonly string[]): string {
  return JSON.stringify(keys)
}
