import type { JsonObject } from '../../core/errors.ts'
import type { MatcherTreeConfig } from '../../match/config.ts'
import type {
  ClusterChoiceConfig,
  HashPolicyConfig,
  HeaderValueConfig,
  HostRewriteConfig,
  PathRewriteConfig,
  RedirectConfig,
  RegexRewriteConfig,
  UpgradeConfig,
} from '../../router/config.ts'
import type { NativeFormat } from './logs.ts'
import type { NativeFraction, NativeMetadata, NativeRouteMatch } from './matches.ts'
import type { NativeRateLimit } from './rate-limits.ts'
import type { NativeRetry } from './retries.ts'

/** Changes to headers: removals first. Values are `%...%` formats, so a literal percent sign is written twice. */
export interface NativeHeaderEdits {
  /** Names to remove, in any case. */
  readonly remove?: readonly string[]
  /** Replaces fields of that name, or adds one. */
  readonly set?: { readonly [name: string]: string }
  /** Adds one more field. */
  readonly append?: { readonly [name: string]: string }
  /** Adds a field where there is none of that name. */
  readonly addIfAbsent?: { readonly [name: string]: string }
  /** The long form of the three above. */
  readonly add?: readonly HeaderValueConfig[]
}

/** What one filter of the chain does differently in this scope. */
export interface NativeFilterOverride {
  /** True switches the filter off, false switches one on that is `disabled` in the chain. */
  readonly disabled?: boolean
  /** The filter's per-route configuration, as JSON; it also switches the filter on. */
  readonly config?: JsonObject
  /** Which per-route type `config` is, where the filter takes several. Default: its first. */
  readonly type?: string
}

/** Per-route settings by the filter's name in the chain; `false` is short for `{ disabled: true }`. */
export type NativeFilterOverrides = { readonly [filter: string]: NativeFilterOverride | boolean }

/** One share of a split. */
export interface NativeWeightedCluster {
  /** Exactly one of `name` and `clusterHeader`. */
  readonly name?: string
  /** A request header that names the cluster. */
  readonly clusterHeader?: string
  /** Against the sum of all weights, which must be 1 to 2^32-1. */
  readonly weight: number
  readonly requestHeaders?: NativeHeaderEdits
  readonly responseHeaders?: NativeHeaderEdits
  readonly filterConfigs?: NativeFilterOverrides
  readonly hostRewrite?: string
  /** Over those of the route, label by label. */
  readonly metadataMatch?: JsonObject
}

/** Where a request goes: a cluster's name, a header that names one, or a split by weight. */
export type NativeClusterChoice =
  | string
  | { readonly header: string }
  | {
      readonly weighted: readonly NativeWeightedCluster[]
      /** A header whose number replaces the random draw. */
      readonly randomHeader?: string
    }
  | Exclude<ClusterChoiceConfig, { kind: 'weighted' }>

/** How the path changes on its way to the upstream. */
export type NativePathRewrite =
  /** Replaces the matched prefix, or the whole path where the route does not match by prefix. */
  | { readonly prefix: string }
  /** Replaces all matches of an RE2 regex; `\1` names a group. */
  | RegexRewriteConfig
  /** Built from the variables of the route's `template`: `/v2/{id}`. */
  | { readonly template: string }
  /** A `%...%` format for the whole path. */
  | { readonly format: string }
  | PathRewriteConfig

/** How the Host header changes on its way to the upstream; a bare string is the new host. */
export type NativeHostRewrite =
  | string
  /** Taken from a request header. */
  | { readonly header: string }
  /** Made of the path by an RE2 regex. */
  | { readonly pathRegex: RegexRewriteConfig }
  /** A `%...%` format. */
  | { readonly format: string }
  /** The hostname of the endpoint that is chosen. */
  | { readonly auto: true }
  | HostRewriteConfig

/** A copy of requests for another cluster, whose answers are dropped; a bare string is the cluster. */
export type NativeMirror =
  | string
  | {
      /** Exactly one of `cluster` and `clusterHeader`. */
      readonly cluster?: string
      readonly clusterHeader?: string
      /** Default: all requests. */
      readonly fraction?: NativeFraction
      /** Appends `-shadow` to the host of the copy. Default: true. */
      readonly appendShadow?: boolean
      readonly hostRewrite?: string
    }

