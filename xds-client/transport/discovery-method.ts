import type { GrpcMethod } from '../../lib/grpc/method.ts'
import type { DeltaRequest, DiscoveryResponse, WholeRequest } from '../protocol/messages.ts'
import type { DiscoveryRequest } from '../protocol/type-protocol.ts'
import { methodPath } from '../protocol/types.ts'
import { encodeDeltaRequest, encodeWholeRequest, readDeltaResponse, readWholeResponse } from '../protocol/wire.ts'

/**
 * The gRPC method that speaks of one type, or of all where `typeName` is undefined. `node`: encoded, for requests that
 * carry it. Undefined where there is no such method.
 */
export function discoveryMethod(
  typeName: string | undefined,
  variant: 'sotw' | 'delta',
  node: Uint8Array,
): GrpcMethod<DiscoveryRequest, DiscoveryResponse> | undefined {
  const path = methodPath(typeName, variant)
  if (path === undefined) return undefined
  const encode =
    variant === 'delta'
      ? (request: DiscoveryRequest) => encodeDeltaRequest(request as DeltaRequest, node)
      : (request: DiscoveryRequest) => encodeWholeRequest(request as WholeRequest, node)
  return Object.freeze({ path, encode, decode: variant === 'delta' ? readDeltaResponse : readWholeResponse })
}
