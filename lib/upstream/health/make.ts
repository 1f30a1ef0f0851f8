import { type Metrics, noRuntime } from '../../core/metrics.ts'
import type { SinkLease } from '../../telemetry/sinks/registry.ts'
import type { ClusterDeps } from '../cluster.ts'
import type { ClusterConfig } from '../config.ts'
import type { Host } from '../host.ts'
import type { FlaggedHosts } from '../host-view.ts'
import { OutlierDetector } from '../outlier/detector.ts'
import { OutlierEventLog } from '../outlier/event-log.ts'
import type { Transports } from '../transports.ts'
import { HealthChecker } from './checker.ts'
import { HealthEventLog } from './event-log.ts'
import type { HealthListener } from './source.ts'
import { CheckConnections } from './target.ts'

/** What judging hosts needs of a process. */
export type JudgeDeps = Pick<ClusterDeps, 'wheel' | 'runtime' | 'random' | 'log' | 'sinks' | 'nextConnectionId'>

export interface CheckedHosts {
  readonly hosts: FlaggedHosts
  readonly metrics: Metrics
  readonly transports: Transports
  ownTransports(config: ClusterConfig): Transports
  readonly hadTraffic: () => boolean
  readonly listener: HealthListener
  readonly mine?: (host: Host) => boolean
}

export interface RatedHosts {
  readonly hosts: FlaggedHosts
  readonly metrics: Metrics
  readonly size?: () => number
  readonly ejected: (host: Host) => void
  readonly confirm?: (host: Host, row: number) => boolean
}

/**
 * The active checks of a cluster, made by this process.
 *
 * @throws the system's error where an event log cannot be opened.
 */
export function makeChecker(config: ClusterConfig, deps: JudgeDeps, on: CheckedHosts): HealthChecker | undefined {
  const { healthCheck, name, statName, ignoreUnchecked = false } = config
  if (healthCheck === undefined) return undefined
  const { hosts, metrics, transports, hadTraffic, listener, mine } = on
  const { wheel, runtime = noRuntime, random, log: applicationLog, nextConnectionId } = deps
  const sinks = openSinks(deps, healthCheck.eventLogPaths)
  const log =
    sinks.length === 0 ? undefined : new HealthEventLog(name, healthCheck.probe.kind, { clock: wheel.clock, sinks })
  return new HealthChecker(healthCheck, {
    clusterName: name,
    statName,
    hosts,
    mine,
    wheel,
    metrics,
    runtime,
    applicationLog,
    random,
    log,
    connections: new CheckConnections(config, healthCheck, {
      parts: { wheel, random, nextConnectionId },
      transports,
      own: (own) => on.ownTransports(own),
    }),
    hadTraffic,
    ignoreUnchecked,
    listener,
  })
}

/**
 * The outlier detection of a cluster, as a whole.
 *
 * @throws the system's error where an event log cannot be opened.
 */
export function makeDetector(config: ClusterConfig, deps: JudgeDeps, on: RatedHosts): OutlierDetector | undefined {
  const { outlier, name, statName } = config
  if (outlier === undefined) return undefined
  const { wheel, runtime = noRuntime, random } = deps
  const [sink] = openSinks(deps, outlier.eventLogPath === undefined ? [] : [outlier.eventLogPath])
  const log = sink === undefined ? undefined : new OutlierEventLog(name, wheel.clock, sink)
  return new OutlierDetector(outlier, { ...on, statName, wheel, runtime, random, log })
}

/** The event logs that a cluster has. */
export function eventLogPaths({ healthCheck, outlier }: ClusterConfig): readonly string[] {
  const paths = healthCheck?.eventLogPaths ?? []
  return outlier?.eventLogPath === undefined ? paths : [...paths, outlier.eventLogPath]
}

/** All of them or none. @throws the system's error where one cannot be opened. */
export function openSinks({ sinks }: JudgeDeps, paths: readonly string[]): SinkLease[] {
  const open: SinkLease[] = []
  if (sinks === undefined) return open
  try {
    for (const path of paths) open.push(sinks.open({ kind: 'file', path }))
  } catch (error) {
    for (const sink of open) sink[Symbol.dispose]()
    throw error
  }
  return open
}
