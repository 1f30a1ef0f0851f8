import type { ConnectionInfo, TlsInfo } from './connection.ts'
import type { Json, JsonObject } from './errors.ts'
import type { Failure } from './failure.ts'
import type { HashPolicyConfig } from './hash-policy.ts'
import type { Hash64 } from './hash64.ts'
import type { Protocol, RequestHead } from './head.ts'
import type { Headers } from './headers.ts'
import type { ArrivalFacts } from './internal-listeners.ts'
import type { Counter } from './metrics.ts'
import type { RetryPolicyConfig } from './retry-policy.ts'

/** Envoy's routing priority of a request; each has circuit breakers of its own. */
export type RoutingPriority = 'default' | 'high'

/** One try to get a request answered by one host. */
export interface Attempt {
  readonly head: RequestHead
  /** As they go out; owned by the attempt. */
  readonly headers: Headers
  /** The request has no body. */
  readonly end: boolean
  readonly priority: RoutingPriority
  /**
   * The client asked for a permitted upgrade or CONNECT: the answer may turn the exchange into a tunnel. Such a request
   * has no body (`end` is true), and its stream stays open for what the tunnel brings: nothing is written before
   * `onUpgraded`.
   */
  readonly upgrade: boolean
  /**
   * The connection that the request came in on, for what upstream connections take from it (PROXY header, source address,
   * server name); undefined for requests of the gateway's own.
   */
  readonly downstream: ConnectionInfo | undefined
  /** What the client speaks, for clusters that answer in kind. */
  readonly downstreamProtocol: Protocol
  /** Interim 100s are passed on instead of dropped (`proxy_100_continue`). */
  readonly forwardContinue: boolean
}

/** The connection an attempt got. */
export interface UpstreamInfo {
  readonly protocol: Protocol
  readonly localAddress: string
  /** What was connected to: of an endpoint with several addresses the one that answered first. '' where it is no socket. */
  readonly remoteAddress: string
  /** Undefined in plaintext. */
  readonly tls: TlsInfo | undefined
  readonly connectionId: number
  /** The connection had served an exchange before. */
  readonly reused: boolean
}

/** What an attempt reports. Nothing follows a complete response or `onReset`. */
export interface UpstreamEvents {
  onConnected(info: UpstreamInfo): void
  onInformational(status: number, headers: Headers): void
  onHeaders(status: number, headers: Headers, end: boolean): void
  /** False: `pause` semantics, nothing more until `resume`. */
  onData(chunk: Buffer, end: boolean): boolean
  /**
   * Asked after `onData` by whoever could use the memory of its chunks again: sends what may go now. True: nobody keeps any
   * of them.
   */
  dataSettled?(): boolean
  onTrailers(trailers: Headers): void
  /**
   * Instead of `onHeaders`: the upgrade is granted, with the status of an HTTP/1 answer (101, or 2xx for CONNECT). From
   * here on `onData` and `write` carry the tunnel's bytes, and `end` in either is a half-close of that direction alone.
   */
  onUpgraded(status: number, headers: Headers): void
  /** After a `write` that answered false: more may be written. */
  onDrain(): void
  onReset(why: Failure, detail?: string): void
}

/** The request direction of an attempt. */
export interface UpstreamStream {
  /** False: wait for `onDrain`. What was written is taken in any case. */
  write(chunk: Buffer, end: boolean): boolean
  /**
   * Asked after `write` by whoever could use the memory of its chunks again: sends what may go now. True: nobody keeps any
   * of them.
   */
  settled?(): boolean
  /** What was written and has not gone to the system; default: not known. */
  readonly pendingBytes?: number
  trailers(trailers: Headers): void
  pause(): void
  resume(): void
  /** Nothing is delivered any more. Idempotent, harmless after the end. */
  cancel(): void
}

/** What a raw connection to a host is wanted for. */
export interface ByteAttempt {
  readonly priority: RoutingPriority
  /** As in `Attempt`. */
  readonly downstream: ConnectionInfo | undefined
  /** What an internal listener should know besides. */
  readonly arrival?: ArrivalFacts
}

