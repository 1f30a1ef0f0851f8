import type { HttpFilter } from '../../chain/filter.ts'
import type { AnyFilterFactory } from '../../chain/registry.ts'
import type { JsonObject } from '../../core/errors.ts'
import type { MatcherTreeConfig } from '../../match/config.ts'
import type { HeaderValueConfig } from '../../router/config.ts'
import type { ClientCertificateField, ClientCertificateHeaderConfig } from '../listener.ts'
import type { NativeHttp2 } from './http2.ts'
import type { NativeAccessLog, NativeFormat, NativeLogFilter } from './logs.ts'
import type { NativeCidr, NativeStringMatch } from './matches.ts'
import type { NativeRoute, NativeRouteTable, NativeUpgrade, NativeVirtualHost } from './routes.ts'

/** A filter that the gateway knows, by name. */
export interface NativeKnownFilter {
  /** Name in this chain, unique; also the filter's own name where `type` is not set. */
  readonly name: string
  /** The filter's name (`envoy.filters.http.cors`, or just `cors`) or the type URL of its configuration. */
  readonly type?: string
  /** As JSON; field names as in Envoy's API, in snake_case or camelCase. */
  readonly config?: JsonObject
  /** In the chain, but off unless a route switches it on. Default: false. */
  readonly disabled?: boolean
}

/** A filter object that is there already. It takes no per-route configuration, but routes may switch it. */
export interface NativeFilterObject {
  /** Name in this chain, unique. */
  readonly name: string
  /** Shared by all requests; `middleware()` makes one of an async function. */
  readonly filter: HttpFilter<unknown>
  /** In the chain, but off unless a route switches it on. Default: false. */
  readonly disabled?: boolean
}

/** A filter by its factory, which the gateway thereby knows. */
export interface NativeFactoryFilter {
  readonly factory: AnyFilterFactory
  /** Name in this chain, unique. Default: the factory's. */
  readonly name?: string
  /** As JSON. Default: `{}`. */
  readonly config?: JsonObject
  /** In the chain, but off unless a route switches it on. Default: false. */
  readonly disabled?: boolean
}

/** One filter of a chain; a bare factory stands for itself with an empty configuration. */
export type NativeFilter = NativeKnownFilter | NativeFilterObject | NativeFactoryFilter | AnyFilterFactory

/** One change to request headers; exactly one field. */
export interface NativeHeaderMutation {
  readonly remove?: string
  readonly append?: HeaderValueConfig
  /** Removes every header whose name matches. */
  readonly removeOnMatch?: NativeStringMatch
}

/** Another way to learn the client's address than `useRemoteAddress`. */
export type NativeOriginalIpDetection =
  | {
      readonly kind: 'xff'
      /** Proxies that are trusted, counted from our side. Default: 0. */
      readonly trustedHops?: number
      /** Instead of a number: walk back over trusted addresses. */
      readonly trustedCidrs?: readonly NativeCidr[]
      /** Default: true. */
      readonly skipAppend?: boolean
    }
  | {
      readonly kind: 'custom-header'
      readonly header: string
      /** The address decides who is internal. Default: false. */
      readonly trusted?: boolean
      /** Status of the refusal where the header is missing or no address. Default: go on without. */
      readonly rejectStatus?: number
    }

/** Changes an answer of our own that the filter takes. */
export interface NativeLocalReplyMapper {
  readonly filter: NativeLogFilter
  readonly status?: number
  readonly body?: string
  readonly bodyFormat?: NativeFormat
  readonly headers?: readonly HeaderValueConfig[]
}

/** What upstreams are told of the client's certificate, by request. */
export interface NativeClientCertificateHeader extends NativeClientCertificate {
  /** Goes before the rest where it finds something in the request. Default: the same for all. */
  readonly byRequest?: MatcherTreeConfig<NativeClientCertificate>
}

/** What upstreams are told of the client's certificate. */
export interface NativeClientCertificate {
  readonly mode: ClientCertificateHeaderConfig['mode']
  /** Besides the hash, and the URIs of our own certificate. Default: `subject`, `uri` and `dns`. */
  readonly fields?: readonly ClientCertificateField[]
  /** Default: `text`, Envoy's pairs; `json` is an array of objects. */
  readonly format?: 'text' | 'json'
}

/**
 * HTTP on a listener: limits, routes, filters. Defaults are safe at the edge of a network. Times in ms, where 0 means
 * none; sizes in bytes.
 */
export interface NativeHttp {
  /** Name in statistics: `http.<statPrefix>.`. Default: the listener's name. */
  readonly statPrefix?: string
  /** `auto`: by ALPN over TLS, and otherwise by the first bytes. Default: `auto`. */
  readonly codec?: 'auto' | 'http1' | 'http2'
  /** Short for one virtual host with the domain `*`. Exactly one of `routes` and `virtualHosts`. */
  readonly routes?: readonly NativeRoute[]
  readonly virtualHosts?: readonly NativeVirtualHost[]
  /** What holds for all routes. */
  readonly routeTable?: NativeRouteTable
  /** Requests pass them first to last, responses last to first. The router is appended where it is not listed. */
  readonly filters?: readonly NativeFilter[]
  readonly accessLogs?: readonly NativeAccessLog[]
  /** Protocols that clients may switch to, such as `websocket`. Default: none, they are refused with 403. */
  readonly upgrades?: readonly NativeUpgrade[]
  readonly localReply?: { readonly mappers?: readonly NativeLocalReplyMapper[]; readonly bodyFormat?: NativeFormat }

