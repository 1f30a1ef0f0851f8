import type { Json, JsonObject } from '../core/errors.ts'
import type { HashPolicyConfig } from '../core/hash-policy.ts'
import type { RetryPolicyConfig } from '../core/retry-policy.ts'
import type {
  CidrConfig,
  CookieMatchConfig,
  FilterStateMatchConfig,
  FractionConfig,
  HeaderMatchConfig,
  MatcherTreeConfig,
  MetadataMatchConfig,
  QueryParameterMatchConfig,
} from '../match/config.ts'
import type { RateLimitConfig } from '../ratelimit/config.ts'
import type { FormatConfig } from '../telemetry/config.ts'
import type { ProxyProtocolLayerConfig } from '../upstream/config.ts'

export type { CookieHashConfig, HashPolicyConfig, HeaderHashConfig } from '../core/hash-policy.ts'

export type PathMatchConfig =
  | {
      readonly kind: 'prefix' | 'exact' | 'path-separated-prefix'
      readonly value: string
      readonly caseSensitive: boolean
    }
  | { readonly kind: 'regex'; readonly value: string }
  /** Envoy's uri_template extension: `/a/{b}/{c=**}`. */
  | { readonly kind: 'template'; readonly value: string }
  /** CONNECT requests only. */
  | { readonly kind: 'connect' }

/** All criteria that are present must hold. */
export interface RouteMatchConfig {
  readonly path: PathMatchConfig
  readonly headers?: readonly HeaderMatchConfig[]
  readonly queryParameters?: readonly QueryParameterMatchConfig[]
  readonly cookies?: readonly CookieMatchConfig[]
  readonly grpc?: boolean
  readonly fraction?: FractionConfig
  readonly metadata?: readonly MetadataMatchConfig[]
  /** What filters before it, of the connection too, have left. */
  readonly filterState?: readonly FilterStateMatchConfig[]
  /** Certificate presented / validated; undefined: either way. */
  readonly tls?: { readonly presented?: boolean; readonly validated?: boolean }
}

export type AppendAction = 'append' | 'add-if-absent' | 'overwrite-or-add' | 'overwrite-if-exists'

/** One header to write; `value` is a `%...%` format, missing operators give the empty string. */
export interface HeaderValueConfig {
  readonly name: string
  readonly value: string
  readonly action: AppendAction
  readonly keepEmpty?: boolean
}

/** Removals happen before additions. */
export interface HeaderEditsConfig {
  readonly remove: readonly string[]
  readonly add: readonly HeaderValueConfig[]
}

/** Regex substitution of all occurrences; `\1` names a group. */
export interface RegexRewriteConfig {
  readonly regex: string
  readonly substitution: string
}

export type PathRewriteConfig =
  /** Replaces the matched prefix (or the matched path). */
  | { readonly kind: 'prefix'; readonly value: string }
  | { readonly kind: 'regex'; readonly rewrite: RegexRewriteConfig }
  /** Envoy's uri_template rewriter. */
  | { readonly kind: 'template'; readonly value: string }
  /** A `%...%` format for the whole path. */
  | { readonly kind: 'format'; readonly value: string }

export type HostRewriteConfig =
  | { readonly kind: 'literal'; readonly value: string }
  | { readonly kind: 'header'; readonly name: string }
  | { readonly kind: 'path-regex'; readonly rewrite: RegexRewriteConfig }
  | { readonly kind: 'format'; readonly value: string }
  /** The endpoint's hostname. */
  | { readonly kind: 'auto' }

export interface MirrorConfig {
  readonly cluster?: string
  readonly clusterHeader?: string
  readonly fraction?: FractionConfig
  readonly appendShadow: boolean
  readonly hostRewrite?: string
}

export interface WeightedClusterConfig {
  readonly name?: string
  readonly clusterHeader?: string
  readonly weight: number
  /** A whole number of the runtime under it goes before `weight`, unless all weights come to 0 by it. */
  readonly runtimeKey?: string
  readonly requestHeaders?: HeaderEditsConfig
  readonly responseHeaders?: HeaderEditsConfig
  readonly filterConfigs?: FilterConfigs
  readonly hostRewrite?: string
  /** Over the route's, label by label. */
  readonly metadataMatch?: JsonObject
}

