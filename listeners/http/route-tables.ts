import type { ChainPlan } from '../../lib/chain/compile.ts'
import type { Exchange } from '../../lib/chain/exchange.ts'
import type { HostOnDemand } from '../../lib/chain/filter.ts'
import type { Runtime } from '../../lib/core/metrics.ts'
import type { FilterConfigs, RouteTableConfig } from '../../lib/router/config.ts'
import { portStart } from '../../lib/router/redirect.ts'
import { type RouteTable, routeTableSteps } from '../../lib/router/table.ts'
import { compileBodyFormat, compileFormat } from '../../lib/telemetry/format.ts'
import type { Lifetime } from '../lifetime.ts'
import type { Plans } from './plans.ts'

/** A route table as one connection manager has compiled it. Whoever has it releases it. */
export class ManagerTable {
  /** Undefined: there is none of that name, and nothing is found. */
  readonly table: RouteTable<ChainPlan> | undefined
  /** The chain of requests that match no route: the filters run, the router answers 404. */
  readonly defaultPlan: ChainPlan
  /** Headers that are removed from external requests besides the usual ones; undefined: none. */
  readonly internalOnly: ReadonlySet<string> | undefined
  /** Set where virtual hosts that it lacks can be asked for. */
  readonly #onDemand: RouteTableConfig | undefined
  readonly #plans: ReadonlySet<Lifetime>

  constructor(
    config: RouteTableConfig | undefined,
    parts: {
      readonly table: RouteTable<ChainPlan> | undefined
      readonly defaultPlan: ChainPlan
      readonly plans: ReadonlySet<Lifetime>
    },
  ) {
    this.table = parts.table
    this.defaultPlan = parts.defaultPlan
    this.#plans = parts.plans
    const internalOnly = parts.table?.internalOnlyHeaders ?? []
    this.internalOnly = internalOnly.length === 0 ? undefined : new Set(internalOnly)
    this.#onDemand = config?.onDemand === true ? config : undefined
  }

  /** What may be asked for on behalf of a request for this authority. */
  hostOnDemand(authority: string): HostOnDemand | undefined {
    if (this.#onDemand === undefined || authority === '') return undefined
    const { name: table, ignorePortInHostMatching } = this.#onDemand
    const port = ignorePortInHostMatching ? portStart(authority) : -1
    return { table, host: (port < 0 ? authority : authority.slice(0, port)).toLowerCase() }
  }

  /** No exchange begins with it any more; those that have begun go on. */
  release(): void {
    for (const plan of this.#plans) plan.release()
  }
}

/** Compiles route tables for one connection manager. Undefined: the table of a name that nobody has. */
export function* managerTableSteps(
  config: RouteTableConfig | undefined,
  plans: Plans,
  runtime: Runtime,
): Generator<undefined, ManagerTable> {
  const held = new Set<Lifetime>()
  const planFor = (levels: readonly FilterConfigs[]): ChainPlan => {
    const { plan, lifetime } = plans.hold(levels)
    if (held.has(lifetime)) lifetime.release()
    else held.add(lifetime)
    return plan
  }
  let done = false
  try {
    const own = config?.filterConfigs
    const defaultPlan = planFor(own === undefined ? [] : [own])
    const table =
      config === undefined
        ? undefined
        : yield* routeTableSteps<ChainPlan>(config, { planFor, runtime, compileFormat: compileValue, compileBody })
    done = true
    return new ManagerTable(config, { table, defaultPlan, plans: held })
  } finally {
    if (!done) for (const plan of held) plan.release()
  }
}

/** Header values: what is missing becomes the empty string. */
export function compileValue(
  text: string,
  missing: string,
): (stream: Parameters<ReturnType<typeof compileFormat>>[0]) => string {
  return compileFormat(text, { missing })
}

function compileBody(
  format: Parameters<typeof compileBodyFormat>[0],
  body: string,
): ReturnType<typeof compileBodyFormat> {
  const render = compileBodyFormat(format)
  return (stream) => {
    ;(stream as Exchange).localReplyBody = body
    return render(stream)
  }
}
