import type { HttpStream, Route } from '../chain/filter.ts'
import type { ConnectionInfo } from '../core/connection.ts'
import type { JsonObject } from '../core/errors.ts'
import type { Runtime } from '../core/metrics.ts'
import type { FormatConfig } from '../telemetry/config.ts'
import type { CompileFormat, HeaderEdits } from '../telemetry/header-edits.ts'
import type { GroupPlace } from './cluster-choice.ts'
import type { FilterConfigs, InternalRedirectConfig, UpgradeConfig } from './config.ts'
import type { HashPolicies } from './hash-policy.ts'
import type { HboneTargets } from './hbone-targets.ts'
import type { Location } from './redirect.ts'
import type { RetryPolicy } from './retry/policy.ts'
import type { HostRewrite, PathRewrite } from './rewrite.ts'

/** What a route table is compiled with. `P` is a compiled filter chain, opaque here. */
export interface RouteTableDeps<P> {
  /** The chain for these per-route levels, least specific first; called once per distinct combination. */
  planFor(levels: readonly FilterConfigs[]): P
  readonly runtime: Runtime
  readonly compileFormat: CompileFormat
  /** The body of a direct response; `%LOCAL_REPLY_BODY%` in the format stands for `body`. */
  compileBody(format: FormatConfig, body: string): (stream: HttpStream) => string
}

/** A route as requests meet it: everything resolved, one object shared by all of them. */
export interface CompiledRoute<P> extends Route {
  /** '' where the action does not forward, or its cluster header is missing. */
  readonly cluster: string
  readonly plan: P
  readonly action: CompiledAction
  /** All levels in Envoy's order; undefined where there is nothing to do. */
  readonly requestHeaderEdits: HeaderEdits | undefined
  readonly responseHeaderEdits: HeaderEdits | undefined
  /** `x-envoy-attempt-count` to the upstream, and in the response. */
  readonly includeAttemptCount: boolean
  readonly includeAttemptCountInResponse: boolean
  /** `x-envoy-is-timeout-retry` to the upstream. */
  readonly includeTimeoutRetry: boolean
  /** '' where the route has no statistics of its own. */
  readonly statPrefix: string
  /** Among which clusters this one was chosen by weight; undefined: it was not. */
  readonly place: GroupPlace<P> | undefined
}

export type CompiledAction = ForwardAction | RedirectAction | DirectAction | { readonly kind: 'none' }

export interface ForwardAction {
  readonly kind: 'route'
  /** Status where the cluster does not exist; a missing cluster header is 404 by Envoy's rule. */
  readonly clusterNotFoundStatus: number
  /** 0: none. */
  readonly timeoutMs: number
  /** Undefined: the connection manager's; 0: none. */
  readonly idleTimeoutMs: number | undefined
  readonly maxStreamDurationMs: number | undefined
  /** Undefined: `grpc-timeout` is not honoured; 0: without a cap. */
  readonly grpcTimeoutMaxMs: number | undefined
  readonly grpcTimeoutOffsetMs: number | undefined
  /** `grpc-timeout` limits the stream instead of the request, and gRPC requests are told what limit they have. */
  readonly streamTimeouts: boolean
  readonly priority: 'default' | 'high'
  readonly upgrades: readonly UpgradeConfig[] | undefined
  /** CONNECT ends here; undefined: it is forwarded as it is. */
  readonly connect: ConnectAction | undefined
  readonly mirrors: readonly CompiledMirror[]
  readonly rewritePath: PathRewrite | undefined
  readonly rewriteHost: HostRewrite | undefined
  /** True where the upstream's own name is wanted, so that the host must be chosen before the head is written. */
  readonly autoHostRewrite: boolean
  readonly appendXForwardedHost: boolean
  /** Labels (`envoy.lb`): the weighted cluster's over the route's, key by key. */
  readonly metadataMatch: JsonObject | undefined
  readonly hashPolicies: HashPolicies | undefined
  readonly bodyBufferLimitBytes: number | undefined
  /** The route's, or else its virtual host's; undefined: only the cluster or the request itself may ask for retries. */
  readonly retry: RetryPolicy | undefined
  /** A try that takes too long goes on beside the next one. */
  readonly hedge: boolean
  /** Undefined: redirects are the client's business. */
  readonly internalRedirect: InternalRedirectConfig | undefined
}

export interface ConnectAction {
  readonly allowPost: boolean
  /** What goes in front of the bytes; undefined: nothing. */
  readonly header: ((connection: ConnectionInfo) => Buffer) | undefined
  /** Of an HBONE server; undefined: the route's cluster. */
  readonly targets: HboneTargets | undefined
}

export interface CompiledMirror {
  /** Undefined where the cluster header is missing: no mirror. */
  readonly cluster: (stream: HttpStream) => string | undefined
  /** Takes the exchange's draw; undefined: every request. */
  readonly sampled: ((random: number) => boolean) | undefined
  readonly appendShadow: boolean
  readonly hostRewrite: string | undefined
}

export interface RedirectAction {
  readonly kind: 'redirect'
  readonly status: number
  readonly location: Location
}

export interface DirectAction {
  readonly kind: 'direct'
  readonly status: number
  /** Undefined where there is no body. */
  readonly body: ((stream: HttpStream) => string | Buffer) | undefined
  /** Undefined: text/plain where there is a body. */
  readonly contentType: string | undefined
}
