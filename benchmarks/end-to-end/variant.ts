import type { Certificate } from '../load/certificate.ts'
import type { Machine } from '../load/machine.ts'

/** What is spoken on either side of a proxy. */
export interface Traffic {
  /** HTTP/2 without TLS is by prior knowledge, on both sides. */
  readonly client: 'http1' | 'http2'
  readonly upstream: 'http1' | 'http2'
  /** Towards the client. */
  readonly tls?: boolean
  /**
   * Set where the proxy passes bytes and only client and origin speak HTTP: through one TCP proxy, through two in one
   * process, or through two with an HBONE tunnel (CONNECT over HTTP/2 over mutual TLS) between them.
   */
  readonly layer4?: 'tcp' | 'tcp twice' | 'hbone'
}

export const PLAIN_HTTP1: Traffic = Object.freeze({ client: 'http1', upstream: 'http1' })

/** HTTP/2 as every proxy is told to speak it, where it can be told: streams at once and windows in bytes. */
export const HTTP2_LIMITS = Object.freeze({ streams: 100, streamWindow: 64 * 1024, connectionWindow: 1024 * 1024 })

/** What every proxy of a suite has to do. */
export interface ProxyTask {
  readonly listenPort: number
  /** A free port for what a proxy needs between two hops of its own; only with such traffic. */
  readonly secondPort?: number
  readonly originPort: number
  /** One line per request goes to this file; undefined: no access log. */
  readonly logFile?: string
  /** An empty folder for configuration and temporary files. */
  readonly folder: string
  /** Routes of the generated configuration; undefined: one, for everything. */
  readonly routes?: number
  readonly traffic: Traffic
  /** Set where `traffic.tls` is. */
  readonly certificate?: Certificate
  /** Filter chains of the listener, chosen by SNI, each with a fixed answer (see chain-set.ts); undefined: one. */
  readonly chains?: number
  /** Thousands of answers at once that last for minutes: no time limit for an answer, no cap below 20,000 requests. */
  readonly longLived?: boolean
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
  /** True for a proxy that cannot make a request id; the report says so. */
  readonly noRequestId?: boolean
  /** False: left out by `--quick`. */
  readonly quick: boolean
  speaks(traffic: Traffic): boolean
  /** The port it is to serve; `prepare` writes what it needs into `task.folder`. */
  prepare(task: ProxyTask, machine: Machine): ProxyStart
  /** Why it cannot run here; undefined where it can. */
  missing(): string | undefined
}
