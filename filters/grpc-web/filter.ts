import type { HttpFilter, HttpStream, Next, NextChunk, Replied, Scope } from '../../lib/chain/filter.ts'
import { encodeGrpcMessage, grpcStatusOf, isGrpcResponse } from '../../lib/core/grpc.ts'
import { grpcPrefix } from '../../lib/core/grpc-frames.ts'
import type { Headers } from '../../lib/core/headers.ts'
import { type MethodStats, MethodStatsIndex } from '../../lib/telemetry/grpc-method-stats.ts'
import { Base64Decoder, FrameEncoder } from './base64.ts'
import type { GrpcWebConfig } from './config.ts'

/** One exchange; all as born where it is no gRPC-Web. */
interface WebCall {
  active: boolean
  /** The client wants base64. */
  text: boolean
  /** Of a request in base64. */
  decoder: Base64Decoder | undefined
  /** Of a response in base64. */
  encoder: FrameEncoder | undefined
  /** The answer is no gRPC: what it says is in its headers, its body is dropped. */
  dropBody: boolean
  stats: MethodStats | undefined
}

/** Compiles the filter. */
export function compileGrpcWeb(_config: GrpcWebConfig, scope: Scope): HttpFilter<unknown> {
  const index = new MethodStatsIndex(scope.metrics, scope.clusters, {
    protocol: 'grpc-web',
    methods: 'all',
    replaceDots: false,
  })
  const filter: HttpFilter<WebCall> = {
    createState: () => ({
      active: false,
      text: false,
      decoder: undefined,
      encoder: undefined,
      dropBody: false,
      stats: undefined,
    }),

    onRequestHeaders(stream, _end, call): Next {
      const { head } = stream
      if (head.protocol !== undefined || head.method === 'CONNECT' || !begin(stream, call)) return
      call.stats = index.find(stream.route?.cluster ?? '', head.path)
    },

    onRequestData: decodeRequest,
    onRequestTrailers(stream, _trailers, call): Next {
      if (call.decoder?.partial === true) return refuse(stream, 'grpc_base_64_decode_failed_bad_size')
    },
    onResponseHeaders: translateHead,
    onResponseData: encodeResponse,
    onResponseTrailers: trailersToBody,
  }
  return Object.freeze(filter) as HttpFilter<unknown>
}

// --- request ----------------------------------------------------------------------------------------------------------

/** False where it is no gRPC-Web: Envoy's four types, to the letter. */
function begin(stream: HttpStream, call: WebCall): boolean {
  const { request } = stream
  const type = request.get('content-type')
  const text = type === TEXT || type === TEXT_PROTO
  if (!text && type !== BINARY && type !== BINARY_PROTO) return false
  call.active = true
  if (text) call.decoder = new Base64Decoder()
  // Envoy asks Accept alone: base64 comes back only to those who say that they want it.
  const accept = request.get('accept')
  call.text = accept === TEXT || accept === TEXT_PROTO
  request.delete('content-length')
  request.put('content-type', 'application/grpc')
  // Servers take its absence for a proxy that drops trailers (gRPC over HTTP/2).
  request.put('te', 'trailers')
  if (!request.has('grpc-accept-encoding')) request.add('grpc-accept-encoding', 'identity')
  // As Envoy, for which this stays a plain request: our own answers keep their status, and become gRPC-Web below.
  stream.info.plainReplies = true
  return true
}

function decodeRequest(stream: HttpStream, chunk: Buffer, end: boolean, call: WebCall): NextChunk {
  const { decoder } = call
  if (decoder === undefined) return
  const bytes = decoder.decode(chunk)
  if (bytes === undefined) return refuse(stream, 'grpc_base_64_decode_failed')
  if (end && decoder.partial) return refuse(stream, 'grpc_base_64_decode_failed_bad_size')
  return bytes.length > 0 || end ? bytes : null
}

function refuse(stream: HttpStream, details: string): Replied {
  return stream.reply({ status: 400, body: 'invalid base64 in a gRPC-Web request', details })
}

// --- response ---------------------------------------------------------------------------------------------------------

function translateHead(stream: HttpStream, end: boolean, call: WebCall): Next {
  if (!call.active) return
  const { response, status } = stream
  countEnd(call, response)
  const passes = isGrpcResponse(status, response, end) || (status === 200 && isBinaryWeb(response))
  response.delete('content-length')
  response.put('content-type', call.text ? TEXT_PROTO : BINARY_PROTO)
  if (passes) {
    if (call.text && !end) call.encoder = new FrameEncoder()
    return
  }
  if (end) {
    response.put('grpc-status', String(grpcStatusOf(status)))
    return
  }
  call.dropBody = true
  return stream.peekResponse(MAX_MESSAGE_BYTES).then((body) => tellFailure(stream, body))
}

/** Says in headers what an answer that is no gRPC had to say. */
function tellFailure(stream: HttpStream, body: Buffer): void {
  const { response } = stream
  response.put('grpc-status', String(grpcStatusOf(stream.status)))
  // Compressed it is no message for anybody.
  if (body.length > 0 && !response.has('content-encoding')) response.put('grpc-message', encodeGrpcMessage(body))
  response.delete('content-encoding')
  response.put('content-length', '0')
}

/** An upstream that speaks gRPC-Web itself. */
function isBinaryWeb(response: Headers): boolean {
  const type = response.get('content-type')?.split(';', 1)[0].trimEnd().toLowerCase()
  return type === BINARY || type === BINARY_PROTO
}

function encodeResponse(_stream: HttpStream, chunk: Buffer, end: boolean, call: WebCall): NextChunk {
  if (call.dropBody) return null
  const { encoder } = call
  if (encoder === undefined) return
  const text = encoder.encode(chunk)
  const last = end ? encoder.flush() : NO_BYTES
  if (last.length > 0) return Buffer.concat([text, last])
  return text.length > 0 || end ? text : null
}

/** The last frame of the body: flag 0x80, a length, and lines as in HTTP/1 without the empty one. */
function trailersToBody(stream: HttpStream, trailers: Headers, call: WebCall): Next {
  if (!call.active) return
  countEnd(call, trailers)
  if (!call.dropBody) {
    const { encoder } = call
    let lines = ''
    const { raw } = trailers
    for (let i = 0; i < raw.length; i += 2) lines += `${raw[i]}:${raw[i + 1]}\r\n`
    const frame = Buffer.concat([grpcPrefix(TRAILERS_FLAG, lines.length), Buffer.from(lines, 'latin1')])
    if (encoder === undefined) stream.writeResponse(frame)
    else stream.writeResponse(Buffer.concat([encoder.flush(), Buffer.from(frame.toString('base64'), 'latin1')]))
  }
  stream.responseTrailers = trailers.clone()
  trailers.deleteWhere(() => true)
}

function countEnd(call: WebCall, fields: Headers): void {
  const status = fields.get('grpc-status')
  if (status === undefined) return
  call.stats?.ended(status)
  call.stats = undefined
}

const BINARY = 'application/grpc-web'
const BINARY_PROTO = 'application/grpc-web+proto'
const TEXT = 'application/grpc-web-text'
const TEXT_PROTO = 'application/grpc-web-text+proto'

const TRAILERS_FLAG = 0x80

/** Envoy's bound for what of a body becomes `grpc-message`. */
const MAX_MESSAGE_BYTES = 16_384

const NO_BYTES: Buffer = Buffer.alloc(0)
