import type { PickContext, UpstreamHost, Waiter } from '../../core/attempt.ts'
import { FAILURES, type Failure } from '../../core/failure.ts'
import type { Counter } from '../../core/metrics.ts'
import type { Chooser } from './chooser.ts'
import { type FindCluster, Members } from './members.ts'

/**
 * Envoy's composite cluster: the first attempt goes to the first member, the first retry to the second, and so on. A member
 * that there is not, or that has no host for the attempt, is passed over for those behind it; beyond the last there is none.
 */
export class Composite implements Chooser {
  readonly others: Members
  readonly #none: () => Counter

  constructor(names: readonly string[], find: FindCluster, none: () => Counter) {
    this.others = new Members(names, find)
    this.#none = none
  }

  prepare(context: PickContext, waiter?: Waiter): Failure | undefined | Promise<Failure | undefined> {
    return this.others.prepare(context, waiter)
  }

  pick(context: PickContext): UpstreamHost | Failure {
    const attempt = context.attempt ?? 1 + (context.excluded?.length ?? 0)
    let why: Failure | undefined
    for (let n = attempt - 1; n < this.others.size; n++) {
      const cluster = this.others.at(n)
      if (cluster === undefined) continue
      const host = this.others.pick(cluster, context)
      if (!('code' in host)) return host
      why ??= host
    }
    if (why !== undefined) return why
    this.#none().v++
    return FAILURES.noHealthyHost
  }
}
