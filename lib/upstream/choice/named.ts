import type { PickContext, UpstreamHost, Waiter } from '../../core/attempt.ts'
import { FAILURES, type Failure } from '../../core/failure.ts'
import type { Counter } from '../../core/metrics.ts'
import type { Discovery } from '../discovery/discovery.ts'
import type { HostSet } from '../host-set.ts'
import type { Chooser } from './chooser.ts'

/** The host that a request is for; undefined: it names none. */
export type Wanted = (context: PickContext) => { readonly name: string; readonly port: number } | undefined

/** What a choice by name works with. */
export interface NamedParts {
  readonly hosts: HostSet
  readonly discovery: Discovery
  readonly wanted: Wanted
  /** Requests without a host. */
  readonly none: () => Counter
}

/** Hosts that requests name, found when they are asked for: no balancer has a say. */
export class NamedHosts implements Chooser {
  readonly #parts: NamedParts

  constructor(parts: NamedParts) {
    this.#parts = parts
  }

  prepare(context: PickContext, waiter?: Waiter): Failure | undefined | Promise<Failure | undefined> {
    const { wanted, discovery } = this.#parts
    const target = wanted(context)
    if (target === undefined) return FAILURES.noHealthyHost
    const found = discovery.demand?.(target.name, target.port, waiter)
    if (typeof found === 'string' || found === undefined) return undefined
    return found instanceof Promise ? found.then((key) => (typeof key === 'string' ? undefined : key)) : found
  }

  pick(context: PickContext): UpstreamHost | Failure {
    const { wanted, discovery, hosts, none } = this.#parts
    const target = wanted(context)
    const key = target === undefined ? undefined : discovery.demand?.(target.name, target.port, 'nobody')
    if (typeof key === 'object' && 'code' in key) return key
    const host = typeof key === 'string' ? hosts.find(`${key}@0`) : undefined
    if (host !== undefined) return host
    none().v++
    return FAILURES.noHealthyHost
  }
}
