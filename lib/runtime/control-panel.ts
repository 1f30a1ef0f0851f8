import type { GatewayConfig } from '../config/model.ts'
import type { DynamicStatus } from '../config/status.ts'
import type { JsonObject } from '../core/errors.ts'
import type { DrainWish, EngineStatus, MetricsSnapshot } from './engine.ts'
import type { LoadReader } from './load-ledger.ts'
import type { MemoryUse } from './messages.ts'
import type { ServerState } from './server-state.ts'

/** The gateway as admin sees it, whatever the number of processes: `Control` has one, `EmbeddedPanel` is another. */
export interface ControlPanel {
  state(): ServerState
  uptimeMs(): number
  workers(): number
  /** What runs, and since when; undefined before the first configuration is there. */
  configuration(): { readonly config: GatewayConfig; readonly updatedMs: number } | undefined
  /** The sum over all workers that answer within a second, and the server's own gauges. */
  stats(): Promise<MetricsSnapshot>
  status(): Promise<EngineStatus>
  /** Of all processes together. */
  memory(): Promise<MemoryUse>
  /** What discovery services deliver, and the static resources beside it; undefined where the configuration has no such. */
  dynamic(): DynamicStatus | undefined
  /** Sets keys of the admin layer of the runtime; '' takes a key away. Answers why not, undefined where it was done. */
  modifyRuntime(values: JsonObject): string | undefined
  /** From now on what hosts count is kept for this reader, whatever becomes of the worker that counted; for load reports. */
  loads(): LoadReader
  /** pino level names; undefined where it was never changed. */
  logLevel(): string | undefined
  setLogLevel(level: string): void
  /** Closes listeners for good and lets what is in flight end; the gateway itself goes on. Default: all, at once. */
  drainListeners(wish?: DrainWish): void
  /** False: `/ready` and health check filters answer that this gateway should get no more traffic. */
  setHealthy(ok: boolean): void
  reopenLogs(): void
  /** Replaces all worker processes, one after the other, without anybody noticing; false where there are none. */
  restartWorkers(): boolean
  /** Ends the gateway at once. */
  quit(): void
}
