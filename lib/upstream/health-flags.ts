import type { EndpointConfig } from './config.ts'

/** How a host counts for balancing: Envoy's three coarse states. */
export type HostHealth = 'healthy' | 'degraded' | 'unhealthy'

/** What speaks against a host (Envoy's `Host::HealthFlag`), as bits; `allConfigured` are those that its configuration says. */
export const HEALTH = Object.freeze({
  failedActiveHc: 0x01,
  failedOutlierCheck: 0x02,
  failedEdsHealth: 0x04,
  degradedActiveHc: 0x08,
  degradedEdsHealth: 0x10,
  /** Its configuration has gone, and it goes with its first failed check. */
  pendingDynamicRemoval: 0x20,
  /** It is new and not checked yet, in a cluster that ignores hosts until they are. */
  pendingActiveHc: 0x40,
  /** It said `x-envoy-immediate-health-check-fail`. */
  excludedViaImmediateHcFail: 0x80,
  /** Its check failed by not answering. */
  activeHcTimeout: 0x100,
  edsStatusDraining: 0x200,
  /** It calls itself degraded in what it answers. */
  degradedOutlierDetection: 0x400,
  allConfigured: 0x04 | 0x10 | 0x200,
})

/** The flags that active checks raise and lower. */
export const OF_CHECKS: number =
  HEALTH.failedActiveHc |
  HEALTH.degradedActiveHc |
  HEALTH.pendingActiveHc |
  HEALTH.excludedViaImmediateHcFail |
  HEALTH.activeHcTimeout

/** The flags that outlier detection raises and lowers. */
export const OF_OUTLIERS: number = HEALTH.failedOutlierCheck | HEALTH.degradedOutlierDetection

const UNHEALTHY = HEALTH.failedActiveHc | HEALTH.failedOutlierCheck | HEALTH.failedEdsHealth | HEALTH.edsStatusDraining
const DEGRADED = HEALTH.degradedActiveHc | HEALTH.degradedEdsHealth | HEALTH.degradedOutlierDetection
const EXCLUDED = HEALTH.pendingActiveHc | HEALTH.excludedViaImmediateHcFail

/** Envoy's words in `/clusters`, in its order. */
const WORDS: readonly (readonly [number, string])[] = Object.freeze([
  [HEALTH.failedActiveHc, '/failed_active_hc'],
  [HEALTH.failedOutlierCheck, '/failed_outlier_check'],
  [HEALTH.failedEdsHealth, '/failed_eds_health'],
  [HEALTH.degradedActiveHc, '/degraded_active_hc'],
  [HEALTH.degradedEdsHealth, '/degraded_eds_health'],
  [HEALTH.pendingDynamicRemoval, '/pending_dynamic_removal'],
  [HEALTH.pendingActiveHc, '/pending_active_hc'],
  [HEALTH.excludedViaImmediateHcFail, '/excluded_via_immediate_hc_fail'],
  [HEALTH.activeHcTimeout, '/active_hc_timeout'],
  [HEALTH.edsStatusDraining, '/eds_status_draining'],
  [HEALTH.degradedOutlierDetection, '/degraded_outlier_detection'],
])

/** The flags that a configured health stands for; TIMEOUT counts as failed (as Envoy). */
export function configuredFlags(health: EndpointConfig['health']): number {
  switch (health) {
    case 'healthy':
      return 0
    case 'degraded':
      return HEALTH.degradedEdsHealth
    case 'draining':
      return HEALTH.edsStatusDraining
    case 'unhealthy':
    case 'timeout':
      return HEALTH.failedEdsHealth
  }
}

export function coarseHealth(flags: number): HostHealth {
  if ((flags & UNHEALTHY) !== 0) return 'unhealthy'
  return (flags & DEGRADED) !== 0 ? 'degraded' : 'healthy'
}

/** Left out of the number of hosts that panic and overprovisioning go by. */
export function isExcluded(flags: number): boolean {
  return (flags & EXCLUDED) !== 0
}

/** `healthy`, or the words of all flags. */
export function flagWords(flags: number): string {
  let words = ''
  for (const [flag, word] of WORDS) if ((flags & flag) !== 0) words += word
  return words || 'healthy'
}
