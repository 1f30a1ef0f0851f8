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
