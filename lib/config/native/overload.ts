import type { TimeoutMinimum } from '../../core/overload.ts'

/** What is watched. Its pressure is the share that is in use: 0 nothing, 1 all that may be. */
export type NativeMonitor =
  /** The memory of all processes of the gateway. */
  | { readonly kind: 'process-memory'; readonly limitBytes: number }
  /** The memory of the control group (the container), of its limit and of `limitBytes`, whichever is less. */
  | { readonly kind: 'cgroup-memory'; readonly limitBytes?: number }
  /** How busy the processors are: all of the machine's, or those that the control group may use. Default: `host`. */
  | { readonly kind: 'cpu'; readonly of?: 'host' | 'container' }
  /** Downstream connections of all listeners, of `limit`. Default: `maxConnections` of the gateway. */
  | { readonly kind: 'connections'; readonly limit?: number }
  /** A file that holds a number from 0 to 1. */
  | { readonly kind: 'file'; readonly path: string }
  /** How late the event loop comes to its timers, smoothed over a second; pressure 1 at `limitMs`. Default: 200. */
  | { readonly kind: 'loop-delay'; readonly limitMs?: number }
  /** The share of its time that the event loop is busy, smoothed over a second. */
  | { readonly kind: 'loop-utilization' }

/**
 * `at`: on from that pressure on, and off again below `release` (default: `at`). `from`, `to`: in proportion in between. Of
 * what is neither off nor saturated, that share of connections or requests is met.
 */
export type NativeTrigger =
  | { readonly monitor: string; readonly at: number; readonly release?: number }
  | { readonly monitor: string; readonly from: number; readonly to: number }

/** What is done against overload. Of several triggers the furthest decides. */
export interface NativeOverloadActions {
  /** New requests are answered 503 with `Retry-After`. */
  readonly stopAcceptingRequests?: readonly NativeTrigger[]
  /** Answers close their HTTP/1 connections, and HTTP/2 connections drain. */
  readonly disableKeepalive?: readonly NativeTrigger[]
  /** Connections wait in the queues of listening sockets; those of an embedded gateway are reset. */
  readonly stopAcceptingConnections?: readonly NativeTrigger[]
  /** Connections are reset as they come. */
  readonly rejectConnections?: readonly NativeTrigger[]
  /** Garbage is collected; only in processes with `--expose-gc`, which the workers of the binary have. */
  readonly shrinkHeap?: readonly NativeTrigger[]
  /** `timeouts` shrink. */
  readonly reduceTimeouts?: readonly NativeTrigger[]
  /** The streams that hold most memory end, up to 50 at a time. */
  readonly resetStreams?: readonly NativeTrigger[]
  /** HTTP connections that have been idle for a minute are closed, and all idle ones where it is saturated. */
  readonly closeIdleConnections?: readonly NativeTrigger[]
}

/** Places where load is shed. */
export interface NativeShedPoints {
  /** Connections are reset before anything is read. */
  readonly accept?: readonly NativeTrigger[]
  /** Connections are closed with their first bytes. */
  readonly createCodec?: readonly NativeTrigger[]
  /** Requests are answered 503 when their heads have come. */
  readonly decodeHeaders?: readonly NativeTrigger[]
  /** What comes over HTTP/1 is answered 500, and the connection closed. */
  readonly http1Abort?: readonly NativeTrigger[]
  /** HTTP/2 connections get GOAWAY before what has come is looked at. */
  readonly http2GoAway?: readonly NativeTrigger[]
  /** The same, and all that is on them ends. */
  readonly http2GoAwayAndClose?: readonly NativeTrigger[]
  /** Requests are answered 503 before they are sent upstream. */
  readonly filterCheck?: readonly NativeTrigger[]
  /** No upstream connections are opened: requests that need one fail. */
  readonly poolConnect?: readonly NativeTrigger[]
}

/** What timeouts shrink to where `reduceTimeouts` is saturated: so many ms, or that share (0 to 1) of themselves. */
export interface NativeReducedTimeouts {
  readonly connectionIdle?: TimeoutMinimum
  readonly connectionMax?: TimeoutMinimum
  readonly streamIdle?: TimeoutMinimum
  readonly streamFlush?: TimeoutMinimum
  readonly transportConnect?: TimeoutMinimum
}

/**
 * Watches what the gateway takes of the machine, and sheds load before it is too much. The admin server, and listeners with
 * `bypassOverload`, are never touched. Statistics: `overload.<monitor>.pressure` and Envoy's names of the actions.
 */
export interface NativeOverload {
  /** How often is looked. Default: 250. */
  readonly refreshIntervalMs?: number
  readonly monitors: { readonly [name: string]: NativeMonitor }
  readonly actions?: NativeOverloadActions
  readonly shed?: NativeShedPoints
  readonly timeouts?: NativeReducedTimeouts
  /** `resetStreams` leaves alone what holds less. Default: 1 MiB. */
  readonly smallestStreamBytes?: number
  /** `shrinkHeap`: how often at most, and what that is not in use may stay. Default: 10,000 and 100 MiB. */
  readonly shrink?: { readonly intervalMs?: number; readonly keepBytes?: number }
}
