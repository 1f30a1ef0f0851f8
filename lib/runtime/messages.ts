import type { ResourceName } from '../config/change.ts'
import type { DemandWish } from '../config/live.ts'
import type { WatchdogsConfig } from '../config/watchdog.ts'
import type { Address } from '../core/address.ts'
import type { Json, JsonObject } from '../core/errors.ts'
import type { EjectionNews, HealthReport, HealthVerdicts } from '../core/host-health.ts'
import type { ClusterLoad, DrainWish, EngineStatus, MetricsChange } from './engine.ts'
import type { LeaseGrants, LeaseNotes } from './lease-notes.ts'
import type { Pressures } from './overload/run.ts'
import type { ProcessMisses } from './watchdog.ts'

/**
 * What the three kinds of process say to each other. All of it is plain JSON; what may be large travels as `part`s.
 * Workers and control have no channel of their own: the supervisor passes their messages on without looking inside.
 */

/** A piece of a large payload, cut by `encodeChunks`. Pieces of one payload arrive in order; `index` 0 starts anew. */
export interface Part<P extends string> {
  readonly kind: 'part'
  readonly payload: P
  /** Pairs an answer with its request; the configuration's number for configurations. */
  readonly id: number
  readonly index: number
  readonly last: boolean
  readonly text: string
}

/** One mistake, as it crosses the process boundary. */
export interface ErrorMessage {
  readonly path: string
  readonly message: string
}

export type ControlToWorker =
  /** Asks for `hello`, with which everything between the two begins. */
  | { readonly kind: 'greet' }
  /** A configuration, or a `ConfigChange` from the one before; `revision` of the message that ends it is what runs then. */
  | (Part<'config' | 'change'> & { readonly revision: string })
  /** The worker sends the configuration that it runs. */
  | { readonly kind: 'send-config'; readonly id: number }
  /** `full`: everything, not only what has changed since the last push. */
  | { readonly kind: 'send-stats'; readonly id: number; readonly full: boolean }
  | { readonly kind: 'send-status'; readonly id: number }
  /** Pushes bring `loads` from now on. */
  | { readonly kind: 'count-loads' }
  | { readonly kind: 'log-level'; readonly level: string }
  /** Another wish than the last one takes its place. */
  | { readonly kind: 'drain-listeners'; readonly deadlineMs: number; readonly wish: DrainWish }
  | { readonly kind: 'health'; readonly ok: boolean }
  /** What control measures against overload, by the names of the monitors. */
  | { readonly kind: 'pressures'; readonly pressures: Pressures }
  /** From now on it is told of hosts that are to be judged, of those that are there first. */
  | { readonly kind: 'report-hosts' }
  | { readonly kind: 'host-health'; readonly verdicts: HealthVerdicts }
  | { readonly kind: 'ejections'; readonly news: EjectionNews }
  | LeaseGrants
  /** What a worker asked for on demand is in force, or does not exist. */
  | { readonly kind: 'demanded'; readonly id: number; readonly found: boolean }

export interface Hello {
  readonly kind: 'hello'
  readonly pid: number
  /** Of the configuration that it runs, as control called it; '' where it has none yet. */
  readonly revision: string
  /** Its listeners drain on request, or have done so and stay closed. */
  readonly drained: DrainWish | undefined
  readonly healthy: boolean
}

export type WorkerToControl =
  | Hello
  | Part<'config' | 'stats' | 'status'>
  /** The configuration with that number runs, or does not and nothing has changed. */
  | { readonly kind: 'applied'; readonly id: number }
  | {
      readonly kind: 'refused'
      readonly id: number
      readonly errors: readonly ErrorMessage[]
      /** To blame, where it is one resource. */
      readonly resource?: ResourceName
    }
  | { readonly kind: 'host-reports'; readonly reports: readonly HealthReport[] }
  | LeaseNotes
  /** A filter asks for something on demand (`Demand`). */
  | { readonly kind: 'demand'; readonly id: number; readonly wish: DemandWish; readonly timeoutMs: number }

export type { DemandWish }

export interface StatsPush extends MetricsChange {
  /** What hosts have counted since the last push, once it was asked for. */
  readonly loads?: readonly ClusterLoad[]
}

export interface MemoryUse {
  readonly rss: number
  readonly heapUsed: number
  readonly heapTotal: number
  readonly external: number
}

