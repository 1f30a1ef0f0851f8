import type { RequestHead } from '../../core/head.ts'
import type { Headers } from '../../core/headers.ts'
import { GRPC_RETRY_CONDITIONS, RETRY_CONDITIONS, type RetryPolicyConfig } from '../../core/retry-policy.ts'
import type { ControlHeaders } from '../control-headers.ts'
import { type Conditions, conditionsIn, type ResponseCriteria } from './conditions.ts'
import { DEFAULT_RETRY_POLICY, type RetryPolicy } from './policy.ts'

/** A request as far as plans look at it. */
export interface PlannedRequest {
  readonly request: Headers
  readonly head: RequestHead
}

/** How one request may be tried again: its policy, and what its own headers add. */
export class RetryPlan implements ResponseCriteria {
  readonly config: RetryPolicyConfig
  readonly conditions: Conditions
  readonly retries: number
  readonly #policy: RetryPolicy
  readonly #asked: ControlHeaders | undefined
  readonly #head: RequestHead

  constructor(policy: RetryPolicy, conditions: Conditions, asked: ControlHeaders | undefined, head: RequestHead) {
    this.config = policy.config
    this.conditions = conditions
    this.retries = asked?.maxRetries ?? policy.config.retries
    this.#policy = policy
    this.#asked = asked
    this.#head = head
  }

  hasStatus(status: number): boolean {
    return this.#policy.statuses.has(status) || this.#asked?.statuses.includes(status) === true
  }

  hasHeader(headers: Headers): boolean {
    for (const matches of this.#policy.responseHeaders) if (matches(headers, this.#head)) return true
    return this.#asked?.headerNames.some((name) => headers.has(name)) === true
  }
}

/** Limits of each try. */
export interface TryLimits {
  /** 0: none. */
  readonly timeoutMs: number
  /** Without anything moving; 0: none. */
  readonly idleMs: number
  /** A try beyond `timeoutMs` goes on beside the next one, instead of ending. */
  readonly hedge: boolean
}

/** What an upstream is told that it has for a try, of what `remainingMs` (0: any time) is left. 0: nothing. */
export function expectedMs({ timeoutMs }: TryLimits, remainingMs: number): number {
  if (timeoutMs === 0 || remainingMs === 0) return timeoutMs || remainingMs
  return Math.min(timeoutMs, remainingMs)
}

/** What a request's tries go by. */
export interface TryPlan {
  readonly limits: TryLimits
  /** Undefined: there is one try. */
  readonly retries: RetryPlan | undefined
}

/** The plan of most requests. */
export const ONE_TRY: TryPlan = Object.freeze({
  limits: Object.freeze({ timeoutMs: 0, idleMs: 0, hedge: false }),
  retries: undefined,
})

/** What speaks of a request's tries. */
export interface PlanSources {
  /** The cluster's, or else the route's. */
  readonly policy: RetryPolicy | undefined
  readonly asked: ControlHeaders | undefined
  /** As the route says. */
  readonly hedge: boolean
  /** Of the whole request; 0: none. */
  readonly timeoutMs: number
}

/** The plan for a request. */
export function planTries(sources: PlanSources, request: PlannedRequest): TryPlan {
  const { policy, asked } = sources
  if (policy === undefined && asked === undefined) return ONE_TRY
  const limits = limitsBy(sources)
  return { limits, retries: retriesBy(policy ?? DEFAULT_RETRY_POLICY, asked, request, limits.hedge) }
}

/** A limit that the whole request's timeout makes void is none. */
function limitsBy({ policy, asked, hedge, timeoutMs: wholeMs }: PlanSources): TryLimits {
  const idleMs = policy?.config.perTryIdleTimeoutMs ?? 0
  let timeoutMs = asked?.perTryTimeoutMs ?? policy?.config.perTryTimeoutMs ?? 0
  if (wholeMs > 0 && timeoutMs >= wholeMs) timeoutMs = 0
  return { timeoutMs, idleMs, hedge: (asked?.hedge ?? hedge) && timeoutMs > 0 }
}

/** Undefined where nothing asks for retries. `hedge`: tries that are too slow are joined by others, whatever the conditions. */
function retriesBy(
  policy: RetryPolicy,
  asked: ControlHeaders | undefined,
  { request, head }: PlannedRequest,
  hedge: boolean,
): RetryPlan | undefined {
  const wanted = policy.requestHeaders
  let conditions = wanted === undefined || wanted.some((matches) => matches(request, head)) ? policy.conditions : 0
  if (asked !== undefined) {
    conditions |= conditionsIn(asked.retryOn, RETRY_CONDITIONS)
    conditions |= conditionsIn(asked.retryGrpcOn, GRPC_RETRY_CONDITIONS)
  }
  return conditions === 0 && !hedge ? undefined : new RetryPlan(policy, conditions, asked, head)
}