/** A protocol that clients may switch to: `'websocket'`. */
export type NativeUpgrade =
  | string
  | (Pick<UpgradeConfig, 'type' | 'enabled'> & {
      /** Of routes, for `connect`: the tunnel ends here, and its bytes go to the cluster. Default: it is forwarded. */
      readonly connect?: NativeConnect
    })

/** How CONNECT ends here. */
export interface NativeConnect {
  /** POST requests are tunnels as well, their bodies the bytes. Default: false. */
  readonly allowPost?: boolean
  /** Version of a PROXY header in front of the bytes. Default: none. */
  readonly proxyProtocol?: 1 | 2
}

/** Forwards to a cluster. Times in ms; 0 switches a timeout off. */
export interface NativeForward {
  readonly kind: 'route'
  readonly cluster: NativeClusterChoice
  /** Status where the cluster does not exist. Default: 503. */
  readonly clusterNotFoundStatus?: number
  /** From the end of the request to the end of the response. Default: 15,000. */
  readonly timeoutMs?: number
  /** Without a byte in either direction. Default: the connection manager's `streamIdleTimeoutMs`. */
  readonly idleTimeoutMs?: number
  /** The whole exchange. Default: none. */
  readonly maxStreamDurationMs?: number
  /** `grpc-timeout` headers are honoured up to this; 0: without a cap. Default: not honoured. */
  readonly grpcTimeoutMaxMs?: number
  /** Taken off `grpc-timeout`, so that we give up before the client does. Default: 0. */
  readonly grpcTimeoutOffsetMs?: number
  readonly pathRewrite?: NativePathRewrite
  readonly hostRewrite?: NativeHostRewrite
  /** Keeps the client's Host as X-Forwarded-Host where `hostRewrite` changes it. Default: false. */
  readonly appendXForwardedHost?: boolean
  readonly mirrors?: readonly NativeMirror[]
  /** Which circuit breakers count. Default: `default`. */
  readonly priority?: 'default' | 'high'
  /** Switches upgrades that the connection manager lists on or off for this route. */
  readonly upgrades?: readonly NativeUpgrade[]
  /** Labels that endpoints must have, for balancers of kind `subset`. */
  readonly metadataMatch?: JsonObject
  /** What requests stick to an endpoint by, where the cluster's balancer hashes. Default: nothing. */
  readonly hashPolicies?: readonly HashPolicyConfig[]
  /** What requests are counted by, for filters that limit rates. Default: what the virtual host says. */
  readonly rateLimits?: readonly NativeRateLimit[]
  /** How much of a request body is kept for mirrors and retries. Default: the listener's `bufferLimitBytes`. */
  readonly bodyBufferLimitBytes?: number
  /** Default: the virtual host's, or else none. */
  readonly retry?: NativeRetry
  /** A try beyond its `perTryTimeoutMs` goes on beside the next one, and the first good answer wins. Default: false. */
  readonly hedge?: boolean
  /** Redirects of upstreams that are followed here, instead of by the client; `true`: one, of status 302. Default: none. */
  readonly followRedirects?: boolean | NativeFollowRedirects
}

/** Which redirects are followed: a request goes on by its Location, through the filters of the route that it leads to. */
export interface NativeFollowRedirects {
  /** For one request. Default: 1. */
  readonly max?: number
  /** Default: 302. */
  readonly statuses?: readonly RedirectConfig['status'][]
  /** From http to https and the other way round, too. Default: neither. `safe`: never from http to https. */
  readonly crossScheme?: boolean | 'safe'
  /** Response headers that the next request has instead of its own. Default: none. */
  readonly headersToCopy?: readonly string[]
  /** Names of the routes that redirects may lead to. Default: any. */
  readonly routes?: readonly string[]
  /** No redirect leads from one route to another twice. Default: false. */
  readonly newRoutesOnly?: boolean
  /**
   * Only where a filter has left `true` in the filter state under `key`; `ifAbsent` (default: false) holds where it has left
   * neither `true` nor `false`. Default: whatever filters have left.
   */
  readonly filterState?: { readonly key: string; readonly ifAbsent?: boolean }
}