export interface WorkerStatus {
  readonly engine: EngineStatus
  readonly memory: MemoryUse
}

export type WorkerToSupervisor =
  /** `held`: the real address of a socket that it has already and wants once more, having closed its copy. */
  | { readonly kind: 'bind'; readonly id: number; readonly address: Address; readonly held?: Address }
  | { readonly kind: 'release'; readonly address: Address }
  | { readonly kind: 'release-all' }
  /** It runs a whole configuration: sockets that only its predecessor used may go. */
  | { readonly kind: 'settled' }
  /** It was asked to go (SIGTERM) and goes on until another is there in its place. */
  | { readonly kind: 'leaving' }
  /** Its event loop turns. */
  | { readonly kind: 'pong' }
  | { readonly kind: 'to-control'; readonly body: WorkerToControl }

export type SupervisorToWorker =
  | {
      readonly kind: 'start'
      readonly worker: number
      /** From 0, one for each of the workers; that of the process that it takes the place of. */
      readonly place: number
      /** How many of them there are. */
      readonly workers: number
      /** How long in-flight work may take to end when the supervisor is gone or SIGTERM comes to the worker itself. */
      readonly drainTimeMs: number
      /** 32 random bytes in Base64, the same for all workers and their successors: TLS tickets are derived from it. */
      readonly ticketSecret: string
      readonly settings: Settings
    }
  /** Comes with a handle, or with `listen`: options for `server.listen` where no handle can be made. */
  | { readonly kind: 'bound'; readonly id: number; readonly listen?: JsonObject }
  | { readonly kind: 'bind-failed'; readonly id: number; readonly code: string; readonly message: string }
  /** Go on, but answers close their connections and health checks fail: the gateway ends soon. */
  | { readonly kind: 'announce-drain'; readonly forMs: number; readonly ofMs: number }
  /** Stop accepting, finish what is in flight, end the process. `replaced`: another works in its place, so nobody need know. */
  | { readonly kind: 'drain'; readonly deadlineMs: number; readonly replaced?: true }
  | { readonly kind: 'ping' }
  | { readonly kind: 'reopen-logs' }
  /** The control process has ended; the next one greets. */
  | { readonly kind: 'control-down' }
  | { readonly kind: 'from-control'; readonly body: ControlToWorker }

export type ControlToSupervisor =
  /** Every worker runs the first configuration. */
  | { readonly kind: 'ready'; readonly admin: string }
  /** The first configuration cannot be run; the reasons have been written. */
  | { readonly kind: 'failed' }
  | { readonly kind: 'quit' }
  | { readonly kind: 'reopen-logs' }
  /** What is thought of processes that hang. */
  | { readonly kind: 'watch'; readonly watchdogs: WatchdogsConfig }
  /** All workers, one after the other. */
  | { readonly kind: 'restart-workers' }
  /** Its event loop turns. */
  | { readonly kind: 'pong' }
  | { readonly kind: 'to-worker'; readonly worker: number; readonly body: ControlToWorker }

export type SupervisorToControl =
  /** `restarted`: workers may be serving already, and their configuration counts. */
  | {
      readonly kind: 'start'
      readonly restarted: boolean
      /** From 1, one more for each control process of the gateway. */
      readonly run: number
      /** How long the gateway has been running. */
      readonly ageMs: number
      readonly workers: number
      readonly drainTimeMs: number
      readonly settings: Settings
    }
  | { readonly kind: 'worker-up'; readonly worker: number }
  | { readonly kind: 'worker-down'; readonly worker: number }
  | { readonly kind: 'draining' }
  | { readonly kind: 'reopen-logs' }
  /** Look at the files of the configuration now. */
  | { readonly kind: 'reload' }
  | ({ readonly kind: 'lives'; readonly misses: readonly ProcessMisses[] } & WorkerLives)
  | { readonly kind: 'ping' }
  | { readonly kind: 'from-worker'; readonly worker: number; readonly body: WorkerToControl }

/** What has become of worker processes since the gateway started. */
export interface WorkerLives {
  /** Ended by themselves or were killed by somebody. */
  readonly died: number
  /** Were killed because they answered no more; among those that died. */
  readonly silent: number
  /** Made room for another one on request. */
  readonly replaced: number
}

/** Settings of a process kind, opaque to this room: the composition root writes and reads them. */
export type Settings = { readonly [key: string]: Json }