/** What a raw upstream connection reports. Nothing follows `onClosed`. */
export interface ByteEvents {
  /** Connected, TLS and headers of the transport included: `write` is welcome from here on. */
  onConnected(info: UpstreamInfo): void
  /** False: nothing more until `resume`. */
  onData(chunk: Buffer): boolean
  /** Asked after `onData`: nothing of that chunk is kept, and its memory may be read into again. */
  readonly spent?: boolean
  /** The upstream's FIN: it sends no more and may still read. */
  onEnd(): void
  /** After a `write` that answered false: more may be written. */
  onDrain(): void
  /** Gone. Undefined: both directions had ended, or it was `reset` by its owner. */
  onClosed(why: Failure | undefined, detail?: string): void
}

/** A raw connection to one host: bytes both ways, no pooling. */
export interface ByteStream {
  /** False: wait for `onDrain`. What was written is taken in any case, before `onConnected` too. */
  write(chunk: Buffer): boolean
  /** Nothing that was written waits here: the system has it, and the chunks are nobody's any more. Never where that is not known. */
  readonly drained?: boolean
  /** Half-close: FIN once everything written has left. */
  end(): void
  pause(): void
  resume(): void
  /** Ends at once, with RST where the transport can. Idempotent. */
  reset(): void
}

/** Learns how attempts on a host end: outlier detection, and balancers that look at more than counts. */
export interface HostMonitor {
  /**
   * A response has come: told with its head, or with the trailers where those tell how a gRPC call went. `grpcStatus` is
   * undefined where there is none; `elapsedMs` is the time to the head either way.
   */
  onResponse(status: number, grpcStatus: number | undefined, elapsedMs: number): void
  /**
   * It could not be connected to, broke off (after `onResponse` too, where that was in the middle of the body), or was too
   * slow. Never for what was this proxy's own doing.
   */
  onFailure(why: Failure, elapsedMs: number): void
  /** A response has `x-envoy-immediate-health-check-fail`: the host wants to be left out at once. */
  onCheckFailRequested?(): void
  /** A response that is no failure has `x-envoy-degraded`, told before `onResponse`: others are to go first. */
  onDegraded?(): void
  /** A response of 429 or 503 has come, told before `onResponse`: it may say how long to wait. */
  onUnavailable?(status: number, headers: Headers): void
  /** Fields of a response of which some may be a load report: its head's, and its trailers'. Not kept. */
  onLoadFields?(fields: Headers): void
}

/** One endpoint, as whoever chose it may see it. */
export interface UpstreamHost {
  /** Undefined where nobody wants to know. */
  readonly monitor?: HostMonitor | undefined
  /** Of its level, from 0. */
  readonly priority?: number
  readonly metadata?: JsonObject | undefined
  /** `ip:port` or the pipe's path. */
  readonly addressText: string
  /** '' where neither the configuration nor DNS gave a name. */
  readonly hostname: string
  rqSuccess: number
  rqError: number
  rqTimeout: number
}

/** Hosts that a request is for: the first of them that is there and healthy enough. */
export interface WantedHosts {
  /** As in `UpstreamHost.addressText`. */
  readonly addresses: readonly string[]
  /** What it is where none of them can be had; undefined: the balancer chooses. */
  readonly otherwise: Failure | undefined
}

/** What filters have noted of a request, by namespace. */
export interface PickMetadata {
  get(namespace: string): Json | undefined
  /** Objects are merged key by key, anything else replaces. */
  merge(namespace: string, value: Json): void
}

/** What a choice of host may depend on. */
export interface PickContext {
  /** Hosts that earlier attempts used: avoided as long as there is another. */
  readonly excluded?: readonly UpstreamHost[]
  /** The connection it is for: clusters of a forward proxy read the name of the host from it. */
  readonly downstream?: ConnectionInfo
  /** Of the request, as it goes out: clusters of a forward proxy look it up. Undefined: there is no request. */
  readonly authority?: string | undefined
  /** What the client speaks, for connections that are opened ahead of need; undefined: not HTTP. */
  readonly protocol?: Protocol | undefined
  /** What filters have left on the request, or else on its connection. */
  readonly filterState?: { get(key: string): unknown } | undefined
  /** Which attempt by the retry policy this is, from 1; undefined: the first. */
  readonly attempt?: number
  /** Hosts of `spentPriorities`, for clusters whose priorities are those of others. */
  readonly spentHosts?: readonly UpstreamHost[] | undefined
  /**
   * 64 bits of what the request is to stick to, for balancers that hash; undefined where there is no policy, or nothing in
   * the request that it looks at. Balancers that do not hash never ask. `own`: policies of the balancer, the same list each
   * time; whoever is no HTTP request need not heed them.
   */
  hash?(own?: readonly HashPolicyConfig[]): Hash64 | undefined
  /** Labels that the host must have (`metadata_match`, namespace `envoy.lb`), for subset balancers. */
  readonly labels?: JsonObject | undefined
  /** Hosts to take instead of the balancer's choice. */
  readonly wanted?: WantedHosts | undefined
  /** The first value of a field of the request, by its lower-case name; for balancers that requests tell where to go. */
  header?(name: string): string | undefined
  /** Dynamic metadata of the request; undefined: it has none. */
  readonly metadata?: PickMetadata | undefined
  /** True: not this one, if there is another within `selectionAttempts` more picks (retry host predicates). */
  rejects?(host: UpstreamHost): boolean
  readonly selectionAttempts?: number
  /** Priorities that earlier attempts used: load goes to others as long as there are some (`previous_priorities`). */
  readonly spentPriorities?: readonly number[] | undefined
}

