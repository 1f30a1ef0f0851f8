import type { LiveConfig } from '../config/live.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { Clock } from '../core/clock.ts'
import type { ConfigError } from '../core/errors.ts'
import type { Log } from '../core/metrics.ts'
import type { ControlPanel } from './control-panel.ts'
import type { MetricsSnapshot } from './engine.ts'
import type { Settings } from './messages.ts'
import type { RecordedFiles } from './recorded-files.ts'

/** A configuration, and the files that it was made of besides its own. */
export interface LoadedFiles {
  readonly config: GatewayConfig
  /** Keeps it up to date: its changes begin at `config`. Not started; whoever loads it owns it. */
  readonly live?: LiveConfig
  readonly files: RecordedFiles
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
}

export interface ControlOptions {
  create(settings: Settings): Promise<ControlParts> | ControlParts
  /** This process, forked by a supervisor. */
  readonly process: NodeJS.Process
  readonly clock: Clock
}
