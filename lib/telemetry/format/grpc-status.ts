import { grpcStatusOf } from '../../core/grpc.ts'
import type { LogStream } from './operator.ts'

/** Names of the gRPC status codes by number, as `CAMEL_STRING` and `SNAKE_STRING` print them. */
export const GRPC_STATUS_NAMES: readonly (readonly [camel: string, snake: string])[] = Object.freeze([
  ['OK', 'OK'],
  ['Canceled', 'CANCELLED'],
  ['Unknown', 'UNKNOWN'],
  ['InvalidArgument', 'INVALID_ARGUMENT'],
  ['DeadlineExceeded', 'DEADLINE_EXCEEDED'],
  ['NotFound', 'NOT_FOUND'],
  ['AlreadyExists', 'ALREADY_EXISTS'],
  ['PermissionDenied', 'PERMISSION_DENIED'],
  ['ResourceExhausted', 'RESOURCE_EXHAUSTED'],
  ['FailedPrecondition', 'FAILED_PRECONDITION'],
  ['Aborted', 'ABORTED'],
  ['OutOfRange', 'OUT_OF_RANGE'],
  ['Unimplemented', 'UNIMPLEMENTED'],
  ['Internal', 'INTERNAL'],
  ['Unavailable', 'UNAVAILABLE'],
  ['DataLoss', 'DATA_LOSS'],
  ['Unauthenticated', 'UNAUTHENTICATED'],
])

/** From trailers, else headers, else what the HTTP status stands for; undefined where there was no response. */
export function grpcStatus(stream: LogStream): number | undefined {
  const text = stream.responseTrailers?.get('grpc-status') ?? stream.response.get('grpc-status')
  if (text !== undefined && /^\d{1,9}$/.test(text)) return Number(text)
  return stream.status === 0 ? undefined : grpcStatusOf(stream.status)
}
