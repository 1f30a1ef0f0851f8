import type { Metrics, Runtime } from '../../core/metrics.ts'
import type { TimerWheel } from '../../core/timer-wheel.ts'
import type { Host } from '../host.ts'
import type { FlaggedHosts } from '../host-view.ts'
import type { OutlierEventLog } from './event-log.ts'

/** What a detector works with. */
export interface OutlierParts {
  readonly statName: string
  readonly hosts: FlaggedHosts
  /** Hosts of the cluster; default: those that the detector was told of. */
  readonly size?: () => number
  readonly wheel: TimerWheel
  readonly metrics: Metrics
  readonly runtime: Runtime
  /** In [0, 1). */
  readonly random: () => number
  readonly log: OutlierEventLog | undefined
  /** A host has just been ejected. */
  readonly ejected: (host: Host) => void
  /** Asks workers for what they have not told of a host, and calls `confirmed` then; false: there is none to ask. */
  readonly confirm?: (host: Host, row: number) => boolean
}
