import type { PickContext } from '../../core/attempt.ts'
import type { Host } from '../host.ts'

/** Picks from one fixed, non-empty list of hosts. Made anew when the list changes; `next` allocates nothing. */
export interface HostPicker {
  /**
   * `attempt` is 0, then 1, 2, ... for one choice of host where the hosts before were not wanted. Undefined: none may be
   * used.
   */
  next(context: PickContext, attempt: number): Host | undefined
}

/** True where one weight holds for all, so that weights need not be looked at. */
export function weightsAreEqual(hosts: readonly Host[]): boolean {
  const weight = hosts[0].weight
  for (const host of hosts) if (host.weight !== weight) return false
  return true
}
