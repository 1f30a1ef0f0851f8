import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2'
import { toBinary } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { ConfigRefused } from '../../core/errors.ts'
import { encodeGrpcMessage } from '../../core/grpc.ts'
import type { Log } from '../../core/metrics.ts'
import { MessageReader } from '../../grpc/message-reader.ts'
import { GrpcCode } from '../../grpc/status.ts'
import { drained } from '../drained.ts'
import { Pace } from '../dump/pace.ts'
import type { AdminBackend, SchemaSource } from '../endpoint.ts'
import type { SecretSchema } from '../secret-schema.ts'
import { clientStatus, clientStatusRequest } from './client-status.ts'

const SERVICE = '/envoy.service.status.v3.ClientStatusDiscoveryService/'
/** Of requests, whose matchers are short. */
const MAX_REQUEST_BYTES = 1024 * 1024
const PREFIX_BYTES = 5
/** Of a status: peers bound header blocks. */
const MAX_MESSAGE_CHARS = 512

class CallError extends Error {
  readonly code: number

  constructor(code: number, message: string) {
    super(message)
    this.code = code
  }
}

export interface CsdsParts {
  readonly backend: AdminBackend
  readonly schema: SchemaSource
  readonly log: Log
}

/** True for requests that are gRPC calls, whatever they call. */
export function isGrpc(req: Http2ServerRequest): boolean {
  return req.method === 'POST' && /^application\/grpc(?:$|[+;])/.test(req.headers['content-type'] ?? '')
}

/**
 * Serves the client status discovery service over gRPC: `FetchClientStatus`, and `StreamClientStatus`, which answers every
 * message as it comes. Never rejects: what goes wrong is the call's status.
 */
export async function serveGrpc(req: Http2ServerRequest, res: Http2ServerResponse, parts: CsdsParts): Promise<void> {
  res.writeHead(200, { 'content-type': 'application/grpc' })
  let status: { readonly code: number; readonly message: string } = { code: GrpcCode.OK, message: '' }
  try {
    await call(req, res, parts)
  } catch (error) {
    status = statusOf(error)
    if (status.code === GrpcCode.INTERNAL) parts.log.debug('client status failed', { error: String(error) })
  }
  if (res.stream.destroyed) return
  res.addTrailers({
    'grpc-status': String(status.code),
    ...(status.message !== '' && { 'grpc-message': encodeGrpcMessage(status.message.slice(0, MAX_MESSAGE_CHARS)) }),
  })
  // A client that goes on sending is not listened to.
  if (status.code !== GrpcCode.OK) req.resume()
  res.end()
}

function statusOf(error: unknown): { code: number; message: string } {
  if (error instanceof CallError) return { code: error.code, message: error.message }
  if (error instanceof ConfigRefused) return { code: GrpcCode.INVALID_ARGUMENT, message: error.message }
  return { code: GrpcCode.INTERNAL, message: 'internal error' }
}

async function call(req: Http2ServerRequest, res: Http2ServerResponse, parts: CsdsParts): Promise<void> {
  const method = req.url.startsWith(SERVICE) ? req.url.slice(SERVICE.length) : ''
  const streaming = method === 'StreamClientStatus'
  if (!streaming && method !== 'FetchClientStatus')
    throw new CallError(GrpcCode.UNIMPLEMENTED, `unknown method ${req.url}`)
  let answered = 0
  for await (const message of messages(req)) {
    if (!streaming && answered > 0) throw new CallError(GrpcCode.UNIMPLEMENTED, 'more than one message in a unary call')
    await answer(message, res, parts)
    answered++
  }
  if (!streaming && answered === 0) throw new CallError(GrpcCode.UNIMPLEMENTED, 'a unary call without a message')
}

/** The messages of a request. */
async function* messages(req: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, void> {
  const reader = new MessageReader(MAX_REQUEST_BYTES)
  for await (const chunk of req) {
    reader.push(chunk)
    for (let found = reader.next(); found !== 'more'; found = reader.next()) {
      if (found === 'too-large') throw new CallError(GrpcCode.RESOURCE_EXHAUSTED, 'the message is too large')
      if (found === 'broken') throw new CallError(GrpcCode.INTERNAL, 'the message has no valid prefix')
      if (reader.compressed) throw new CallError(GrpcCode.UNIMPLEMENTED, 'compressed messages are not taken here')
      yield reader.payload
    }
  }
  if (reader.inMessage) throw new CallError(GrpcCode.INTERNAL, 'the request ends within a message')
}

async function answer(bytes: Buffer, res: Http2ServerResponse, parts: CsdsParts): Promise<void> {
  const schema = parts.schema()
  let request: ReturnType<typeof clientStatusRequest>
  try {
    request = clientStatusRequest(schema, bytes)
  } catch {
    throw new CallError(GrpcCode.INTERNAL, 'the message cannot be decoded')
  }
  const found = clientStatus(parts.backend, schema, request)
  const gone = (): boolean => res.stream.destroyed
  const response = found === undefined ? [] : await encodeClient(schema, found, gone)
  if (gone()) return
  const length = response.reduce((sum, part) => sum + part.length, 0)
  const prefix = Buffer.alloc(PREFIX_BYTES)
  prefix.writeUInt32BE(length, 1)
  for (const part of [prefix, ...response]) {
    if (res.stream.destroyed) return
    if (!res.write(part)) await drained(res)
  }
}

type Answer = NonNullable<ReturnType<typeof clientStatus>>

/**
 * A `ClientStatusResponse` in pieces: resources are encoded one by one, and the event loop turns in between. None where the
 * client has `gone`.
 */
async function encodeClient(
  { registry }: SecretSchema,
  { node, configs }: Answer,
  gone: () => boolean,
): Promise<Uint8Array[]> {
  const client = registry.expect('envoy.service.status.v3.ClientConfig')
  const desc = registry.expect('envoy.service.status.v3.ClientConfig.GenericXdsConfig')
  const number = (name: string): number => client.fields.find((field) => field.name === name)?.number ?? 0
  const pace = new Pace()
  const parts = [delimited(number('node'), toBinary(registry.expect('envoy.config.core.v3.Node'), node))]
  for (const config of configs) {
    parts.push(delimited(number('generic_xds_configs'), toBinary(desc, config)))
    const turn = pace.pause()
    if (turn !== undefined) await turn
    if (gone()) return []
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  const response = registry.expect('envoy.service.status.v3.ClientStatusResponse')
  const head = new BinaryWriter().tag(response.fields[0].number, WireType.LengthDelimited).uint32(length).finish()
  return [head, ...parts]
}

function delimited(number: number, bytes: Uint8Array): Uint8Array {
  return new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(bytes).finish()
}
