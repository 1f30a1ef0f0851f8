import type { NetworkChunk, NetworkConnection, NetworkFilter, NetworkScope } from '../../lib/chain/network.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { Timed, type TimerWheel } from '../../lib/core/timer-wheel.ts'
import { ConnectionAttributes, type RbacAttributes } from '../../lib/rbac/attributes.ts'
import { type Audit, compileAudit } from '../../lib/rbac/audit.ts'
import type { RbacConfig } from '../../lib/rbac/config.ts'
import { compileRbac, type RbacEngine, type Verdict } from '../../lib/rbac/engine.ts'
import { denialDetails, type RbacStats, rbacStats } from '../../lib/rbac/stats.ts'
import type { NetworkRbacConfig } from './config.ts'

const NAMESPACE = 'envoy.filters.network.rbac'
/** What access log filters ask for. */
const COMMON = 'envoy.common'

/** Compiles the filter. @throws Error for a pattern that RE2 refuses. */
export function compileNetworkRbac(config: NetworkRbacConfig, scope: NetworkScope): NetworkFilter {
  const { statPrefix, shadowStatPrefix, rules, shadowRules } = config
  const judge = new Judge({
    prefix: shadowStatPrefix,
    rules: rules === undefined ? undefined : compileRbac(rules),
    shadow: shadowRules === undefined ? undefined : compileRbac(shadowRules),
    audit: auditOf(rules, scope),
    stats: rbacStats(scope.metrics, statPrefix.endsWith('.') ? statPrefix : `${statPrefix}.`, shadowStatPrefix),
  })
  const { delayDenyMs } = config
  return (config.continuous
    ? new ContinuousRbac(judge, delayDenyMs, scope.wheel)
    : new OneTimeRbac(judge, delayDenyMs, scope.wheel)) as unknown as NetworkFilter
}

function auditOf(rules: RbacConfig | undefined, scope: NetworkScope): Audit | undefined {
  const audit = rules?.kind === 'rules' ? rules.audit : undefined
  const sinks = (audit?.loggers ?? []).map((kind) => scope.openLines({ kind }))
  return compileAudit(audit, { clock: scope.clock, sinks, name: scope.filterName })
}

interface JudgeParts {
  readonly prefix: string
  readonly rules: RbacEngine | undefined
  readonly shadow: RbacEngine | undefined
  readonly stats: RbacStats
  readonly audit: Audit | undefined
}

/** Both sets of rules, and what is told of their verdicts. */
class Judge {
  readonly #parts: JudgeParts
  readonly #policyKey: string
  readonly #resultKey: string

  constructor(parts: JudgeParts) {
    this.#parts = parts
    this.#policyKey = `${parts.prefix}shadow_effective_policy_id`
    this.#resultKey = `${parts.prefix}shadow_engine_result`
  }

  /** The verdict that keeps the connection out; undefined: it may go on. */
  refuses(connection: NetworkConnection, attributes: RbacAttributes): Verdict | undefined {
    const { rules, shadow, stats, audit } = this.#parts
    if (shadow !== undefined) this.#tell(connection, shadow(attributes))
    if (rules === undefined) return undefined
    const verdict = rules(attributes)
    if (verdict.logHint !== undefined) {
      connection.facts.state.mergeMetadata(COMMON, { access_log_hint: verdict.logHint })
    }
    if (audit !== undefined) audit(connection.facts, '', verdict)
    if (verdict.allowed) stats.allowed.v++
    else stats.denied.v++
    return verdict.allowed ? undefined : verdict
  }

  #tell(connection: NetworkConnection, { allowed, policy }: Verdict): void {
    const { stats } = this.#parts
    if (allowed) stats.shadowAllowed.v++
    else stats.shadowDenied.v++
    const told: JsonObject = { [this.#resultKey]: allowed ? 'allowed' : 'denied' }
    if (policy !== '') told[this.#policyKey] = policy
    connection.facts.state.mergeMetadata(NAMESPACE, told)
  }
}

/** One connection: its attributes, and the delay before it is closed. */
class Admission extends Timed {
  readonly attributes: RbacAttributes
  readonly #connection: NetworkConnection
  #verdict: Verdict | undefined = undefined
  #settled: (() => void) | undefined = undefined

  constructor(connection: NetworkConnection) {
    super()
    this.#connection = connection
    this.attributes = new ConnectionAttributes(connection.facts)
  }

  /** Nothing more passes; closes at once, or when the promise that is answered settles. */
  refuse(verdict: Verdict, delayMs: number, wheel: TimerWheel): Promise<void> | undefined {
    this.#verdict = verdict
    if (delayMs === 0) {
      this.onDue()
      return undefined
    }
    this.#connection.pause()
    wheel.arm(this, delayMs)
    return new Promise((resolve) => {
      this.#settled = resolve
    })
  }

  override onDue(): void {
    this.#connection.close(denialDetails(this.#verdict?.policy ?? ''))
    this.#settled?.()
  }

  /** The client did not wait for the end. */
  over(wheel: TimerWheel): void {
    wheel.disarm(this)
    this.#settled?.()
  }
}

class AnyRbac {
  readonly #judge: Judge
  readonly #delayMs: number
  readonly #wheel: TimerWheel

  constructor(judge: Judge, delayMs: number, wheel: TimerWheel) {
    this.#judge = judge
    this.#delayMs = delayMs
    this.#wheel = wheel
  }

  createState(connection: NetworkConnection): Admission {
    return new Admission(connection)
  }

  onClose(_connection: NetworkConnection, state: Admission): void {
    state.over(this.#wheel)
  }

  /** Undefined: it may go on, or is closed already. */
  protected decide(
    connection: NetworkConnection,
    state: Admission,
  ): { readonly closed: Promise<void> | undefined } | undefined {
    const verdict = this.#judge.refuses(connection, state.attributes)
    return verdict === undefined ? undefined : { closed: state.refuse(verdict, this.#delayMs, this.#wheel) }
  }
}

/** Decides before anything of the client's has been read. */
class OneTimeRbac extends AnyRbac implements NetworkFilter<Admission> {
  onConnect(connection: NetworkConnection, state: Admission): Promise<void> | undefined {
    return this.decide(connection, state)?.closed
  }
}

class ContinuousRbac extends AnyRbac implements NetworkFilter<Admission> {
  onRead(connection: NetworkConnection, _chunk: Buffer, _end: boolean, state: Admission): NetworkChunk {
    const refused = this.decide(connection, state)
    if (refused === undefined) return undefined
    return refused.closed === undefined ? null : refused.closed.then(swallow)
  }
}

function swallow(): null {
  return null
}
