import type { UpstreamHost } from '../../core/attempt.ts'
import type { JsonObject } from '../../core/errors.ts'
import type { RetryPolicyConfig } from '../../core/retry-policy.ts'
import { sameJson } from '../../core/same-json.ts'
import { compileHeader, type HeaderMatcher } from '../../match/header.ts'
import { type Conditions, conditionsOf } from './conditions.ts'

/** A retry policy as requests meet it: one object shared by all of them. */
export interface RetryPolicy {
  readonly config: RetryPolicyConfig
  readonly conditions: Conditions
  readonly statuses: ReadonlySet<number>
  readonly responseHeaders: readonly HeaderMatcher[]
  /** Undefined: every request. */
  readonly requestHeaders: readonly HeaderMatcher[] | undefined
}

/** What holds where nothing but a request's headers asks for retries. */
export const DEFAULT_RETRY_POLICY: RetryPolicy = Object.freeze({
  config: Object.freeze({
    on: [],
    retries: 1,
    backOff: Object.freeze({ baseMs: 25, maxMs: 250 }),
    selectionAttempts: 1,
  }),
  conditions: 0,
  statuses: new Set<number>(),
  responseHeaders: [],
  requestHeaders: undefined,
})

/** @throws Error for a pattern that RE2 refuses. */
export function compileRetryPolicy(config: RetryPolicyConfig): RetryPolicy {
  const { requestHeaders } = config
  return {
    config,
    conditions: conditionsOf(config.on),
    statuses: new Set(config.statuses),
    responseHeaders: (config.responseHeaders ?? []).map(compileHeader),
    requestHeaders: requestHeaders && requestHeaders.length > 0 ? requestHeaders.map(compileHeader) : undefined,
  }
}

/** Whether a retry should go to another host than this one. `tried`: where earlier tries went. */
export function isAvoided(config: RetryPolicyConfig, host: UpstreamHost, tried: readonly UpstreamHost[]): boolean {
  const { avoid } = config
  if (avoid === undefined) return false
  if (avoid.previous === true && tried.includes(host)) return true
  const labels = host.metadata?.['envoy.lb']
  if (typeof labels !== 'object' || labels === null || Array.isArray(labels)) return false
  if (avoid.canary === true && labels.canary === true) return true
  return avoid.labels?.some((wanted) => hasAll(labels, wanted)) === true
}

function hasAll(labels: JsonObject, wanted: JsonObject): boolean {
  const entries = Object.entries(wanted)
  return (
    entries.length > 0 && entries.every(([key, value]) => Object.hasOwn(labels, key) && sameJson(labels[key], value))
  )
}
