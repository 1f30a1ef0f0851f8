import type { Address } from '../core/address.ts'
import type { ConfigSources } from '../core/config-sources.ts'
import type { ConnectionInfo } from '../core/connection.ts'
import type { ResponseFlag } from '../core/failure.ts'
import type { FieldReader } from '../core/field-reader.ts'
import type { StreamInfo } from '../core/stream-info.ts'
import type { AccessLogConfig } from '../telemetry/config.ts'
import type { Scope } from './filter.ts'

/** What a listener filter may ask of an accepted socket besides its bytes. */
export interface AcceptedSocket {
  /**
   * Where the client wanted to go before the connection was redirected to this port. Undefined: it was not redirected.
   *
   * @throws Error where the platform does not tell.
   */
  originalDestination(): (Address & { readonly kind: 'ip' }) | undefined
}

/** What a listener filter has found out; `undefined` fields of it are not set. */
export type FoundFacts = Partial<
  Pick<
    ConnectionInfo,
    | 'kind'
    | 'remoteAddress'
    | 'remotePort'
    | 'localAddress'
    | 'localPort'
    | 'transportProtocol'
    | 'serverName'
    | 'applicationProtocols'
    | 'ja3'
    | 'ja4'
    | 'proxyProtocol'
  >
>

/** A connection that a listener filter does not let in. */
export interface ListenerRefusal {
  /** Why, in a few words: for the log line. */
  readonly refused: string
}

/** The verdict of a listener filter on the bytes so far. */
export type Inspection<S> =
  /** More bytes are needed; `more` comes back with the next call. */
  | { readonly more: S }
  /** Done: `strip` bytes at the front are consumed, `facts` are new. What it left in `ConnectionState` stays. */
  | { readonly strip: number; readonly facts: FoundFacts }
  | ListenerRefusal

/**
 * Looks at the first bytes of a connection before anything is decided about it (PROXY header, TLS hello). A pure
 * function of bytes: incremental, state in and state out, so that a drip costs linear time. One object for all
 * connections of a listener; filters run one after another, each on what the ones before have left.
 */
export interface ListenerFilter<S = unknown> {
  /** How far `inspect` may look; a connection that makes it want more is closed. 0: it has no `inspect`. */
  readonly maxBytes: number
  /** Before anything is read. A promise, which never rejects: the connection waits for it. */
  onAccept?(
    facts: ConnectionInfo,
    socket: AcceptedSocket,
  ): FoundFacts | ListenerRefusal | undefined | Promise<FoundFacts | ListenerRefusal | undefined>
  /**
   * `peeked` holds everything received so far, `from` is where the bytes begin that the last call has not seen.
   * `state` is undefined at the first call.
   */
  inspect?(peeked: Buffer, from: number, state: S | undefined, facts: ConnectionInfo): Inspection<S>
  /**
   * The client has closed, or time is up and the listener goes on without (`continue_on_listener_filters_timeout`).
   * Default: nothing is known and nothing consumed.
   */
  giveUp?(peeked: Buffer, state: S | undefined): FoundFacts
}

/** One downstream connection as network filters see it: a socket, a TLS stream or a tunnel behind one face. */
export interface NetworkConnection {
  readonly facts: ConnectionInfo
  /** For logs: bytes, flags, upstream host. */
  readonly info: StreamInfo
  /** False: wait for `onDrain`. Passes the write hooks of the filters before the one that calls. */
  write(chunk: Buffer): boolean
  /** Half-close: no more is written. The connection is over when both sides have ended. */
  end(): void
  /** Everything written leaves, then the connection closes in both directions. `details`: for logs. */
  close(details: string, flag?: ResponseFlag): void
  /** Closes with a reset. */
  reset(details: string, flag?: ResponseFlag): void
  /**
   * Nothing that was written waits: the system has it, and the chunks are nobody's any more. Never where that is not known:
   * behind write hooks, which may keep chunks, and on streams that lend them on.
   */
  readonly drained: boolean
  /**
   * From within `onRead`, by the filter that consumes: nothing of the chunk is kept, and its memory may be read into
   * again. Saves an allocation for each read; without effect where other filters have seen the chunk.
   */
  spent(): void
  /** Nothing more is read until `resume`, counted per filter: it reads again when all have resumed. */
  pause(): void
  resume(): void
}

