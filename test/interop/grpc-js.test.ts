import {
  type CallOptions,
  type Client,
  credentials,
  Metadata,
  type MethodDefinition,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { TestGateway } from '../support/gateway.ts'
import { certificatesFor } from './certificates.ts'
import { downstreamTls, http2Cluster, proxyBootstrap, upstreamTls } from './gateway-config.ts'
import { folderFor } from './servers.ts'

/** grpc-js on both sides of Headgate, in plaintext and over TLS: the four kinds of calls and how they end. */

const MESSAGES = 200
const LARGE = 3 << 20

function method(name: string, requestStream: boolean, responseStream: boolean): MethodDefinition<Buffer, Buffer> {
  const pass = (value: Buffer): Buffer => value
  return {
    path: `/interop.Peer/${name}`,
    requestStream,
    responseStream,
    requestSerialize: pass,
    requestDeserialize: pass,
    responseSerialize: pass,
    responseDeserialize: pass,
  }
}

const PEER = {
  echo: method('Echo', false, false),
  sum: method('Sum', true, false),
  count: method('Count', false, true),
  chat: method('Chat', true, true),
  fail: method('Fail', false, false),
  sleep: method('Sleep', false, false),
} as const

interface Peer {
  readonly port: number
  /** Calls that the client gave up, as the server saw it. */
  cancelled(): number
}

async function startPeer(t: Test, security: ServerCredentials): Promise<Peer> {
  const server = new Server({ 'grpc.max_receive_message_length': -1 })
  let cancelled = 0
  server.addService(PEER, {
    echo(call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) {
      const trailer = new Metadata()
      trailer.set('x-trailer', 'behind')
      trailer.set('x-bytes-bin', Buffer.from([0, 255, 10]))
      const initial = new Metadata()
      for (const value of call.metadata.get('x-ask')) initial.add('x-answer', value)
      call.sendMetadata(initial)
      done(null, call.request, trailer)
    },
    sum(call: ServerReadableStream<Buffer, Buffer>, done: sendUnaryData<Buffer>) {
      let bytes = 0
      call.on('data', (message: Buffer) => {
        bytes += message.length
      })
      call.on('end', () => done(null, Buffer.from(String(bytes))))
    },
    count(call: ServerWritableStream<Buffer, Buffer>) {
      const wanted = Number(call.request.toString())
      call.on('cancelled', () => cancelled++)
      for (let i = 0; i < wanted; i++) call.write(Buffer.from(String(i)))
      // Without a number of them it goes on until it is cancelled.
      if (wanted > 1) call.end()
    },
    chat(call: ServerDuplexStream<Buffer, Buffer>) {
      call.on('data', (message: Buffer) => call.write(message))
      call.on('end', () => call.end())
    },
    fail(_: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) {
      done({ code: status.FAILED_PRECONDITION, details: 'nicht so: 100 % \t ☺' })
    },
    sleep(call: ServerUnaryCall<Buffer, Buffer>) {
      call.on('cancelled', () => cancelled++)
    },
  })
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', security, (error, bound) => (error === null ? resolve(bound) : reject(error)))
  })
  t.teardown(() => server.forceShutdown())
  return { port, cancelled: () => cancelled }
}

interface UnaryAnswer {
  readonly error: ServiceError | null
  readonly message: Buffer | undefined
  readonly initial: Metadata | undefined
  readonly trailer: Metadata | undefined
}

function unary(
  client: Client,
  definition: MethodDefinition<Buffer, Buffer>,
  message: Buffer,
  more: { metadata?: Metadata; options?: CallOptions } = {},
): Promise<UnaryAnswer> {
  return new Promise((resolve) => {
    let initial: Metadata | undefined
    let trailer: Metadata | undefined
    const { path, requestSerialize, responseDeserialize } = definition
    client
      .makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        message,
        more.metadata ?? new Metadata(),
        more.options ?? {},
        // The status comes after the message.
        (error, answer) => setImmediate(() => resolve({ error, message: answer, initial, trailer })),
      )
      .on('metadata', (metadata) => {
        initial = metadata
      })
      .on('status', (end) => {
        trailer = end.metadata
      })
  })
}

