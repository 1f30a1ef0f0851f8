/**
 * Everything the network can do to a request, as frozen values (an Error with its stack costs 5.5 us, and none of these
 * is a bug). The short flags are Envoy's response flags.
 */
export const RESPONSE_FLAGS = {
  LH: ['FailedLocalHealthCheck', 1 << 0],
  UH: ['NoHealthyUpstream', 1 << 1],
  UT: ['UpstreamRequestTimeout', 1 << 2],
  LR: ['LocalReset', 1 << 3],
  UR: ['UpstreamRemoteReset', 1 << 4],
  UF: ['UpstreamConnectionFailure', 1 << 5],
  UC: ['UpstreamConnectionTermination', 1 << 6],
  UO: ['UpstreamOverflow', 1 << 7],
  NR: ['NoRouteFound', 1 << 8],
  DI: ['DelayInjected', 1 << 9],
  FI: ['FaultInjected', 1 << 10],
  RL: ['RateLimited', 1 << 11],
  UAEX: ['UnauthorizedExternalService', 1 << 12],
  RLSE: ['RateLimitServiceError', 1 << 13],
  DC: ['DownstreamConnectionTermination', 1 << 14],
  URX: ['UpstreamRetryLimitExceeded', 1 << 15],
  SI: ['StreamIdleTimeout', 1 << 16],
  IH: ['InvalidEnvoyRequestHeaders', 1 << 17],
  DPE: ['DownstreamProtocolError', 1 << 18],
  UMSDR: ['UpstreamMaxStreamDurationReached', 1 << 19],
  RFCF: ['ResponseFromCacheFilter', 1 << 20],
  NFCF: ['NoFilterConfigFound', 1 << 21],
  DT: ['DurationTimeout', 1 << 22],
  UPE: ['UpstreamProtocolError', 1 << 23],
  NC: ['NoClusterFound', 1 << 24],
  OM: ['OverloadManagerTerminated', 1 << 25],
  DF: ['DnsResolutionFailed', 1 << 26],
  DO: ['DropOverload', 1 << 27],
  DR: ['DownstreamRemoteReset', 1 << 28],
  UDO: ['UnconditionalDropOverload', 1 << 29],
} as const satisfies Record<string, readonly [string, number]>

export type ResponseFlag = keyof typeof RESPONSE_FLAGS

/** The bit of a flag in `StreamInfo.flags`. */
export function flagBit(flag: ResponseFlag): number {
  return RESPONSE_FLAGS[flag][1]
}

export type FailureCode =
  | 'client-closed'
  | 'client-protocol'
  | 'client-idle'
  | 'connect-failed'
  | 'connect-timeout'
  | 'upstream-closed'
  | 'upstream-reset'
  | 'upstream-protocol'
  | 'upstream-timeout'
  | 'overflow'
  | 'no-healthy-host'
  | 'drop-overload'
  | 'no-cluster'
  | 'no-credential'
  | 'dns-failed'
  | 'duration'
  | 'payload-too-large'
  | 'draining'
  | 'overload'
  | 'filter-error'
  | 'config'

/** An expected failure: what happened, whose doing it was, whether a retry is safe, and how a client learns of it. */
export interface Failure {
  readonly code: FailureCode
  readonly source: 'downstream' | 'upstream' | 'local'
  /** `reused`: safe only when the attempt used a pooled connection that had served before and no byte came back. */
  readonly retry: 'never' | 'always' | 'reused'
  /** HTTP status of the local reply this failure becomes. */
  readonly status: number
  /** Envoy's response flag, or '' where Envoy sets none. */
  readonly flag: ResponseFlag | ''
  /** Envoy's wording of the reset reason, for the local reply's body and the response-code details. */
  readonly reason: string
}

function failure(
  code: FailureCode,
  source: Failure['source'],
  retry: Failure['retry'],
  status: number,
  flag: Failure['flag'],
  reason: string,
): Failure {
  return Object.freeze({ code, source, retry, status, flag, reason })
}

