import type { FieldReader } from '../../lib/core/field-reader.ts'
import { parseRateLimits } from '../../lib/ratelimit/parse.ts'
import type { ClusterChoiceConfig, PathMatchConfig, RouteActionConfig } from '../../lib/router/config.ts'
import { durationMs } from './durations.ts'
import { translateHashPolicies } from './hash-policies.ts'
import { translateInternalRedirect } from './internal-redirect.ts'
import { translateMetadataMatch } from './metadata.ts'
import { translateMirrors } from './mirrors.ts'
import { translateHostRewrite, translatePathRewrite } from './path-rewrite.ts'
import { translateHedgePolicy, translateRetryPolicy } from './retry-policy.ts'
import { checkCluster, type RouteScope } from './route-scope.ts'
import { translateUpgrades } from './upgrades.ts'
import { translateWeightedClusters } from './weighted-clusters.ts'

const TIMEOUT_MS = 15_000

const NOT_FOUND_STATUS: Readonly<Record<string, number>> = {
  SERVICE_UNAVAILABLE: 503,
  NOT_FOUND: 404,
  INTERNAL_SERVER_ERROR: 500,
}

/** Known, neither selecting nor admitting, and not built yet: reported. */
const REPORTED = ['flush_timeout', 'early_data_policy'] as const

/** What the route around an action is: its name and the path it matches. */
export type ActionScope = RouteScope & { readonly route: string; readonly path: PathMatchConfig | undefined }

/** `config.route.v3.RouteAction` with Envoy's defaults filled in. */
export function translateRouteAction(reader: FieldReader, scope: ActionScope): RouteActionConfig {
  reader.unread('refuse')
  reader.ignore(...REPORTED)
  reader.refuse('cors', 'use typed_per_filter_config with envoy.filters.http.cors')
  reader.refuse('retry_policy_typed_config', 'retry policies by extension are not available; use retry_policy')
  const retry = translateRetryPolicy(reader)
  const hedge = translateHedgePolicy(reader)
  const internalRedirect = translateInternalRedirect(reader)
  const timeoutMs = durationMs(reader, 'timeout')
  const idleTimeoutMs = durationMs(reader, 'idle_timeout')
  const pathRewrite = translatePathRewrite(reader, scope.context, scope.path)
  const hostRewrite = translateHostRewrite(reader, scope.context)
  const mirrors = translateMirrors(reader, scope, scope.route)
  const upgrades = translateUpgrades(reader, 'route')
  const metadataMatch = translateMetadataMatch(reader, 'metadata_match')
  const rateLimits = parseRateLimits(reader, 'rate_limits', 'route')
  return {
    kind: 'route',
    cluster: translateChoice(reader, scope),
    clusterNotFoundStatus: NOT_FOUND_STATUS[reader.enumName('cluster_not_found_response_code')] ?? 503,
    // As in Envoy: whoever sets max_stream_duration uses that instead.
    timeoutMs: reader.has('max_stream_duration') ? 0 : (timeoutMs ?? TIMEOUT_MS),
    ...(idleTimeoutMs !== undefined && { idleTimeoutMs }),
    ...translateStreamDuration(reader),
    ...(pathRewrite && { pathRewrite }),
    ...(hostRewrite && { hostRewrite }),
    ...(reader.bool('append_x_forwarded_host') && { appendXForwardedHost: true }),
    ...(mirrors && { mirrors }),
    priority: reader.enumName('priority') === 'HIGH' ? 'high' : 'default',
    ...(upgrades.length > 0 && { upgrades }),
    ...(metadataMatch && { metadataMatch }),
    ...translateHashPolicies(reader),
    ...(rateLimits.length > 0 && { rateLimits }),
    ...(reader.bool('include_vh_rate_limits') && { includeVirtualHostRateLimits: true }),
    ...(scope.bodyBufferLimitBytes !== undefined && { bodyBufferLimitBytes: scope.bodyBufferLimitBytes }),
    ...(retry && { retry }),
    ...(hedge && { hedge }),
    ...(internalRedirect && { internalRedirect }),
  }
}

function translateChoice(reader: FieldReader, scope: ActionScope): ClusterChoiceConfig {
  switch (reader.which('cluster_specifier')) {
    case 'cluster': {
      const name = reader.string('cluster')
      checkCluster(reader, 'cluster', name, scope)
      return { kind: 'cluster', name }
    }
    case 'cluster_header':
      return { kind: 'header', name: reader.string('cluster_header').toLowerCase() }
    case 'weighted_clusters': {
      const weighted = reader.message('weighted_clusters')
      return weighted === undefined ? { kind: 'weighted', clusters: [] } : translateWeightedClusters(weighted, scope)
    }
    default:
      reader.refuse('cluster_specifier_plugin', 'cluster specifier plugins are not available')
      reader.refuse('inline_cluster_specifier_plugin', 'cluster specifier plugins are not available')
      return { kind: 'cluster', name: '' }
  }
}

type StreamDuration = Pick<
  RouteActionConfig,
  'maxStreamDurationMs' | 'grpcTimeoutMaxMs' | 'grpcTimeoutOffsetMs' | 'streamTimeouts'
>

/** `max_stream_duration`, beside which the deprecated `max_grpc_timeout` and `grpc_timeout_offset` do not count. */
function translateStreamDuration(reader: FieldReader): StreamDuration {
  const deprecatedMax = durationMs(reader, 'max_grpc_timeout')
  const deprecatedOffset = durationMs(reader, 'grpc_timeout_offset')
  const duration = reader.message('max_stream_duration')
  const maxStreamDurationMs = durationMs(duration, 'max_stream_duration')
  const ofStream = duration !== undefined
  const grpcTimeoutMaxMs = ofStream ? durationMs(duration, 'grpc_timeout_header_max') : deprecatedMax
  const grpcTimeoutOffsetMs = ofStream ? durationMs(duration, 'grpc_timeout_header_offset') : deprecatedOffset
  return {
    ...(maxStreamDurationMs !== undefined && { maxStreamDurationMs }),
    ...(grpcTimeoutMaxMs !== undefined && { grpcTimeoutMaxMs }),
    ...(grpcTimeoutOffsetMs !== undefined && { grpcTimeoutOffsetMs }),
    ...(ofStream && { streamTimeouts: true }),
  }
}
