import type { PickContext } from '../../core/attempt.ts'
import type { SubsetConfig } from '../config.ts'
import type { Host } from '../host.ts'
import type { HostView } from '../host-view.ts'
import type { Balancer } from './balancer.ts'
import type { Member } from './subset-index.ts'
import { SubsetView } from './subset-view.ts'

/** What all subsets of a cluster share. */
export interface SubsetParts {
  readonly view: HostView
  readonly config: SubsetConfig
  /** The policy within one of them. */
  make(view: HostView): Balancer
}

/** Some hosts of a cluster; its view and balancer are made when it is first asked for one of them. */
export class Subset implements Disposable {
  readonly #parts: SubsetParts
  readonly #members = new Set<Member>()
  readonly singleHost: boolean
  /** Undefined: of a fallback, which is there without hosts too. */
  readonly key: string | undefined
  /** Its hosts, or what they are like, have changed since its view was filled. */
  stale = true
  #view: SubsetView | undefined = undefined
  #balancer: Balancer | undefined = undefined
  #only: Host | undefined = undefined
  #retired = false

  constructor(parts: SubsetParts, singleHost: boolean, key?: string) {
    this.#parts = parts
    this.singleHost = singleHost
    this.key = key
  }

  get size(): number {
    return this.#members.size
  }

  add(member: Member): void {
    this.#members.add(member)
    this.stale = true
  }

  delete(member: Member): void {
    this.#members.delete(member)
    this.stale = true
  }

  pick(context: PickContext): Host | undefined {
    if (this.stale) this.#refresh()
    return this.singleHost ? this.#only : this.#balancer?.pick(context)
  }

  /** As `Balancer.peek`. */
  peek(context: PickContext): Host | undefined {
    if (this.stale) this.#refresh()
    return this.singleHost ? undefined : this.#balancer?.peek?.(context)
  }

  #refresh(): void {
    this.stale = false
    const members = [...this.#members].sort((a, b) => a.at - b.at)
    if (this.singleHost) {
      // All are ordered by priority first.
      this.#only = members[0]?.host
      return
    }
    const { view, config, make } = this.#parts
    this.#view ??= new SubsetView(view, config)
    this.#view.fill(members.map(({ host }) => host))
    if (this.#balancer !== undefined) return
    this.#balancer = make(this.#view)
    if (this.#retired) this.#balancer.retire?.()
  }

  /** As `Balancer.retire`. */
  retire(): void {
    this.#retired = true
    this.#balancer?.retire?.()
  }

  [Symbol.dispose](): void {
    this.#balancer?.[Symbol.dispose]()
    this.#balancer = undefined
    this.#view = undefined
    this.stale = true
  }
}
