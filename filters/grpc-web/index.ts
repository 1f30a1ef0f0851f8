import type { FilterFactory } from '../../lib/chain/filter.ts'
import { type GrpcWebConfig, parseGrpcWeb } from './config.ts'
import { compileGrpcWeb } from './filter.ts'

/**
 * Translates gRPC-Web, binary and text (base64), to gRPC and back, for browsers: response trailers become the last frame
 * of the body. Answers that are no gRPC, those of this gateway among them, become a `grpc-status` by their HTTP status, and
 * the beginning of their body the `grpc-message`. Which headers browsers may read is up to the CORS filter, which stands
 * before this one.
 *
 * Posture: robust against untrusted clients and upstreams. Bodies are translated chunk by chunk under back-pressure; only
 * the first 16 KiB of an answer that is no gRPC are held. What is no base64 is answered with 400.
 *
 * Statistics: `cluster.<name>.grpc-web.<service>.<method>.` with `total`, `success`, `failure` and one counter per status;
 * their number is bounded (`lib/telemetry/grpc-method-stats.ts`).
 */
export const grpcWeb: FilterFactory<GrpcWebConfig> = Object.freeze({
  name: 'envoy.filters.http.grpc_web',
  typeUrls: ['envoy.extensions.filters.http.grpc_web.v3.GrpcWeb'],
  routeTypeUrls: [],
  parse: parseGrpcWeb,
  compile: compileGrpcWeb,
})