/** The closed catalogue. Compare by identity or by `code`. */
export const FAILURES = {
  clientClosed: failure('client-closed', 'downstream', 'never', 0, 'DC', 'downstream_remote_disconnect'),
  /** RST_STREAM of the client. */
  clientReset: failure('client-closed', 'downstream', 'never', 0, 'DR', 'http2.remote_reset'),
  clientProtocol: failure('client-protocol', 'downstream', 'never', 400, 'DPE', 'http1.codec_error'),
  /** A message on an HTTP/2 stream broke a rule of RFC 9113 §8. */
  clientMessaging: failure('client-protocol', 'downstream', 'never', 400, 'DPE', 'http2.violation.of.messaging.rule'),
  clientIdle: failure('client-idle', 'downstream', 'never', 408, 'SI', 'stream_idle_timeout'),
  connectFailed: failure('connect-failed', 'upstream', 'always', 503, 'UF', 'remote connection failure'),
  connectTimeout: failure('connect-timeout', 'upstream', 'always', 503, 'UF', 'connection timeout'),
  upstreamClosed: failure('upstream-closed', 'upstream', 'reused', 503, 'UC', 'connection termination'),
  /** As `upstreamClosed`, after part of a response: the request has been looked at and is not safe to repeat. */
  upstreamBroken: failure('upstream-closed', 'upstream', 'never', 503, 'UC', 'connection termination'),
  upstreamReset: failure('upstream-reset', 'upstream', 'never', 503, 'UR', 'remote reset'),
  /** RST_STREAM with REFUSED_STREAM, or a stream above GOAWAY's last one: never looked at (RFC 9113 §8.7). */
  upstreamRefused: failure('upstream-reset', 'upstream', 'always', 503, 'UR', 'remote refused stream reset'),
  /** The connection went away before anything of the request had left. */
  upstreamUnsent: failure('upstream-closed', 'upstream', 'always', 503, 'UC', 'connection termination'),
  upstreamProtocol: failure('upstream-protocol', 'upstream', 'never', 502, 'UPE', 'protocol error'),
  upstreamTimeout: failure('upstream-timeout', 'local', 'never', 504, 'UT', 'upstream_response_timeout'),
  /** One try of several took too long, or was idle for too long. */
  tryTimeout: failure('upstream-timeout', 'local', 'never', 504, 'UT', 'upstream_per_try_timeout'),
  tryIdle: failure('upstream-timeout', 'local', 'never', 504, 'UT', 'upstream_per_try_idle_timeout'),
  overflow: failure('overflow', 'local', 'never', 503, 'UO', 'overflow'),
  /** A forward proxy knows, looks up, or has clusters for, as many names as it may. */
  dnsCacheOverflow: failure('overflow', 'local', 'never', 503, 'UO', 'dns_cache_overflow'),
  dnsPendingOverflow: failure(
    'overflow',
    'local',
    'never',
    503,
    'UO',
    'dynamic_forward_proxy_pending_request_overflow',
  ),
  subClusterOverflow: failure('overflow', 'local', 'never', 503, 'UO', 'sub_cluster_overflow'),
  /** A share of the requests that the control plane wants dropped. */
  dropOverload: failure('drop-overload', 'local', 'never', 503, 'UDO', 'drop_overload'),
  noHealthyHost: failure('no-healthy-host', 'local', 'never', 503, 'UH', 'no_healthy_upstream'),
  noCluster: failure('no-cluster', 'local', 'never', 503, 'NC', 'cluster_not_found'),
  noCredential: failure('no-credential', 'local', 'never', 401, '', 'failed_to_inject_credential'),
  dnsFailed: failure('dns-failed', 'upstream', 'always', 503, 'DF', 'dns_resolution_failure'),
  maxDuration: failure('duration', 'local', 'never', 408, 'DT', 'max_duration_timeout'),
  upstreamMaxDuration: failure('duration', 'local', 'never', 504, 'UMSDR', 'upstream_max_stream_duration_reached'),
  payloadTooLarge: failure('payload-too-large', 'local', 'never', 413, '', 'request_payload_too_large'),
  responseTooLarge: failure('payload-too-large', 'local', 'never', 500, '', 'response_payload_too_large'),
  /** The overload manager has ended it. */
  overload: failure('overload', 'local', 'never', 503, 'OM', 'overload'),
  draining: failure('draining', 'local', 'never', 503, '', 'draining'),
  filterError: failure('filter-error', 'local', 'never', 500, '', 'filter_error'),
} as const