/** Everything that the two sides can do, against one gateway. */
async function converse(t: Test, client: Client, peer: Peer, gateway: TestGateway): Promise<void> {
  t.teardown(() => client.close())
  const metadata = new Metadata()
  metadata.add('x-ask', 'one')
  metadata.add('x-ask', 'two')
  const large = Buffer.alloc(LARGE, 'l')
  const echoed = await unary(client, PEER.echo, large, { metadata })
  t.equal(echoed.error, null)
  t.ok(echoed.message?.equals(large), '3 MiB and back')
  t.same(echoed.initial?.get('x-answer').join(', '), 'one, two')
  t.same(echoed.trailer?.get('x-trailer'), ['behind'])
  t.same(echoed.trailer?.get('x-bytes-bin'), [Buffer.from([0, 255, 10])])
  t.equal((await unary(client, PEER.echo, Buffer.alloc(0))).message?.length, 0, 'an empty message')

  const failed = await unary(client, PEER.fail, Buffer.alloc(1))
  t.same([failed.error?.code, failed.error?.details], [status.FAILED_PRECONDITION, 'nicht so: 100 % \t ☺'])
  const unknown = await unary(client, method('Nothing', false, false), Buffer.alloc(1))
  t.equal(unknown.error?.code, status.UNIMPLEMENTED)

  const sum = await new Promise<Buffer | undefined>((resolve, reject) => {
    const { path, requestSerialize, responseDeserialize } = PEER.sum
    const call = client.makeClientStreamRequest(path, requestSerialize, responseDeserialize, (error, answer) =>
      error === null ? resolve(answer) : reject(error),
    )
    for (let i = 0; i < MESSAGES; i++) call.write(Buffer.alloc(1_000))
    call.end()
  })
  t.equal(sum?.toString(), String(MESSAGES * 1_000), 'client streaming')

  const { path, requestSerialize, responseDeserialize } = PEER.count
  const counting = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, Buffer.from('200'))
  const counted: string[] = []
  for await (const message of counting as AsyncIterable<Buffer>) counted.push(message.toString())
  t.same(
    counted,
    Array.from({ length: 200 }, (_, i) => String(i)),
    'server streaming',
  )
  t.equal(await talk(client), MESSAGES, 'both ways, one by one')
  await giveUp(t, client, peer)
  await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_active') === 0, 'end of all upstream requests')
  await gateway.until(() => gateway.stat('http.ingress.downstream_rq_active') === 0, 'end of all requests')
}

/** Each message waits for the answer to the one before; the number of answers that were right. */
async function talk(client: Client): Promise<number> {
  const { path, requestSerialize, responseDeserialize } = PEER.chat
  const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize)
  const answers = (call as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
  let right = 0
  for (let i = 0; i < MESSAGES; i++) {
    call.write(Buffer.from(`message ${i}`))
    if ((await answers.next()).value?.toString() === `message ${i}`) right++
  }
  call.end()
  return (await answers.next()).done === true ? right : -1
}

/** Deadlines and cancellations reach the server. */
async function giveUp(t: Test, client: Client, peer: Peer): Promise<void> {
  const before = peer.cancelled()
  const late = await unary(client, PEER.sleep, Buffer.alloc(1), { options: { deadline: Date.now() + 150 } })
  t.equal(late.error?.code, status.DEADLINE_EXCEEDED)
  const { path, requestSerialize, responseDeserialize } = PEER.count
  const endless = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, Buffer.from('1'))
  const code = await new Promise<number>((resolve) => {
    endless.on('data', () => endless.cancel())
    endless.on('error', (error: ServiceError) => resolve(error.code))
  })
  t.equal(code, status.CANCELLED)
  const until = Date.now() + 5_000
  while (peer.cancelled() < before + 2 && Date.now() < until) await new Promise((resolve) => setImmediate(resolve))
  t.equal(peer.cancelled(), before + 2, 'the server has heard of both')
}

const PeerClient = makeGenericClientConstructor({}, 'Peer')
const UNLIMITED = { 'grpc.max_receive_message_length': -1 }
const ROUTES = [{ match: { prefix: '/', grpc: {} }, route: { cluster: 'origin', timeout: '0s' } }]

async function startGateway(t: Test, ...parameters: Parameters<typeof proxyBootstrap>): Promise<TestGateway> {
  const text = proxyBootstrap(...parameters).replaceAll('@LOGS@', folderFor(t))
  const gateway = await TestGateway.start(text)
  t.teardown(() => gateway.close())
  return gateway
}

t.test('grpc-js calls grpc-js through Headgate in plaintext', async (t) => {
  const peer = await startPeer(t, ServerCredentials.createInsecure())
  const gateway = await startGateway(t, [{ routes: ROUTES }], [http2Cluster('origin', peer.port)])
  const client = new PeerClient(`127.0.0.1:${gateway.port()}`, credentials.createInsecure(), UNLIMITED)
  await converse(t, client, peer, gateway)
})

t.test('grpc-js calls grpc-js through Headgate over TLS on both sides', async (t) => {
  const certificates = await certificatesFor(t)
  const back = await certificates.issue({ dns: ['back.test'] })
  const front = await certificates.issue({ dns: ['front.test'] })
  const pair = { private_key: Buffer.from(back.keyPem), cert_chain: Buffer.from(back.chainPem) }
  const peer = await startPeer(t, ServerCredentials.createSsl(null, [pair]))
  const socket = { transport_socket: upstreamTls(certificates.ca, 'back.test') }
  const listener = { routes: ROUTES, tls: downstreamTls([front]) }
  const gateway = await startGateway(t, [listener], [http2Cluster('origin', peer.port, socket)])
  const client = new PeerClient(`127.0.0.1:${gateway.port()}`, credentials.createSsl(Buffer.from(certificates.caPem)), {
    ...UNLIMITED,
    'grpc.ssl_target_name_override': 'front.test',
  })
  await converse(t, client, peer, gateway)
})
