import type { Failure } from '../core/failure.ts'
import { grpcStatusOf } from '../core/grpc.ts'
import type { Headers } from '../core/headers.ts'
import { binaryMetadata } from './metadata.ts'

/** The status codes of gRPC (doc/statuscodes.md). */
export const GrpcCode = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const

/** How a call ended. */
export interface GrpcStatus {
  /** One of `GrpcCode`, or a number that a newer peer knows. */
  readonly code: number
  /** The peer's `grpc-message` decoded, or our own words where the status is ours. */
  readonly message: string
  /** `grpc-status-details-bin`: a serialized `google.rpc.Status`. */
  readonly details: Buffer | undefined
  /** The block of fields that carried the peer's status, as it came; undefined where the status is ours. */
  readonly trailers: Headers | undefined
  /** What the network did, where the status stands for a failure of the attempt. */
  readonly failure: Failure | undefined
}

/** A status that we give. */
export function localStatus(code: number, message: string, failure?: Failure): GrpcStatus {
  return { code, message, details: undefined, trailers: undefined, failure }
}

/**
 * The status that trailers (or the head of a trailers-only response) hold; what HTTP's status stands for where they hold
 * none (doc/http-grpc-status-mapping.md), UNKNOWN where it is no number (doc/statuscodes.md).
 */
export function peerStatus(httpStatus: number, trailers: Headers): GrpcStatus {
  const text = trailers.get('grpc-status')
  const code = text === undefined ? grpcStatusOf(httpStatus) : /^\d{1,9}$/.test(text) ? Number(text) : GrpcCode.UNKNOWN
  const encoded = trailers.get('grpc-message')
  const message =
    encoded !== undefined ? decodeGrpcMessage(encoded) : text === undefined ? withoutStatus(httpStatus) : ''
  const details = trailers.has(DETAILS) ? binaryMetadata(trailers, DETAILS)[0] : undefined
  return { code, message, details, trailers, failure: undefined }
}

const DETAILS = 'grpc-status-details-bin'

function withoutStatus(httpStatus: number): string {
  return httpStatus === 200 ? 'the peer gave no grpc-status' : `the peer answered with HTTP status ${httpStatus}`
}

/** The status of a response that is no gRPC: what its HTTP status stands for. */
export function foreignStatus(httpStatus: number, contentType: string | undefined): GrpcStatus {
  const type = contentType === undefined ? 'no content-type' : `content-type ${contentType}`
  return localStatus(grpcStatusOf(httpStatus), `the peer answered with HTTP status ${httpStatus} and ${type}`)
}

/** The reset codes of HTTP/2 that do not stand for INTERNAL, by their names (PROTOCOL-HTTP2.md, "Errors"). */
const RESET_CODES: ReadonlyMap<string, number> = new Map([
  ['CANCEL', GrpcCode.CANCELLED],
  ['REFUSED_STREAM', GrpcCode.UNAVAILABLE],
  ['ENHANCE_YOUR_CALM', GrpcCode.RESOURCE_EXHAUSTED],
  ['INADEQUATE_SECURITY', GrpcCode.PERMISSION_DENIED],
])

/** The status that a failed attempt stands for; its detail names the HTTP/2 error code where the peer reset the stream. */
export function failureStatus(why: Failure, detail: string | undefined): GrpcStatus {
  const message = detail === undefined ? why.reason : `${why.reason}: ${detail}`
  return localStatus(failureCode(why, detail), message, why)
}

function failureCode(why: Failure, detail: string | undefined): number {
  switch (why.code) {
    case 'upstream-reset':
      return resetCode(why, detail)
    case 'upstream-timeout':
    case 'duration':
      return GrpcCode.DEADLINE_EXCEEDED
    case 'client-closed':
      return GrpcCode.CANCELLED
    case 'payload-too-large':
      return GrpcCode.RESOURCE_EXHAUSTED
    case 'upstream-protocol':
    case 'client-protocol':
    case 'filter-error':
    case 'config':
      return GrpcCode.INTERNAL
    default:
      return GrpcCode.UNAVAILABLE
  }
}

function resetCode(why: Failure, detail: string | undefined): number {
  if (why.retry === 'always') return GrpcCode.UNAVAILABLE
  for (const [name, code] of RESET_CODES) if (detail?.includes(name)) return code
  return GrpcCode.INTERNAL
}

/** Whether a host that answered so has failed: the status as HTTP's is a 5xx (Envoy's mapping for host statistics). */
export function isServerFault(code: number): boolean {
  switch (code) {
    case GrpcCode.UNKNOWN:
    case GrpcCode.DEADLINE_EXCEEDED:
    case GrpcCode.UNIMPLEMENTED:
    case GrpcCode.INTERNAL:
    case GrpcCode.UNAVAILABLE:
    case GrpcCode.DATA_LOSS:
      return true
    default:
      return false
  }
}

/** Decodes a `grpc-message`; what is not percent-encoded as it should be stays as it is. Never throws. */
export function decodeGrpcMessage(text: string): string {
  if (/^[\x20-\x24\x26-\x7e]*$/.test(text)) return text
  const bytes = Buffer.from(text, 'latin1')
  let length = 0
  for (let i = 0; i < bytes.length; i++) {
    const high = bytes[i] === PERCENT ? hexValue(bytes[i + 1]) : -1
    const low = high < 0 ? -1 : hexValue(bytes[i + 2])
    if (low < 0) bytes[length++] = bytes[i]
    else {
      bytes[length++] = high * 16 + low
      i += 2
    }
  }
  return bytes.toString('utf8', 0, length)
}

const PERCENT = 0x25

/** -1 where the character is no hex digit, or there is none. */
function hexValue(char: number | undefined): number {
  if (char === undefined) return -1
  if (char >= 0x30 && char <= 0x39) return char - 0x30
  const letter = char | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : -1
}