/** Nothing: go on. A promise: this direction pauses until it settles. Closing the connection stops the chain. */
export type NetworkNext = void | undefined | PromiseLike<void | undefined>
/** Nothing: pass the chunk on. A Buffer: pass that instead. `null`: swallow it. A promise: the direction pauses. */
export type NetworkChunk = void | undefined | Buffer | null | PromiseLike<void | undefined | Buffer | null>

/**
 * A filter of layer 4, above TLS. Same rules as `HttpFilter`: hooks on one immutable object that all connections share,
 * nothing returned means go on. Reads pass filters first to last, writes last to first. The last filter of a chain
 * consumes what it reads (tcp_proxy, echo), unless the chain ends in an HTTP connection manager.
 *
 * ```
 * onConnect ─▶ onRead*, onWrite*, onDrain* ─▶ onClose
 * ```
 * What a hook throws resets the connection and is logged with the filter's name; the worker lives.
 */
export interface NetworkFilter<S = unknown> {
  createState?(connection: NetworkConnection): S
  /** The connection is established, TLS included; nothing has been read yet. */
  onConnect?(connection: NetworkConnection, state: S): NetworkNext
  /** `end`: the client's FIN; may come with an empty chunk. */
  onRead?(connection: NetworkConnection, chunk: Buffer, end: boolean, state: S): NetworkChunk
  onWrite?(connection: NetworkConnection, chunk: Buffer, end: boolean, state: S): NetworkChunk
  /** After a `write` that answered false: more may be written. */
  onDrain?(connection: NetworkConnection, state: S): void
  /** The listener drains: end when convenient. Connections that carry tunnels may ignore it. */
  onDraining?(connection: NetworkConnection, state: S): void
  /** Exactly once. `info` says how it ended. */
  onClose?(connection: NetworkConnection, state: S): void
}

/** What the log line of a connection is made of. */
export type LoggedConnection = Pick<NetworkConnection, 'facts' | 'info'>

/** Envoy's `%ACCESS_LOG_TYPE%` of connections; `NotSet` in the logs of listeners. */
export type ConnectionLogType =
  | 'NotSet'
  | 'TcpConnectionStart'
  | 'TcpUpstreamConnected'
  | 'TcpPeriodic'
  | 'TcpConnectionEnd'

/** Writes access log lines of connections. */
export interface ConnectionLogger {
  /** Never throws and never waits. */
  log(connection: LoggedConnection, type: ConnectionLogType): void
}

/** What a network filter may reach when it is compiled: as `Scope`, whose `statPrefix` is '' here. */
export interface NetworkScope extends Scope {
  readonly listenerName: string
  /** Their sinks are owned by the scope. */
  openLogs(configs: readonly AccessLogConfig[]): ConnectionLogger
}

interface Factory<C> {
  /** Envoy's canonical name, for example `envoy.filters.network.tcp_proxy`. */
  readonly name: string
  /** Without `type.googleapis.com/`. The first is the canonical one. */
  readonly typeUrls: readonly string[]
  /** Pure; the result is JSON-safe. Collects errors in the reader. `sources` as in `FilterFactory`. */
  parse(fields: FieldReader, sources?: ConfigSources): C
}

/** Makes network filters of one kind. */
export interface NetworkFilterFactory<C = unknown> extends Factory<C> {
  /** It consumes what it reads: nothing may come after it. */
  readonly terminal?: boolean
  /** Clusters that a configuration names, for checks; default none. */
  clusters?(config: C): readonly string[]
  compile(config: C, scope: NetworkScope): NetworkFilter
}

/** Makes listener filters of one kind. */
export interface ListenerFilterFactory<C = unknown> extends Factory<C> {
  /** It finds what filter chains are chosen by; without effect where there is nothing to choose. */
  readonly inspector?: boolean
  /** Why sockets cannot have it: refused with this on listeners that are not internal. */
  readonly internalOnly?: string
  compile(config: C, scope: Scope): ListenerFilter
}

export type AnyNetworkFilterFactory = NetworkFilterFactory<never> | NetworkFilterFactory<unknown>
export type AnyListenerFilterFactory = ListenerFilterFactory<never> | ListenerFilterFactory<unknown>
