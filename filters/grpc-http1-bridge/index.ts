import type { FilterFactory } from '../../lib/chain/filter.ts'
import { type GrpcHttp1BridgeConfig, parseGrpcHttp1Bridge } from './config.ts'
import { compileGrpcHttp1Bridge } from './filter.ts'

/**
 * Lets HTTP/1 clients, which see no trailers, call gRPC methods with one request and one response: the response is held
 * until its trailers are there, gets `grpc-status` and `grpc-message` as headers and a Content-Length, and its status
 * becomes 503 unless the call went well. With `upgrade_protobuf_to_grpc` a request of `application/x-protobuf` is made a
 * gRPC message, and the one in the response is taken out of its frame. Requests over HTTP/2 pass untouched.
 *
 * Posture: robust against untrusted clients and upstreams. Responses, and requests that are upgraded, are held up to the
 * connection's buffer limit: 413 and 500 beyond it. A response to an upgraded request that is not one plain message is
 * answered with 502.
 */
export const grpcHttp1Bridge: FilterFactory<GrpcHttp1BridgeConfig> = Object.freeze({
  name: 'envoy.filters.http.grpc_http1_bridge',
  typeUrls: ['envoy.extensions.filters.http.grpc_http1_bridge.v3.Config'],
  routeTypeUrls: [],
  parse: parseGrpcHttp1Bridge,
  compile: compileGrpcHttp1Bridge,
})
