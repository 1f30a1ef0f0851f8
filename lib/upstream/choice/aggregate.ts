import type { PickContext, UpstreamHost } from '../../core/attempt.ts'
import { FAILURES, type Failure } from '../../core/failure.ts'
import type { Counter } from '../../core/metrics.ts'
import type { UpstreamCluster } from '../cluster.ts'
import type { Host } from '../host.ts'
import { distributeLoad, type HostChoice, type LoadRules } from '../priority-load.ts'
import type { Chooser } from './chooser.ts'
import { type FindCluster, Members } from './members.ts'
import { Narrowed } from './narrowed.ts'

/** What an aggregate works with. */
export interface AggregateParts {
  readonly names: readonly string[]
  readonly find: FindCluster
  readonly rules: () => LoadRules
  readonly random: () => number
  /** Requests without a host. */
  readonly none: () => Counter
}

/** One priority of one member, in the row of all. */
interface Level {
  readonly cluster: UpstreamCluster
  readonly priority: number
  readonly hosts: readonly Host[]
  /** The member's other priorities. */
  readonly others: readonly number[]
}

/**
 * Envoy's aggregate cluster: the priorities of all members in one row, the first member's first. Load goes to a level by the
 * health of all of them, then the member chooses among its hosts of that level by its own policy. Levels without hosts are
 * left out. Connections, circuit breakers of requests and TLS are the member's; retries are counted and limited here.
 */
export class Aggregate implements Chooser {
  readonly others: Members
  readonly #parts: AggregateParts
  #members: readonly UpstreamCluster[] = []
  /** Of each member, as they were. */
  #seen: (readonly HostChoice[])[] = []
  #levels: readonly Level[] = []
  #choices: readonly HostChoice[] = []

  constructor(parts: AggregateParts) {
    this.#parts = parts
    this.others = new Members(parts.names, parts.find)
  }

  pick(context: PickContext): UpstreamHost | Failure {
    this.#refresh()
    const { spentHosts } = context
    const choices = spentHosts === undefined ? this.#choices : this.#without(spentHosts)
    if (choices.length === 0) {
      this.#parts.none().v++
      return FAILURES.noHealthyHost
    }
    const { cluster, others } = this.#levels[this.#draw(choices).priority]
    const plain = others.length === 0 && context.spentPriorities === undefined
    return this.others.pick(cluster, plain ? context : new Narrowed(context, others))
  }

  #draw(choices: readonly HostChoice[]): HostChoice {
    if (choices.length === 1) return choices[0]
    let draw = this.#parts.random() * 100
    for (const choice of choices) {
      if (draw < choice.load) return choice
      draw -= choice.load
    }
    return choices[choices.length - 1]
  }

  /** Shares are worked out again where a member has come or gone, or its own have changed. */
  #refresh(): void {
    const members = this.others.flat
    if (members === this.#members && this.#isAsSeen(members)) return
    this.#members = members
    this.#seen = members.map(({ hosts }) => hosts.choices)
    this.#levels = members.flatMap(levelsOf)
    this.#choices = this.#distribute(this.#levels.map(({ hosts }) => hosts))
  }

  #isAsSeen(members: readonly UpstreamCluster[]): boolean {
    for (let i = 0; i < members.length; i++) if (members[i].hosts.choices !== this.#seen[i]) return false
    return true
  }

  #distribute(row: readonly (readonly Host[])[]): readonly HostChoice[] {
    return row.length === 0 ? [] : distributeLoad(row, this.#parts.rules())
  }

  /** As if the levels of these hosts had none; all levels where nothing else is left. */
  #without(spent: readonly UpstreamHost[]): readonly HostChoice[] {
    const row = this.#levels.map(({ cluster, priority, hosts }) => {
      const used = (host: UpstreamHost): boolean =>
        host.priority === priority && cluster.hosts.find((host as Host).key) === host
      return spent.some(used) ? [] : hosts
    })
    const choices = row.some((hosts) => hosts.length > 0) ? this.#distribute(row) : []
    return choices.length > 0 ? choices : this.#choices
  }
}

function levelsOf(cluster: UpstreamCluster): Level[] {
  const { priorities } = cluster.hosts
  const used = [...priorities.keys()].filter((priority) => priorities[priority].length > 0)
  return used.map((priority) => ({
    cluster,
    priority,
    hosts: priorities[priority],
    others: used.filter((other) => other !== priority),
  }))
}
