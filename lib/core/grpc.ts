import type { Headers } from './headers.ts'

/** True for gRPC messages: content-type `application/grpc`, alone or with `+` and a format (Envoy's rule). */
export function isGrpc(headers: Headers): boolean {
  const type = headers.get('content-type')
  if (type === undefined || !type.startsWith('application/grpc')) return false
  return type.length === 16 || type.charCodeAt(16) === 43
}

/** True for responses that speak gRPC: the head of a stream, or one that has only headers and a status in them. */
export function isGrpcResponse(status: number, headers: Headers, end: boolean): boolean {
  return end ? headers.has('grpc-status') : status === 200 && isGrpc(headers)
}

/** The `grpc-status` of headers or trailers: undefined where there is none, UNKNOWN (2) where it is no number. */
export function grpcStatusIn(headers: Headers): number | undefined {
  const text = headers.get('grpc-status')
  if (text === undefined) return undefined
  return /^\d{1,4}$/.test(text) ? Number(text) : 2
}

/** The gRPC status an HTTP status stands for (the mapping of gRPC's http-grpc-status-mapping, as Envoy uses it). */
export function grpcStatusOf(status: number): number {
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

/** The HTTP status a gRPC status stands for (google.rpc.Code); unknown ones are 500. */
export function httpStatusOf(grpcStatus: number): number {
  return HTTP_STATUS[grpcStatus] ?? 500
}

/** Index = gRPC status. */
const HTTP_STATUS: readonly number[] = Object.freeze([
  200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
])

/** Percent-encodes a `grpc-message` (gRPC over HTTP/2: everything but visible ASCII and space, and `%`). */
export function encodeGrpcMessage(message: string | Buffer): string {
  let out = ''
  for (const byte of typeof message === 'string' ? Buffer.from(message, 'utf8') : message) {
    out +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  return out
}
