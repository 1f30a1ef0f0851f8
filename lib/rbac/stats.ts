import type { Counter, Metrics } from '../core/metrics.ts'

/** Under Envoy's names, `<prefix>rbac.`. */
export interface RbacStats {
  readonly allowed: Counter
  readonly denied: Counter
  readonly shadowAllowed: Counter
  readonly shadowDenied: Counter
}

/** `prefix` with its dot or ''; `shadowPrefix` stands before the names of shadow rules, as it is. */
export function rbacStats(metrics: Metrics, prefix: string, shadowPrefix: string): RbacStats {
  const p = `${prefix}rbac.`
  return {
    allowed: metrics.counter(`${p}allowed`),
    denied: metrics.counter(`${p}denied`),
    shadowAllowed: metrics.counter(`${p}${shadowPrefix}shadow_allowed`),
    shadowDenied: metrics.counter(`${p}${shadowPrefix}shadow_denied`),
  }
}

/** What logs tell of a refusal; `policy` '' where none matched. */
export function denialDetails(policy: string): string {
  return `rbac_access_denied_matched_policy[${(policy || 'none').replace(/\s/g, '_')}]`
}
