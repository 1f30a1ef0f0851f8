import { request as httpRequest, type IncomingMessage } from 'node:http'
import {
  Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import type { Fields } from './bootstrap.ts'

/** A gRPC server of an independent implementation, and HTTP/1 clients of the gateway in front of it. */

const TYPE = 'type.googleapis.com/envoy.extensions.filters.http'

export const WEB: Fields = {
  name: 'envoy.filters.http.grpc_web',
  typed_config: { '@type': `${TYPE}.grpc_web.v3.GrpcWeb` },
}
export const BRIDGE: Fields = {
  name: 'envoy.filters.http.grpc_http1_bridge',
  typed_config: { '@type': `${TYPE}.grpc_http1_bridge.v3.Config`, upgrade_protobuf_to_grpc: true },
}
export const STATS: Fields = {
  name: 'envoy.filters.http.grpc_stats',
  typed_config: { '@type': `${TYPE}.grpc_stats.v3.FilterConfig`, stats_for_all_methods: true },
}

function definition(name: string, responseStream: boolean): MethodDefinition<Buffer, Buffer> {
  const pass = (value: Buffer): Buffer => value
  return {
    path: `/test.Peer/${name}`,
    requestStream: false,
    responseStream,
    requestSerialize: pass,
    requestDeserialize: pass,
    responseSerialize: pass,
    responseDeserialize: pass,
  }
}

type Unary = (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => void

const echo: Unary = (call, done) => {
  const initial = new Metadata()
  initial.set('x-initial', 'i')
  call.sendMetadata(initial)
  const trailers = new Metadata()
  trailers.set('x-trailing', 't')
  done(null, call.request, trailers)
}

/** Without metadata first this is a response of trailers only. */
const refuse: Unary = (_, done) => {
  const metadata = new Metadata()
  metadata.set('x-trailing', 'why')
  const error: Partial<ServiceError> = { code: status.FAILED_PRECONDITION, details: 'não hoje: 100%', metadata }
  done(error as ServiceError, null)
}

/** As many messages as the first byte says; one of 255 fails behind three. */
function count(call: ServerWritableStream<Buffer, Buffer>): void {
  const messages = call.request[0]
  for (let i = 0; i < (messages === 255 ? 3 : messages); i++) call.write(Buffer.alloc(i, 65 + i))
  if (messages !== 255) call.end()
  else call.emit('error', { code: status.DATA_LOSS, details: 'lost', metadata: new Metadata() })
}

/** Answers its port. */
export function startGrpcServer(): Promise<{ readonly port: number; close(): void }> {
  const server = new Server()
  server.addService(
    { echo: definition('Echo', false), refuse: definition('Refuse', false), count: definition('Count', true) },
    { echo, refuse, count },
  )
  return new Promise((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve({ port, close: () => server.forceShutdown() })
      else reject(error)
    }),
  )
}

export interface Said {
  readonly status: number
  /** Lower-case, in their order, without those that tell the time. */
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly body: Buffer
  readonly trailers: NodeJS.Dict<string>
}

export interface Ask {
  readonly name: string
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

/** Over a connection of its own. */
export function ask(port: number, what: Ask): Promise<Said> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { port, host: '127.0.0.1', method: what.method, path: what.path, headers: what.headers, agent: false },
      (response: IncomingMessage) => {
        const chunks: Buffer[] = []
        const headers: (readonly [string, string])[] = []
        const { rawHeaders } = response
        for (let i = 0; i < rawHeaders.length; i += 2) {
          const name = rawHeaders[i].toLowerCase()
          if (name !== 'date' && name !== 'x-envoy-upstream-service-time') headers.push([name, rawHeaders[i + 1]])
        }
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers,
            body: Buffer.concat(chunks),
            trailers: response.trailers,
          }),
        )
      },
    )
    request.on('error', reject)
    request.end(what.body)
  })
}

/** One message in its frame. */
export function framed(message: Buffer | string, flag = 0): Buffer {
  const bytes = Buffer.from(message)
  const prefix = Buffer.alloc(5)
  prefix[0] = flag
  prefix.writeUInt32BE(bytes.length, 1)
  return Buffer.concat([prefix, bytes])
}

function call(name: string, type: string, body: Buffer, more: Readonly<Record<string, string>> = {}): Ask {
  const headers = { host: 'a.example', 'content-type': type, 'content-length': String(body.length), ...more }
  return { name: `${name} as ${type}`, method: 'POST', path: `/test.Peer/${name}`, headers, body }
}

function base64(bytes: Buffer): Buffer {
  return Buffer.from(bytes.toString('base64'))
}

const WEB_TEXT = 'application/grpc-web-text'

/** What gRPC-Web clients may ask; the same for any gateway. */
export const WEB_ASKS: readonly Ask[] = [
  call('Echo', 'application/grpc-web', framed('hello')),
  call('Echo', 'application/grpc-web+proto', framed(''), { 'x-grpc-web': '1' }),
  call('Echo', 'application/grpc-web+proto', framed(Buffer.alloc(200_000, 'x'))),
  call('Echo', WEB_TEXT, base64(framed('hello')), { accept: WEB_TEXT }),
  call('Echo', WEB_TEXT, Buffer.concat([base64(framed('x')), base64(framed('yz'))]), { accept: `${WEB_TEXT}+proto` }),
  call('Echo', `${WEB_TEXT}+proto`, base64(framed('accepts bytes'))),
  call('Echo', WEB_TEXT, Buffer.from('####'), { accept: WEB_TEXT }),
  call('Echo', WEB_TEXT, Buffer.from('AAA'), { accept: WEB_TEXT }),
  call('Refuse', 'application/grpc-web', framed('')),
  call('Refuse', WEB_TEXT, base64(framed('')), { accept: WEB_TEXT }),
  call('Count', 'application/grpc-web', framed(Buffer.from([4]))),
  call('Count', WEB_TEXT, base64(framed(Buffer.from([5]))), { accept: WEB_TEXT }),
  call('Count', 'application/grpc-web', framed(Buffer.from([0]))),
  call('Count', 'application/grpc-web', framed(Buffer.from([255]))),
  call('Count', WEB_TEXT, base64(framed(Buffer.from([255]))), { accept: WEB_TEXT }),
  call('Nothing', 'application/grpc-web', framed('')),
  call('Nothing', WEB_TEXT, base64(framed('')), { accept: WEB_TEXT }),
]

/** What the bridge is for, and what passes it by. */
export const BRIDGE_ASKS: readonly Ask[] = [
  call('Echo', 'application/grpc', framed('hello')),
  call('Echo', 'application/grpc+proto', framed('')),
  call('Echo', 'application/grpc', framed(Buffer.alloc(200_000, 'x'))),
  call('Refuse', 'application/grpc', framed('')),
  call('Count', 'application/grpc', framed(Buffer.from([4]))),
  call('Count', 'application/grpc', framed(Buffer.from([255]))),
  call('Nothing', 'application/grpc', framed('')),
  call('Echo', 'application/x-protobuf', Buffer.from('hello')),
  call('Echo', 'application/x-protobuf', Buffer.alloc(0)),
  call('Refuse', 'application/x-protobuf', Buffer.from('x')),
  call('Nothing', 'application/x-protobuf', Buffer.from('x')),
]
