import { compileChain } from '../../lib/chain/compile.ts'
import type { Exchange } from '../../lib/chain/exchange.ts'
import type { Scope, Terminal } from '../../lib/chain/filter.ts'
import type { HeaderMutationConfig, HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import type { Headers } from '../../lib/core/headers.ts'
import type { Log, Metrics, Runtime } from '../../lib/core/metrics.ts'
import { runtimeBool } from '../../lib/core/runtime-value.ts'
import type { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { compileFraction } from '../../lib/match/fraction.ts'
import { compileString } from '../../lib/match/string.ts'
import { compileAccessLog } from '../../lib/telemetry/access-log.ts'
import { compileHeaderEdits, type HeaderEdits, inTurn } from '../../lib/telemetry/header-edits.ts'
import type { AccessLogSinks } from '../../lib/telemetry/sinks/registry.ts'
import type { Lifetime } from '../lifetime.ts'
import { compileClientCert } from './client-cert.ts'
import { ConnectionManager } from './connection-manager.ts'
import { CallerRules } from './forwarded.ts'
import { compileLocalReply } from './local-reply.ts'
import { type FindTable, managerRoutesSteps, type TableUsers } from './manager-routes.ts'
import type { MisdirectedCheck } from './misdirected.ts'
import { type PlanDeps, Plans } from './plans.ts'
import { compileValue } from './route-tables.ts'
import { httpStats } from './stats.ts'

/** What compiling a connection manager needs of the gateway. */
export interface ManagerDeps extends PlanDeps {
  /** Who this proxy is: what `add_user_agent` tells upstreams. */
  readonly node: Scope['node']
  readonly findTable: FindTable
  /** Where those that use the gateway's route tables are to be found. */
  readonly tableUsers: TableUsers
  readonly runtime: Runtime
  readonly metrics: Metrics
  readonly wheel: TimerWheel
  readonly log: Log
  readonly random: () => number
  readonly sinks: AccessLogSinks
  readonly date: (nowMs: number) => string
  readonly bufferLimitBytes: number
  /** Name in statistics of the listener that it stands in. */
  readonly listenerStats: string
  /** Undefined where there is no other filter chain that a request could belong to. */
  readonly misdirected?: MisdirectedCheck
}

/**
 * Compiles one connection manager. A generator: it pauses every millisecond or so, so that it need not block the loop. What
 * the manager has belongs to `lifetime`, whose users are its exchanges.
 */
export function* managerSteps(
  config: HttpConnectionManagerConfig,
  deps: ManagerDeps,
  lifetime: Lifetime,
): Generator<undefined, ConnectionManager> {
  const { runtime } = deps
  const { own } = lifetime
  const plans = new Plans(config, deps)
  const routes = own(yield* managerRoutesSteps(config, { plans, runtime, findTable: deps.findTable }))
  own(deps.tableUsers.add(routes))
  return new ConnectionManager({
    config,
    node: deps.node,
    routes,
    usage: lifetime.usage,
    emptyPlan: compileChain([], [], NEVER),
    wheel: deps.wheel,
    stats: httpStats(deps.metrics, config.statPrefix, deps.listenerStats),
    callers: new CallerRules(config),
    clientCert: config.clientCertificateHeader && compileClientCert(config.clientCertificateHeader),
    misdirected: config.misdirected === 'refuse' ? deps.misdirected : undefined,
    earlyEdits: compileMutations(config.earlyHeaderMutations),
    normalizes: compileNormalizes(config, runtime),
    mapReply: compileLocalReply(config.localReply, runtime),
    loggers: config.accessLogs.map((log) => own(compileAccessLog(log, { sinks: deps.sinks, runtime }))),
    log: deps.log,
    random: deps.random,
    bufferLimitBytes: deps.bufferLimitBytes,
    date: deps.date,
  })
}

/** Undefined where the runtime has no say. */
function compileNormalizes(
  { normalizePath, normalizePathKey }: HttpConnectionManagerConfig,
  runtime: Runtime,
): ((random: number) => boolean) | undefined {
  if (normalizePathKey === undefined) return undefined
  const share = compileFraction(
    { numerator: normalizePath ? 100 : 0, denominator: 100, runtimeKey: normalizePathKey },
    runtime,
  )
  return (random) => runtimeBool(runtime, normalizePathKey) ?? share(random)
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