/** Answers with a redirect. What is not set stays as the client asked. */
export interface NativeRedirect {
  readonly kind: 'redirect'
  readonly scheme?: string
  /** Short for scheme `https`; excludes `scheme`. */
  readonly https?: boolean
  readonly host?: string
  readonly port?: number
  /** At most one of `path`, `prefixRewrite` and `regexRewrite`. */
  readonly path?: string
  readonly prefixRewrite?: string
  readonly regexRewrite?: RegexRewriteConfig
  /** Default: 301. */
  readonly status?: RedirectConfig['status']
  /** Drops the query. Default: false. */
  readonly stripQuery?: boolean
}

/** Answers at once. */
export interface NativeDirectResponse {
  readonly kind: 'direct'
  readonly status: number
  readonly body?: string
  readonly bodyFormat?: NativeFormat
}

/** Forwards nothing: the route is there for its filters. */
export interface NativeNoAction {
  readonly kind: 'none'
}

export type NativeAction = NativeForward | NativeRedirect | NativeDirectResponse | NativeNoAction

/** One route. The first route of a virtual host that matches takes the request. */
export interface NativeRoute {
  /** For logs and messages. Default: ''. */
  readonly name?: string
  readonly match: NativeRouteMatch
  readonly action: NativeAction
  readonly requestHeaders?: NativeHeaderEdits
  readonly responseHeaders?: NativeHeaderEdits
  readonly filterConfigs?: NativeFilterOverrides
  readonly metadata?: NativeMetadata
  /** Gives the route statistics of its own. */
  readonly statPrefix?: string
}

/** Routes for some domains. */
export interface NativeVirtualHost {
  readonly name: string
  /** `example.com`, `*.example.com`, `api.*` or `*`; with a port where clients send one. */
  readonly domains: readonly string[]
  readonly routes?: readonly NativeRoute[]
  /** Instead of `routes`: a tree of conditions whose actions are routes. */
  readonly matcher?: MatcherTreeConfig<NativeRoute>
  /** `all` and `external` redirect plaintext requests to https. Default: `none`. */
  readonly requireTls?: 'none' | 'external' | 'all'
  readonly requestHeaders?: NativeHeaderEdits
  readonly responseHeaders?: NativeHeaderEdits
  readonly filterConfigs?: NativeFilterOverrides
  readonly mirrors?: readonly NativeMirror[]
  /** What requests are counted by, of routes that do not say. */
  readonly rateLimits?: readonly NativeRateLimit[]
  /** Of routes that have none of their own. Default: none. */
  readonly retry?: NativeRetry
  /** Of routes that do not say. Default: false. */
  readonly hedge?: boolean
  /** Sends `x-envoy-is-timeout-retry` upstream with retries. Default: false. */
  readonly includeTimeoutRetry?: boolean
  /** Sends `x-envoy-attempt-count` upstream. Default: false. */
  readonly includeAttemptCount?: boolean
  /** Sends `x-envoy-attempt-count` downstream. Default: false. */
  readonly includeAttemptCountInResponse?: boolean
  readonly metadata?: NativeMetadata
}

/** What holds for all virtual hosts of a connection manager. */
export interface NativeRouteTable {
  /** Default: ''. */
  readonly name?: string
  readonly requestHeaders?: NativeHeaderEdits
  readonly responseHeaders?: NativeHeaderEdits
  /** Request headers that are removed unless the client is internal. */
  readonly internalOnlyHeaders?: readonly string[]
  readonly filterConfigs?: NativeFilterOverrides
  readonly mirrors?: readonly NativeMirror[]
  /** The port of the authority does not count when a virtual host is chosen. Default: false. */
  readonly ignorePortInHostMatching?: boolean
  /** Order in which the levels' header edits apply. Default: false, the table's last. */
  readonly mostSpecificHeaderMutationsWins?: boolean
  /** Refuses routes to clusters that the configuration does not have. Default: true. */
  readonly validateClusters?: boolean
  /** Default: 4,096. */
  readonly maxDirectResponseBodyBytes?: number
  /** A header that selects the virtual host instead of the authority. */
  readonly virtualHostHeader?: string
  readonly metadata?: NativeMetadata
}
