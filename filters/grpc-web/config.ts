import type { FieldReader } from '../../lib/core/field-reader.ts'

/** There is nothing to configure. */
export type GrpcWebConfig = Readonly<Record<string, never>>

/** `envoy.extensions.filters.http.grpc_web.v3.GrpcWeb` has no fields. */
export function parseGrpcWeb(fields: FieldReader): GrpcWebConfig {
  fields.unread('refuse')
  return {}
}
