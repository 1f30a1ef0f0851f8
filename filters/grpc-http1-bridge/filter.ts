import type { HttpFilter, HttpStream, Next, NextChunk, Replied } from '../../lib/chain/filter.ts'
import { isGrpc, isGrpcResponse } from '../../lib/core/grpc.ts'
import { grpcPrefix } from '../../lib/core/grpc-frames.ts'
import type { Headers } from '../../lib/core/headers.ts'
import type { GrpcHttp1BridgeConfig } from './config.ts'

/** One exchange. */
interface BridgedCall {
  active: boolean
  /** The client speaks protobuf without frames. */
  upgraded: boolean
  /** To go in front of the request's body. */
  prefix: Buffer | undefined
  /** Bytes to be taken off the response's body: its message's prefix. */
  strip: number
}

/** Compiles the filter. */
export function compileGrpcHttp1Bridge(config: GrpcHttp1BridgeConfig): HttpFilter<unknown> {
  const { upgradesProtobuf, dropsQuery } = config

  const filter: HttpFilter<BridgedCall> = {
    createState: () => ({ active: false, upgraded: false, prefix: undefined, strip: 0 }),

    onRequestHeaders(stream, end, call): Next {
      const { head, request } = stream
      if (stream.info.protocol === 'HTTP/2' || head.protocol !== undefined || head.method === 'CONNECT') return
      call.upgraded = upgradesProtobuf && request.get('content-type') === PROTOBUF
      // What another filter has made gRPC of, it answers in its own way.
      if (!call.upgraded && (!isGrpc(request) || stream.info.plainReplies)) return
      call.active = true
      // Servers take its absence for a proxy that drops trailers (gRPC over HTTP/2); HTTP/1 clients have no reason to send it.
      request.put('te', 'trailers')
      if (dropsQuery) dropQuery(stream)
      if (call.upgraded) return upgrade(stream, end, call)
    },

    onRequestData(stream, _chunk, _end, call): NextChunk {
      sendPrefix(stream, call)
    },

    onRequestTrailers(stream, _trailers, call): Next {
      sendPrefix(stream, call)
    },

    onResponseHeaders(stream, end, call): Next {
      if (!call.active) return
      if (!end) {
        // Anything else, answers of the gateway among them, has no trailers worth waiting for.
        return isGrpc(stream.response) ? bridge(stream, call) : undefined
      }
      // Envoy leaves the status of these as it is; a call that failed must not look like one with an empty answer.
      if (failed(stream.response)) stream.status = 503
    },

    onResponseData(_stream, chunk, end, call): NextChunk {
      if (call.strip === 0) return
      const dropped = Math.min(call.strip, chunk.length)
      call.strip -= dropped
      return dropped < chunk.length || end ? chunk.subarray(dropped) : null
    },
  }
  return Object.freeze(filter) as HttpFilter<unknown>
}

// --- request ----------------------------------------------------------------------------------------------------------

function dropQuery(stream: HttpStream): void {
  const { head } = stream
  const query = head.path.indexOf('?')
  if (query >= 0) head.path = head.path.slice(0, query)
}

/** Makes one gRPC message of the body, whose length must be known before its first byte goes on. */
function upgrade(stream: HttpStream, end: boolean, call: BridgedCall): Next {
  const { request } = stream
  request.put('content-type', 'application/grpc')
  request.delete('content-length')
  // The client has no eyes for the flag that says a message is compressed.
  request.delete('grpc-accept-encoding')
  stream.info.plainReplies = true
  // Routes may ask for gRPC, and for the path.
  stream.refreshRoute()
  if (end) {
    // A message without fields is no bytes at all.
    stream.writeRequest(grpcPrefix(0, 0))
    return
  }
  return stream.collectRequest(stream.bufferLimit).then((body) => {
    if (Buffer.isBuffer(body)) call.prefix = grpcPrefix(0, body.length)
  })
}

function sendPrefix(stream: HttpStream, call: BridgedCall): void {
  const { prefix } = call
  if (prefix === undefined) return
  call.prefix = undefined
  stream.writeRequest(prefix)
}

// --- response ---------------------------------------------------------------------------------------------------------

async function bridge(stream: HttpStream, call: BridgedCall): Promise<Replied | undefined> {
  const body = await stream.collectResponse(stream.bufferLimit)
  // A Failure: the 500 has been sent, or the client has gone.
  if (!Buffer.isBuffer(body)) return
  const { response, responseTrailers } = stream
  const framed = call.upgraded && isGrpcResponse(stream.status, response, false)
  if (responseTrailers !== undefined) lift(stream, responseTrailers)
  const isFailure = failed(response)
  if (isFailure) stream.status = 503
  let size = body.length
  if (framed && !(isFailure && size === 0)) {
    if (!isOneMessage(body)) return stream.reply(MALFORMED)
    response.put('content-type', PROTOBUF)
    call.strip = PREFIX_BYTES
    size -= PREFIX_BYTES
  }
  response.put('content-length', String(size))
  return
}

function lift(stream: HttpStream, trailers: Headers): void {
  for (const name of LIFTED) {
    const value = trailers.get(name)
    if (value !== undefined) stream.response.put(name, value)
  }
}

/** Whether there is a status that is not OK. */
function failed(fields: Headers): boolean {
  const status = fields.get('grpc-status')
  return status !== undefined && !/^0+$/.test(status)
}

/** One message, not compressed, and nothing behind it. */
function isOneMessage(body: Buffer): boolean {
  return body.length >= PREFIX_BYTES && body[0] === 0 && body.readUInt32BE(1) === body.length - PREFIX_BYTES
}

const PROTOBUF = 'application/x-protobuf'
const LIFTED: readonly string[] = Object.freeze(['grpc-status', 'grpc-message'])
const PREFIX_BYTES = 5
const MALFORMED = Object.freeze({
  status: 502,
  body: 'the gRPC response is not one message',
  details: 'grpc_bridge_response_malformed',
})