/** Where a request goes. */
export type ClusterChoiceConfig =
  | { readonly kind: 'cluster'; readonly name: string }
  | { readonly kind: 'header'; readonly name: string }
  | {
      readonly kind: 'weighted'
      readonly clusters: readonly WeightedClusterConfig[]
      /** A header whose number replaces the random draw. */
      readonly randomHeader?: string
    }

export interface UpgradeConfig {
  /** Lower-case: `websocket`. */
  readonly type: string
  readonly enabled: boolean
  /** Of routes, for `connect`: the tunnel ends here, and its bytes go to the cluster. */
  readonly connect?: ConnectConfig
}

/** How CONNECT ends here (Envoy's `connect_config`). */
export interface ConnectConfig {
  /** POST requests are tunnels as well, their bodies the bytes. */
  readonly allowPost: boolean
  /** A PROXY header goes in front of the bytes. */
  readonly proxyProtocol?: ProxyProtocolLayerConfig
  /**
   * An HBONE server: the first target that fits the authority says which cluster the bytes go to, instead of the route.
   * Connections to internal listeners inherit the verified identity of the tunnel.
   */
  readonly targets?: readonly HboneTargetConfig[]
}

/** Targets of CONNECT. Without hosts and ranges: any host; without ports: any port. */
export interface HboneTargetConfig {
  /** Exact names or addresses, or `*.suffix`; lower case. */
  readonly hosts: readonly string[]
  readonly ranges: readonly CidrConfig[]
  readonly ports: readonly number[]
  /** Undefined: forbidden. */
  readonly cluster?: string
}

/** Redirects of upstreams that are followed here, instead of by the client (Envoy's InternalRedirectPolicy). */
export interface InternalRedirectConfig {
  /** For one request. */
  readonly max: number
  readonly statuses: readonly RedirectConfig['status'][]
  /** From http to https and the other way round, too. */
  readonly crossScheme: boolean
  /** Names, in lower case, of response headers that the next request has instead of its own. */
  readonly headersToCopy: readonly string[]
  /** All of them must hold. */
  readonly predicates: readonly RedirectPredicateConfig[]
}

export type RedirectPredicateConfig =
  /** No redirect of the request has led from this route to that one before. */
  | { readonly kind: 'previous-routes' }
  /** Never from http to https. */
  | { readonly kind: 'safe-cross-scheme' }
  /** To routes of these names alone. */
  | { readonly kind: 'allow-listed-routes'; readonly routes: readonly string[] }
  /** Where a filter, of the connection too, has left `true` under that key; `ifAbsent`: or neither `true` nor `false`. */
  | { readonly kind: 'filter-state'; readonly key: string; readonly ifAbsent: boolean }

export interface RouteActionConfig {
  readonly kind: 'route'
  readonly cluster: ClusterChoiceConfig
  readonly clusterNotFoundStatus: number
  /** End of request to end of response, retries included; 0: none. */
  readonly timeoutMs: number
  /** Undefined: the connection manager's stream idle timeout; 0: none. */
  readonly idleTimeoutMs?: number
  readonly maxStreamDurationMs?: number
  /** `grpc-timeout` is honoured up to this; 0: without a cap; undefined: not honoured. */
  readonly grpcTimeoutMaxMs?: number
  readonly grpcTimeoutOffsetMs?: number
  /** `grpc-timeout` limits the stream, and with it `maxStreamDurationMs`; default: the request, and with it `timeoutMs`. */
  readonly streamTimeouts?: true
  readonly pathRewrite?: PathRewriteConfig
  readonly hostRewrite?: HostRewriteConfig
  readonly appendXForwardedHost?: boolean
  readonly mirrors?: readonly MirrorConfig[]
  readonly priority: 'default' | 'high'
  readonly upgrades?: readonly UpgradeConfig[]
  /** Labels that hosts must have (Envoy's `envoy.lb`); those of a weighted cluster go before those of the route. */
  readonly metadataMatch?: JsonObject
  readonly hashPolicies?: readonly HashPolicyConfig[]
  /** What requests are counted by, for filters that limit rates. */
  readonly rateLimits?: readonly RateLimitConfig[]
  /** Beside those of the virtual host, whatever the filter says. */
  readonly includeVirtualHostRateLimits?: true
  readonly bodyBufferLimitBytes?: number
  /** Instead of the virtual host's. */
  readonly retry?: RetryPolicyConfig
  readonly hedge?: HedgeConfig
  readonly internalRedirect?: InternalRedirectConfig
}

