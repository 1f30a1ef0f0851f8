import type { Machine } from '../load/machine.ts'

/** What every proxy of a suite has to do. */
export interface ProxyTask {
  readonly listenPort: number
  readonly originPort: number
  /** One line per request goes to this file; undefined: no access log. */
  readonly logFile?: string
  /** An empty folder for configuration and temporary files. */
  readonly folder: string
  /** Routes of the generated configuration; undefined: one, for everything. */
  readonly routes?: number
}

/** How a proxy is started. */
export interface ProxyStart {
  readonly command: readonly string[]
  readonly env?: NodeJS.ProcessEnv
  /** Set where the program logs to standard output. */
  readonly stdoutFile?: string
}

/** One proxy in one configuration. */
export interface Variant {
  readonly name: string
  /** True for what does less than a proxy (no X-Forwarded-For, no request id): a floor, not a peer. */
  readonly floor?: boolean
  /** The port it is to serve; `prepare` writes what it needs into `task.folder`. */
  prepare(task: ProxyTask, machine: Machine): ProxyStart
  /** Why it cannot run here; undefined where it can. */
  missing(): string | undefined
}
