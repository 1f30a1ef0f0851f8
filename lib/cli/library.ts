/**
 * Headgate as a library: everything that `import ... from 'headgate'` gives.
 *
 * Two ways in: `createGateway` runs a gateway in this process, from a native configuration or from an Envoy bootstrap that
 * `loadEnvoyConfig` has read. Filters of your own are `HttpFilter` objects, `middleware(...)` functions, or a
 * `FilterFactory` for those that have a configuration.
 */
export {
  type AdaptiveConcurrencyOptions,
  adaptiveConcurrency,
  type NativeAdaptiveConcurrency,
} from '../../filters/adaptive-concurrency/native.ts'
export {
  type AdmissionControlOptions,
  admissionControl,
  type NativeAdmissionControl,
} from '../../filters/admission-control/native.ts'
export {
  type BandwidthLimitOptions,
  bandwidthLimit,
  type NativeBandwidthLimit,
} from '../../filters/bandwidth-limit/native.ts'
export {
  type LocalLimit,
  type LocalRateLimitOptions,
  localRateLimit,
  type NativeLocalRateLimit,
  type RateLimitBy,
  type RequestBucket,
} from '../../filters/local-ratelimit/native.ts'
export {
  type NativeProxyProtocol,
  type ProxyProtocolOptions,
  type ProxyProtocolTlv,
  proxyProtocol,
} from '../../filters/proxy-protocol/native.ts'
export {
  type NativeStatefulSession,
  type SessionCookie,
  type StatefulSessionOptions,
  statefulSession,
} from '../../filters/stateful-session/native.ts'
export type {
  FilterFactory,
  FilterState,
  HttpFilter,
  HttpStream,
  LocalReply,
  Metadata,
  Next,
  NextChunk,
  Replied,
  Route,
  Scope,
  Terminal,
  TerminalExchange,
  TerminalStream,
} from '../chain/filter.ts'
export { type CallNext, ExchangeEnded, type Middleware, middleware } from '../chain/middleware.ts'
export type { AnyFilterFactory } from '../chain/registry.ts'
export type {
  NativeBalancer,
  NativeLeastRequest,
  NativeLocalityBalancing,
  NativeMaglev,
  NativePeakEwma,
  NativeRandom,
  NativeRingHash,
  NativeRoundRobin,
  NativeSlowStart,
} from '../config/native/balancers.ts'
export type {
  NativeAddress,
  NativeCluster,
  NativeDns,
  NativeEndpoint,
  NativeInternalAddress,
  NativeLocality,
} from '../config/native/clusters.ts'
export type { NativeConfig } from '../config/native/config.ts'
export type {
  NativeHbone,
  NativeHboneGateway,
  NativeHboneServer,
  NativeHboneTarget,
  NativeMeshIdentity,
} from '../config/native/hbone.ts'
export type {
  NativeFactoryFilter,
  NativeFilter,
  NativeFilterObject,
  NativeHeaderMutation,
  NativeHttp,
  NativeKnownFilter,
  NativeLocalReplyMapper,
  NativeOriginalIpDetection,
} from '../config/native/http.ts'
export type { NativeHttp2, NativeHttp2Keepalive } from '../config/native/http2.ts'
export type {
  NativeFilterChain,
  NativeFilterChainMatch,
  NativeKnownLowerFilter,
  NativeListener,
  NativeListenerFilter,
  NativeLowerFactoryFilter,
  NativeNetworkFilter,
} from '../config/native/listeners.ts'
export type { NativeAccessLog, NativeFormat, NativeLogFilter } from '../config/native/logs.ts'
export type {
  NativeCidr,
  NativeCookieMatch,
  NativeFraction,
  NativeHeaderMatch,
  NativeMetadata,
  NativeMetadataMatch,
  NativeQueryParameterMatch,
  NativeRouteMatch,
  NativeStringMatch,
} from '../config/native/matches.ts'
export type {
  NativeMonitor,
  NativeOverload,
  NativeOverloadActions,
  NativeReducedTimeouts,
  NativeShedPoints,
  NativeTrigger,
} from '../config/native/overload.ts'
export type {
  NativeAction,
  NativeClusterChoice,
  NativeDirectResponse,
  NativeFilterOverride,
  NativeFilterOverrides,
  NativeForward,
  NativeHeaderEdits,
  NativeHostRewrite,
  NativeMirror,
  NativeNoAction,
  NativePathRewrite,
  NativeRedirect,
  NativeRoute,
  NativeRouteTable,
  NativeUpgrade,
  NativeVirtualHost,
  NativeWeightedCluster,
} from '../config/native/routes.ts'
export type {
  NativeBytes,
  NativeCertificate,
  NativeCertificateValidation,
  NativeDownstreamTls,
  NativeKeyLog,
  NativePem,
  NativePemCertificate,
  NativePkcs12,
  NativeSanMatch,
  NativeUpstreamTls,
} from '../config/native/tls.ts'
export type {
  NativeConnectProxy,
  NativeKeepalive,
  NativeProxyHeader,
  NativeTlv,
  NativeTransport,
} from '../config/native/transports.ts'
export { type Address, formatAddress } from '../core/address.ts'
export type { Clusters } from '../core/attempt.ts'
export type { Sink, Source } from '../core/body.ts'
export { type Cancel, type Clock, systemClock } from '../core/clock.ts'
export type { ConnectionInfo, TlsInfo, TlsLocal, TlsPeer } from '../core/connection.ts'
export { ConfigError, ConfigRefused, type Json, type JsonObject, type Place } from '../core/errors.ts'
export { FAILURES, type Failure, type FailureCode, type ResponseFlag } from '../core/failure.ts'
export type { ExtensionReader, FieldReader } from '../core/field-reader.ts'
export type { Protocol, RequestHead } from '../core/head.ts'
export { Headers } from '../core/headers.ts'
export type { Counter, Gauge, Histogram, Log, Metrics, Runtime } from '../core/metrics.ts'
export type { HistogramSnapshot, MetricsSnapshot } from '../core/status.ts'
export type { StreamInfo } from '../core/stream-info.ts'
export { Timed, type TimerWheel } from '../core/timer-wheel.ts'
export type { MeshMaterial } from '../tls/mesh.ts'
export { connectHbone, HBONE_PORT, type HboneOptions, type HboneProxy } from '../upstream/hbone/connect.ts'
export {
  createSpiffeIdentity,
  type SpiffeIdentity,
  type SpiffeIdentityOptions,
} from '../workload/spiffe-identity.ts'
export {
  createWorkloadIdentity,
  type MaterialSource,
  type WorkloadIdentity,
  type WorkloadIdentityOptions,
} from '../workload/workload-identity.ts'
export { type EnvoyConfig, loadEnvoyConfig } from './envoy-config.ts'
export { type CloseOptions, createGateway, type Gateway, type GatewayOptions } from './gateway.ts'
export { standardFilters } from './standard-filters.ts'
