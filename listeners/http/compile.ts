import { type ChainPlan, compileChain } from '../../lib/chain/compile.ts'
import type { Exchange } from '../../lib/chain/exchange.ts'
import type { HttpFilter, Scope, Terminal } from '../../lib/chain/filter.ts'
import type { FilterRegistry } from '../../lib/chain/registry.ts'
import type { HeaderMutationConfig, HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import type { Headers } from '../../lib/core/headers.ts'
import type { Log, Metrics, Runtime } from '../../lib/core/metrics.ts'
import type { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { compileString } from '../../lib/match/string.ts'
import type { FilterConfigs } from '../../lib/router/config.ts'
import { routeTableSteps } from '../../lib/router/table.ts'
import { compileAccessLog } from '../../lib/telemetry/access-log.ts'
import { compileBodyFormat, compileFormat } from '../../lib/telemetry/format.ts'
import { compileHeaderEdits, type HeaderEdits, inTurn } from '../../lib/telemetry/header-edits.ts'
import type { AccessLogSinks } from '../../lib/telemetry/sinks/registry.ts'
import { compileClientCert } from './client-cert.ts'
import { ConnectionManager } from './connection-manager.ts'
import { CallerRules } from './forwarded.ts'
import { compileLocalReply } from './local-reply.ts'
import type { MisdirectedCheck } from './misdirected.ts'
import { httpStats } from './stats.ts'

/** What compiling a connection manager needs of the gateway. */
export interface ManagerDeps {
  readonly registry: FilterRegistry
  /** Who this proxy is: what `add_user_agent` tells upstreams. */
  readonly node: Scope['node']
  /** The scope of one filter; `statPrefix` with its dot. */
  readonly scopeFor: (filterName: string, statPrefix: string) => Scope
  readonly own: <T extends Disposable>(resource: T) => T
  readonly runtime: Runtime
  readonly metrics: Metrics
  readonly wheel: TimerWheel
  readonly log: Log
  readonly random: () => number
  readonly sinks: AccessLogSinks
  readonly date: (nowMs: number) => string
  readonly bufferLimitBytes: number
  /** Undefined where there is no other filter chain that a request could belong to. */
  readonly misdirected?: MisdirectedCheck
}

/** Compiles one connection manager. A generator: it pauses every millisecond or so, so that it need not block the loop. */
export function* managerSteps(
  config: HttpConnectionManagerConfig,
  deps: ManagerDeps,
): Generator<undefined, ConnectionManager> {
  const { runtime } = deps
  const plans = new Plans(config, deps)
  const defaultPlan = plans.planFor(config.routes.filterConfigs === undefined ? [] : [config.routes.filterConfigs])
  const routes = yield* routeTableSteps<ChainPlan>(config.routes, {
    planFor: (levels) => plans.planFor(levels),
    runtime,
    compileFormat: compileValue,
    compileBody: (format, body) => {
      const render = compileBodyFormat(format)
      return (stream) => {
        ;(stream as Exchange).localReplyBody = body
        return render(stream)
      }
    },
  })
  return new ConnectionManager({
    config,
    node: deps.node,
    routes,
    defaultPlan,
    emptyPlan: compileChain([], [], NEVER),
    wheel: deps.wheel,
    stats: httpStats(deps.metrics, config.statPrefix),
    callers: new CallerRules(config),
    clientCert: config.clientCertificateHeader && compileClientCert(config.clientCertificateHeader),
    misdirected: config.misdirected === 'refuse' ? deps.misdirected : undefined,
    earlyEdits: compileMutations(config.earlyHeaderMutations),
    mapReply: compileLocalReply(config.localReply, runtime),
    loggers: config.accessLogs.map((log) => deps.own(compileAccessLog(log, { sinks: deps.sinks, runtime }))),
    log: deps.log,
    random: deps.random,
    bufferLimitBytes: deps.bufferLimitBytes,
    date: deps.date,
  })
}

/** Header values: what is missing becomes the empty string. */
function compileValue(
  text: string,
  missing: string,
): (stream: Parameters<ReturnType<typeof compileFormat>>[0]) => string {
  return compileFormat(text, { missing })
}

/** Chains of one manager, by the per-route levels they are compiled for. */
class Plans {
  readonly #config: HttpConnectionManagerConfig
  readonly #deps: ManagerDeps
  readonly #scopes: readonly Scope[]

  constructor(config: HttpConnectionManagerConfig, deps: ManagerDeps) {
    this.#config = config
    this.#deps = deps
    this.#scopes = config.filters.map((filter) => deps.scopeFor(filter.name, `http.${config.statPrefix}.`))
  }

  planFor(levels: readonly FilterConfigs[]): ChainPlan {
    const filters: (HttpFilter<unknown> | undefined)[] = []
    const names: string[] = []
    let terminal: Terminal | undefined
    this.#config.filters.forEach((filter, i) => {
      const overrides = levels.map((level) => level[filter.name]).filter((override) => override !== undefined)
      const compiled = this.#deps.registry.compile(filter, overrides, this.#scopes[i])
      if (compiled !== undefined && 'begin' in compiled) terminal = compiled
      else {
        filters.push(compiled as HttpFilter<unknown> | undefined)
        names.push(filter.name)
      }
    })
    if (terminal === undefined)
      throw new Error(`the HTTP filters of "${this.#config.statPrefix}" do not end with a terminal one`)
    return compileChain(filters, names, terminal)
  }
}

/** `early_header_mutation`: each entry in turn. */
function compileMutations(
  mutations: readonly HeaderMutationConfig[],
): ((headers: Headers, exchange: Exchange) => void) | undefined {
  const steps = mutations.flatMap((mutation): HeaderEdits[] => {
    const { removeOnMatch, append, remove } = mutation
    if (removeOnMatch !== undefined) {
      const matches = compileString(removeOnMatch)
      return [(headers) => headers.deleteWhere((name) => matches(name))]
    }
    const edits = compileHeaderEdits(
      [{ remove: remove === undefined ? [] : [remove], add: append === undefined ? [] : [append] }],
      compileValue,
    )
    return edits === undefined ? [] : [edits]
  })
  return inTurn(steps)
}

const NEVER: Terminal = Object.freeze({
  begin() {
    throw new Error('a refused request has no destination')
  },
})
