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

/** True for `application/grpc` and its `+proto` kinds, not for gRPC-Web. */
export function isGrpcRequest(stream: LogStream): boolean {
  const type = stream.request.get('content-type')
  if (type === undefined || !type.startsWith('application/grpc')) return false
  const next = type.charCodeAt(16)
  // End, `+` or `;`.
  return type.length === 16 || next === 0x2b || next === 0x3b
}

/** From trailers, else headers, else what the HTTP status stands for; undefined where there was no response. */
export function grpcStatus(stream: LogStream): number | undefined {
  const text = stream.responseTrailers?.get('grpc-status') ?? stream.response.get('grpc-status')
  if (text !== undefined && /^\d{1,9}$/.test(text)) return Number(text)
  return stream.status === 0 ? undefined : fromHttpStatus(stream.status)
}

/** The mapping that gRPC prescribes for responses that carry no status of their own. */
function fromHttpStatus(status: number): number {
  switch (status) {
    case 400:
      return 13
    case 401:
      return 16
    case 403:
      return 7
    case 404:
      return 12
    case 429:
    case 502:
    case 503:
    case 504:
      return 14
    default:
      return 2
  }
}