/** Whoever waits for a host to be found. */
export interface Waiter {
  /** Aborts when it waits no more. */
  readonly signal: AbortSignal
}

/** What a cluster permits and counts of retries, whoever makes them. */
export interface ClusterRetries {
  /** Goes before what routes say; undefined: routes say. */
  readonly policy: RetryPolicyConfig | undefined
  /** Takes room for one more retry under way; false: there is none, which has been counted. */
  tryAcquire(priority: RoutingPriority): boolean
  /** Gives it back; each that was taken exactly once. */
  release(priority: RoutingPriority): void
  /** Counts a response that went no further because a retry took its place. */
  replaced(status: number): void
  readonly counters: {
    readonly retry: Counter
    readonly success: Counter
    readonly limitExceeded: Counter
    readonly backOffExponential: Counter
    readonly backOffRateLimited: Counter
    /** Bodies that outgrew what is kept of them. */
    readonly abandoned: Counter
    readonly perTryTimeout: Counter
    readonly perTryIdleTimeout: Counter
  }
}

/** One upstream cluster of the current snapshot. */
export interface Cluster {
  readonly name: string
  /** Its name in statistics (`cluster.<statName>.`). */
  readonly statName: string
  /** A response through this cluster may not take longer; undefined: no limit of its own. */
  readonly maxStreamDurationMs: number | undefined
  /** Its hosts are those that requests name (a dynamic forward proxy). */
  readonly forwards?: boolean
  /**
   * Clusters that find their hosts on demand alone: to be called before `pick`, with the same context, by whoever can
   * wait. Nothing: the host is known. A failure, or a promise of either. `waiter`: who waits, and is not counted among those
   * who do once it has gone; its signal is asked for only where there is something to wait for.
   */
  prepare?(context: PickContext, waiter?: Waiter): Failure | undefined | Promise<Failure | undefined>
  pick(context: PickContext): UpstreamHost | Failure
  /** Starts one attempt on a host that `pick` answered. Undefined where it failed at once (`onReset` has told why). */
  open(host: UpstreamHost, attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined
  /**
   * Opens a connection of its own to a host that `pick` answered and hands over its bytes, through the cluster's transport
   * (TLS, PROXY header). Undefined where it failed at once (`onClosed` has told why).
   */
  connect(host: UpstreamHost, attempt: ByteAttempt, events: ByteEvents): ByteStream | undefined
  /** Undefined: nobody retries through it. */
  readonly retries?: ClusterRetries
  /** What requests through it are hashed by; undefined: their routes say. */
  readonly hashPolicies?: readonly HashPolicyConfig[] | undefined
  health(): { readonly healthy: number; readonly degraded: number; readonly total: number }
  /** Counts one final response and its time. `internal`: its request came from within (`x-envoy-internal`), or is our own. */
  completed(status: number, elapsedMs: number, internal: boolean): void
  readonly counters: {
    readonly timeout: Counter
    readonly retry: Counter
    readonly retrySuccess: Counter
    readonly cancelled: Counter
    /** Redirects of its hosts that were to be followed; undefined: nobody counts them. */
    readonly redirects?: { readonly succeeded: Counter; readonly failed: Counter }
  }
}

export interface Clusters {
  get(name: string): Cluster | undefined
}