/** What happens to tries that take too long (Envoy's HedgePolicy). */
export interface HedgeConfig {
  /** They go on beside the next one, and the first good answer of any wins. */
  readonly onPerTryTimeout: boolean
}

export interface RedirectConfig {
  readonly kind: 'redirect'
  readonly scheme?: string
  readonly https?: boolean
  readonly host?: string
  readonly port?: number
  readonly path?: string
  readonly prefixRewrite?: string
  readonly regexRewrite?: RegexRewriteConfig
  readonly status: 301 | 302 | 303 | 307 | 308
  readonly stripQuery: boolean
}

export interface DirectResponseConfig {
  readonly kind: 'direct'
  readonly status: number
  readonly body?: string
  /** Instead of `body`, where its bytes are not UTF-8. */
  readonly bodyBase64?: string
  readonly bodyFormat?: FormatConfig
}

/** `non_forwarding_action`: the route exists for its filters; nothing is forwarded. */
export interface NonForwardingConfig {
  readonly kind: 'none'
}

/** Per-route settings of a filter, by the filter's instance name in the connection manager. */
export type FilterConfigs = Readonly<Record<string, FilterOverrideConfig>>

export interface FilterOverrideConfig {
  /** True switches the filter off for this scope, false (with or without a config) switches it on. */
  readonly disabled?: boolean
  /** Result of the factory's `parseRoute`; undefined: no override, the filter's own configuration holds. */
  readonly config?: { readonly typeUrl: string; readonly value: Json }
}

export interface RouteConfig {
  readonly name: string
  readonly match: RouteMatchConfig
  readonly action: RouteActionConfig | RedirectConfig | DirectResponseConfig | NonForwardingConfig
  readonly requestHeaders?: HeaderEditsConfig
  readonly responseHeaders?: HeaderEditsConfig
  readonly filterConfigs?: FilterConfigs
  readonly metadata?: JsonObject
  readonly statPrefix?: string
}

export interface VirtualHostConfig {
  readonly name: string
  /** Lower-case, as configured: exact, `*.suffix`, `prefix.*`, `*`; may carry a port. */
  readonly domains: readonly string[]
  readonly routes: readonly RouteConfig[]
  /** Instead of `routes`: a matcher tree whose actions are routes. */
  readonly matcher?: MatcherTreeConfig<RouteConfig>
  readonly requireTls: 'none' | 'external' | 'all'
  readonly requestHeaders?: HeaderEditsConfig
  readonly responseHeaders?: HeaderEditsConfig
  readonly filterConfigs?: FilterConfigs
  readonly mirrors?: readonly MirrorConfig[]
  /** What requests are counted by where the route does not say it; filters may want both. */
  readonly rateLimits?: readonly RateLimitConfig[]
  /** Of routes that have none of their own. */
  readonly retry?: RetryPolicyConfig
  readonly hedge?: HedgeConfig
  /** Retries say upstream whether they follow a per-try timeout (`x-envoy-is-timeout-retry`). */
  readonly includeTimeoutRetry?: boolean
  readonly includeAttemptCount?: boolean
  readonly includeAttemptCountInResponse?: boolean
  readonly metadata?: JsonObject
}

/** A route table (Envoy's RouteConfiguration). */
export interface RouteTableConfig {
  readonly name: string
  readonly virtualHosts: readonly VirtualHostConfig[]
  readonly requestHeaders?: HeaderEditsConfig
  readonly responseHeaders?: HeaderEditsConfig
  readonly internalOnlyHeaders?: readonly string[]
  readonly filterConfigs?: FilterConfigs
  readonly mirrors?: readonly MirrorConfig[]
  readonly ignorePortInHostMatching: boolean
  readonly mostSpecificHeaderMutationsWins: boolean
  /** Refuse routes to clusters that do not exist. */
  readonly validateClusters: boolean
  readonly maxDirectResponseBodyBytes: number
  /** Header that selects the virtual host instead of the authority. */
  readonly virtualHostHeader?: string
  /** Virtual hosts that it lacks can be asked for while requests wait (Envoy's VHDS). */
  readonly onDemand?: true
  readonly metadata?: JsonObject
}
