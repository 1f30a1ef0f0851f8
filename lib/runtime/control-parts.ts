import type { LiveConfig } from '../config/live.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { Clock } from '../core/clock.ts'
import type { ConfigError, JsonObject } from '../core/errors.ts'
import type { EjectionNews, HealthReport, HealthVerdicts } from '../core/host-health.ts'
import type { Log } from '../core/metrics.ts'
import type { ControlPanel } from './control-panel.ts'
import type { ClusterStatus, MetricsSnapshot } from './engine.ts'
import type { Settings } from './messages.ts'
import type { RecordedFiles } from './recorded-files.ts'

/** A configuration, and the files that it was made of besides its own. */
export interface LoadedFiles {
  readonly config: GatewayConfig
  /** Keeps it up to date: its changes begin at `config`. Not started; whoever loads it owns it. */
  readonly live?: LiveConfig
  readonly files: RecordedFiles
}

/** Judges the hosts of all workers; told of worker processes by their numbers. */
export interface HostJudge {
  /** A worker is there that knows nothing of what is judged. */
  welcome(worker: number): void
  report(worker: number, reports: readonly HealthReport[]): void
  retire(worker: number): void
  /** Puts in what workers do not know of their clusters. */
  complete(clusters: readonly ClusterStatus[]): ClusterStatus[]
}

/** What a judge of hosts needs of the control process. */
export interface JudgeSite {
  send(worker: number, verdicts: HealthVerdicts): void
  news(worker: number, news: EjectionNews): void
  /** All that are there. */
  workers(): Iterable<number>
  /** Runtime values as they are now. */
  runtime(): JsonObject
}

/** What the composition root puts into a control process. */
export interface ControlParts {
  readonly log: Log
  /** Reads, validates and translates the configuration; rejects with `ConfigRefused`. */
  load(): Promise<LoadedFiles>
  /** Starts admin where the configuration has one; answers its address, '' where it has none. Rejects with `ConfigRefused`. */
  startAdmin(gateway: ControlPanel, config: GatewayConfig): Promise<string>
  /** Tells the operator why the gateway does not start. */
  report(errors: readonly ConfigError[]): void
  setLogLevel(level: string): void
  reopenLogs(): void
  /** What this process counts itself: it speaks to control planes. */
  metrics?(): MetricsSnapshot | undefined
  /** Called once; undefined: workers hear nothing of their hosts. */
  judgeHosts?(site: JudgeSite): HostJudge
}

export interface ControlOptions {
  create(settings: Settings): Promise<ControlParts> | ControlParts
  /** This process, forked by a supervisor. */
  readonly process: NodeJS.Process
  readonly clock: Clock
}
