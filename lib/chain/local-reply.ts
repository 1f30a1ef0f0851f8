import { FAILURES, type Failure } from '../core/failure.ts'
import { encodeGrpcMessage, grpcStatusOf, isGrpc } from '../core/grpc.ts'
import { Headers } from '../core/headers.ts'
import type { LocalReply } from './filter.ts'

/** A local reply as it goes on the wire. */
export interface RenderedReply {
  readonly status: number
  readonly headers: Headers
  readonly body: Buffer
  /** The body as `%LOCAL_REPLY_BODY%` shows it. */
  readonly text: string
}

/**
 * Frames a local reply for its request: gRPC requests get 200 with `grpc-status`, all others status and body. `plain`: no
 * gRPC whatever the request looks like by now.
 */
export function renderReply(reply: LocalReply, request: Headers, plain: boolean): RenderedReply {
  const { status } = reply
  const body = typeof reply.body === 'string' ? Buffer.from(reply.body, 'utf8') : (reply.body ?? NO_BYTES)
  const text = typeof reply.body === 'string' ? reply.body : body.toString('utf8')
  const headers = new Headers(reply.headers === undefined ? [] : [...reply.headers]).check()
  if (!plain && isGrpc(request)) {
    headers.set('content-type', 'application/grpc')
    headers.set('grpc-status', String(reply.grpcStatus ?? grpcStatusOf(status)))
    if (body.length > 0) headers.set('grpc-message', encodeGrpcMessage(text))
    return { status: 200, headers, body: NO_BYTES, text }
  }
  if (body.length > 0) {
    headers.set('content-length', String(body.length))
    if (!headers.has('content-type')) headers.append('content-type', 'text/plain')
  } else if (status !== 204 && status !== 304) headers.set('content-length', '0')
  return { status, headers, body, text }
}

/** Envoy's words for a failed upstream. `status`: of a timeout, if it is another than usual; 204 has no words. */
export function failureReply(why: Failure, detail: string | undefined, status: number = why.status): LocalReply {
  switch (why.code) {
    case 'no-healthy-host':
      return { status: why.status, body: 'no healthy upstream', details: 'no_healthy_upstream' }
    case 'drop-overload':
      return { status: why.status, body: 'drop overload', details: 'drop_overload' }
    case 'upstream-timeout': {
      const details = why === FAILURES.upstreamTimeout ? 'response_timeout' : why.reason
      return { status, ...(status !== 204 && { body: 'upstream request timeout' }), details }
    }
    case 'duration':
      return { status: why.status, body: 'upstream max stream duration reached', details: why.reason }
    case 'no-credential':
      return { status: why.status, body: 'Failed to inject credential.', details: why.reason }
    case 'no-cluster':
      return { status: why.status, details: 'cluster_not_found' }
    default: {
      // The detail is for logs only: it tells of the network behind the proxy.
      const reason = detail === undefined || why.code !== 'connect-failed' ? why.reason : `${why.reason}|${detail}`
      const overloaded = why.code === 'overflow' ? { headers: ['x-envoy-overloaded', 'true'] } : {}
      return {
        status: why.status,
        body: `upstream connect error or disconnect/reset before headers. reset reason: ${why.reason}`,
        details: `upstream_reset_before_response_started{${reason.replaceAll(' ', '_')}}`,
        ...overloaded,
      }
    }
  }
}

const NO_BYTES: Buffer = Buffer.alloc(0)
