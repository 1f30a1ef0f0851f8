import type { FieldReader } from '../../lib/core/field-reader.ts'

/** A parsed `Config`. */
export interface GrpcHttp1BridgeConfig {
  /** Requests of `application/x-protobuf` become gRPC. */
  readonly upgradesProtobuf: boolean
  /** The query is taken off the path. */
  readonly dropsQuery: boolean
}

/** `envoy.extensions.filters.http.grpc_http1_bridge.v3.Config` */
export function parseGrpcHttp1Bridge(fields: FieldReader): GrpcHttp1BridgeConfig {
  fields.unread('refuse')
  return {
    upgradesProtobuf: fields.bool('upgrade_protobuf_to_grpc'),
    dropsQuery: fields.bool('ignore_query_parameters'),
  }
}
