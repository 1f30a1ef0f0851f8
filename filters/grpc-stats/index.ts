import type { FilterFactory } from '../../lib/chain/filter.ts'
import { type GrpcStatsConfig, parseGrpcStats } from './config.ts'
import { compileGrpcStats } from './filter.ts'

/**
 * Counts gRPC calls and their messages by cluster, and by method where the configuration names it. The Connect protocol
 * is not counted: only `application/grpc` is.
 *
 * Posture: robust against untrusted clients and upstreams. It changes nothing and keeps no bytes; with
 * `stats_for_all_methods` clients choose names of counters, and their number is bounded
 * (`lib/telemetry/grpc-method-stats.ts`).
 *
 * Statistics: `cluster.<name>.grpc.<service>.<method>.` with `total`, `success`, `failure`, one counter per status (`0` to
 * `16`, `other`), `request_message_count`, `response_message_count`, and the histogram `upstream_rq_time`; the same
 * without service and method for all calls that are not counted by name.
 */
export const grpcStats: FilterFactory<GrpcStatsConfig> = Object.freeze({
  name: 'envoy.filters.http.grpc_stats',
  typeUrls: ['envoy.extensions.filters.http.grpc_stats.v3.FilterConfig'],
  routeTypeUrls: [],
  parse: parseGrpcStats,
  compile: compileGrpcStats,
})
