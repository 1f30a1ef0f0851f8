import type { OverloadLevers, TimeoutMinimum } from '../core/overload.ts'

/** How much of a resource is in use, from 0 to 1 and beyond, is its pressure. `name` is unique, and that of its statistics. */
export type MonitorConfig = { readonly name: string } & (
  | {
      /** The memory of all processes of the gateway. */
      readonly kind: 'process-memory'
      readonly limitBytes: number
      /** A number of the runtime under it goes before `limitBytes`. */
      readonly limitKey?: string
    }
  /** The memory of the control group, of its limit or of `limitBytes`, whichever is less. */
  | { readonly kind: 'cgroup-memory'; readonly limitBytes?: number }
  /** The share of the machine's processors, or of what the control group may use of them, that is busy. */
  | { readonly kind: 'cpu'; readonly of: 'host' | 'container' }
  /** Downstream connections of all listeners, those included that no limit of the gateway holds for. */
  | { readonly kind: 'connections'; readonly limit: number }
  /** A file that holds the pressure as text. */
  | { readonly kind: 'file'; readonly path: string }
  /** How late a worker's event loop comes to its timers, of `limitMs`. */
  | { readonly kind: 'loop-delay'; readonly limitMs: number }
  /** The share of its time that a worker's event loop is busy. */
  | { readonly kind: 'loop-utilization' }
)

export type MonitorKind = MonitorConfig['kind']

/** Kinds that every worker measures for itself; the others are measured once for the gateway. */
export const WORKER_MONITORS: ReadonlySet<MonitorKind> = new Set(['loop-delay', 'loop-utilization'])

/** Off up to `from`, saturated from `to` on, and in between in proportion; equal: on or off. */
export interface TriggerConfig {
  readonly monitor: string
  readonly from: number
  readonly to: number
  /** Where `from` and `to` are equal: what is on stays so until the pressure is below. Default: `to`. */
  readonly release?: number
}

/** Levers that actions and load shed points move, by their names in Envoy. */
export const ACTIONS = Object.freeze({
  'envoy.overload_actions.stop_accepting_requests': 'stopAcceptingRequests',
  'envoy.overload_actions.disable_http_keepalive': 'disableKeepalive',
  'envoy.overload_actions.stop_accepting_connections': 'stopAcceptingConnections',
  'envoy.overload_actions.reject_incoming_connections': 'rejectConnections',
  'envoy.overload_actions.shrink_heap': 'shrinkHeap',
  'envoy.overload_actions.reduce_timeouts': 'reduceTimeouts',
  'envoy.overload_actions.reset_high_memory_stream': 'resetStreams',
  'envoy.overload_actions.close_idle_http_connections': 'closeIdleConnections',
} as const satisfies { readonly [name: string]: keyof OverloadLevers })

export const SHED_POINTS = Object.freeze({
  'envoy.load_shed_points.tcp_listener_accept': 'accept',
  'envoy.load_shed_points.http_connection_manager_decode_headers': 'decodeHeaders',
  'envoy.load_shed_points.http1_server_abort_dispatch': 'http1Abort',
  'envoy.load_shed_points.http2_server_go_away_on_dispatch': 'http2GoAway',
  'envoy.load_shed_points.http2_server_go_away_and_close_on_dispatch': 'http2GoAwayAndClose',
  'envoy.load_shed_points.hcm_ondata_creating_codec': 'createCodec',
  'envoy.load_shed_points.http_downstream_filter_check': 'filterCheck',
  'envoy.load_shed_points.connection_pool_new_connection': 'poolConnect',
} as const satisfies { readonly [name: string]: keyof OverloadLevers })

export type ActionName = keyof typeof ACTIONS
export type ShedPointName = keyof typeof SHED_POINTS

/** Timeouts that `reduce_timeouts` shrinks, by their names in Envoy. */
export const TIMEOUTS = Object.freeze({
  HTTP_DOWNSTREAM_CONNECTION_IDLE: 'connectionIdle',
  HTTP_DOWNSTREAM_CONNECTION_MAX: 'connectionMax',
  HTTP_DOWNSTREAM_STREAM_IDLE: 'streamIdle',
  HTTP_DOWNSTREAM_STREAM_FLUSH: 'streamFlush',
  TRANSPORT_SOCKET_CONNECT: 'transportConnect',
} as const satisfies { readonly [name: string]: keyof OverloadLevers })

export type TimeoutName = keyof typeof TIMEOUTS

export interface ActionConfig {
  readonly name: ActionName
  /** The one that is furthest decides. */
  readonly triggers: readonly TriggerConfig[]
}

/** What the overload manager of a gateway watches, and what it does. JSON-safe; names of monitors and actions are unique. */
export interface OverloadConfig {
  readonly refreshIntervalMs: number
  readonly monitors: readonly MonitorConfig[]
  readonly actions: readonly ActionConfig[]
  readonly shedPoints: readonly { readonly name: ShedPointName; readonly triggers: readonly TriggerConfig[] }[]
  /** Of `reduce_timeouts`. */
  readonly timeouts: readonly { readonly timeout: TimeoutName; readonly minimum: TimeoutMinimum }[]
  /** Of `reset_high_memory_stream`: streams that hold less are left alone. */
  readonly smallestStreamBytes: number
  /** Of `shrink_heap`: how often at most, and how much that is not in use may stay. */
  readonly shrink: { readonly intervalMs: number; readonly keepBytes: number }
}

/** Envoy's defaults. */
export const OVERLOAD_DEFAULTS = Object.freeze({
  refreshIntervalMs: 1_000,
  smallestStreamBytes: 2 ** 20,
  shrink: Object.freeze({ intervalMs: 10_000, keepBytes: 100 * 2 ** 20 }),
})