  /** Value of the Server header. Default: `headgate`. */
  readonly serverName?: string
  /** Default: `overwrite`. */
  readonly serverHeader?: 'overwrite' | 'append-if-absent' | 'pass-through'
  /** Appended to Via both ways. Default: '', Via stays as it is. */
  readonly via?: string
  /** Adds a User-Agent where there is none. Default: false. */
  readonly addUserAgent?: boolean
  /** Sends X-Request-ID where there is none. Default: true. */
  readonly generateRequestId?: boolean
  /** Keeps an X-Request-ID from outside. Default: false. */
  readonly preserveExternalRequestId?: boolean
  /** Default: false. */
  readonly requestIdInResponse?: boolean
  /** Changes before routes and filters see the request. */
  readonly earlyHeaderMutations?: readonly NativeHeaderMutation[]
  /** What X-Forwarded-Proto and `:scheme` say, whatever the connection is. */
  readonly schemeOverwrite?: 'http' | 'https'

  /**
   * The peer is the client (or the last of `xffTrustedHops` proxies): X-Forwarded-For of strangers is not believed.
   * Default: true; false where `originalIpDetection` is set.
   */
  readonly useRemoteAddress?: boolean
  /** Trusted proxies in front of this one. Default: 0. */
  readonly xffTrustedHops?: number
  /** Leaves X-Forwarded-For as it is. Default: false. */
  readonly skipXffAppend?: boolean
  /** Sends X-Forwarded-Port. Default: false. */
  readonly appendXForwardedPort?: boolean
  /** Excludes `useRemoteAddress` and `xffTrustedHops`. */
  readonly originalIpDetection?: readonly NativeOriginalIpDetection[]
  /** Clients from here are internal: they may set `x-envoy-*` headers. Default: none. */
  readonly internalCidrs?: readonly NativeCidr[]
  /** Clients of Unix sockets are internal. Default: false. */
  readonly internalUnixSockets?: boolean
  /**
   * What upstreams are told of verified client certificates, in X-Forwarded-Client-Cert. Default: nothing, and the header
   * is removed. `sanitize-set` tells of this connection alone, `append-forward` of those before it too; `forward-only`
   * passes on what the client says, if it has a certificate, `always-forward-only` in any case.
   */
  readonly clientCertificateHeader?: NativeClientCertificateHeader
  /**
   * Over TLS, requests for a name that another filter chain of the listener would serve, on a connection that was made
   * for this one's. Default: `refuse`, with 421, so that the client makes another connection.
   */
  readonly misdirected?: 'refuse' | 'serve'

  /** RFC 3986 normalisation (`/a/../b`, `%41`) before anything looks at the path. Default: true. */
  readonly normalizePath?: boolean
  /** `//` becomes `/`. Default: true. */
  readonly mergeSlashes?: boolean
  /** `%2F` and `%5C` in paths. Default: `redirect`, to the unescaped path. */
  readonly escapedSlashes?: 'keep' | 'reject' | 'redirect' | 'forward'
  /** Takes the port off the Host header. Default: `none`. */
  readonly stripPort?: 'none' | 'matching' | 'any'
  /** Default: false. */
  readonly stripTrailingHostDot?: boolean
  /** Header names with underscores. Default: `reject`, with 400. */
  readonly underscores?: 'allow' | 'reject' | 'drop'
  /** `100-continue` is passed to the upstream instead of answered here. Default: false. */
  readonly proxy100Continue?: boolean

  /** A connection without a request. Default: 75,000, longer than common load balancers keep theirs. */
  readonly idleTimeoutMs?: number
  /** The whole request, body included. Default: 300,000. */
  readonly requestTimeoutMs?: number
  /** From the first byte of a request to the end of its headers. Default: 10,000. */
  readonly requestHeadersTimeoutMs?: number
  /** An exchange without a byte in either direction. Default: 300,000. */
  readonly streamIdleTimeoutMs?: number
  /** Default: 0. */
  readonly maxStreamDurationMs?: number
  /** Default: 0. */
  readonly maxConnectionDurationMs?: number
  /** Between saying that a connection closes and closing it. Default: 5,000. */
  readonly drainTimeoutMs?: number
  /** How long a client may take to read an answer that closes its connection. Default: 1,000. */
  readonly delayedCloseTimeoutMs?: number
  /** 0: no limit. Default: 1,000. */
  readonly maxRequestsPerConnection?: number
  /** Default: 60 KiB; beyond it 431. */
  readonly maxRequestHeaderBytes?: number
  /** Default: 100; beyond it 431. */
  readonly maxRequestHeaders?: number
  /** Default: 8 KiB; beyond it 414. */
  readonly maxRequestLineBytes?: number
  readonly http1?: {
    /** Default: false. */
    readonly acceptHttp10?: boolean
    /** For HTTP/1.0 requests without Host. Default: '', they are refused. */
    readonly defaultHostForHttp10?: string
    /** Default: false, trailers are dropped. */
    readonly enableTrailers?: boolean
    /** How header names are spelt. Default: `lower`. */
    readonly headerCase?: 'lower' | 'proper' | 'preserve'
    /** `GET http://host/path`. Default: true. */
    readonly allowAbsoluteUrl?: boolean
  }
  readonly http2?: NativeHttp2
}
