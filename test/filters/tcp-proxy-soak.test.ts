import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import {
  constants,
  createServer as createHttp2Server,
  createSecureServer,
  type Http2SecureServer,
  type Http2Server,
  type ServerHttp2Stream,
} from 'node:http2'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { Duplex } from 'node:stream'
import { type ConnectionOptions, connect as connectTls, createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import type { NetworkConnection, NetworkFilter, NetworkFilterFactory } from '../../lib/chain/network.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { UpstreamTlsConfig } from '../../lib/tls/config.ts'
import { resetConnection } from '../../lib/tls/raw-socket.ts'
import { cluster, type Fields } from '../end-to-end/bootstrap.ts'
import { Authority } from '../support/certificates.ts'
import { settle } from '../support/clock.ts'
import { type Random, seeded } from '../support/random.ts'
import { layer4, tcpProxy } from './layer4-setup.ts'

/**
 * Memory that is read into again, proven on every way through: many connections side by side, each with bytes of its own,
 * against pauses, half-closes and resets, and every byte that arrives is compared.
 */

const CONNECTIONS = 12
const MOST_BYTES = 3 << 20
/** A prime, so that no multiple of a read brings the same bytes again. */
const PERIOD = 65_537
/** What a client says first: which connection it is. */
const HELLO_BYTES = 4

/** The endless stream of one direction of one connection. */
class Pattern {
  readonly #bytes: Buffer

  constructor(seed: number) {
    const words = new Uint32Array((2 * PERIOD + 4) >> 2)
    const random = seeded(seed)
    for (let i = 0; i < words.length; i++) words[i] = random.next() * 2 ** 32
    this.#bytes = Buffer.from(words.buffer)
    this.#bytes.copyWithin(PERIOD, 0, PERIOD)
  }

  /** At most `PERIOD` bytes; not to be changed. */
  at(offset: number, size: number): Buffer {
    const from = offset % PERIOD
    return this.#bytes.subarray(from, from + size)
  }
}

interface Fate {
  /** What each side sends. */
  readonly up: number
  readonly down: number
  readonly reset: 'client' | 'origin' | undefined
}

/** One connection of a test: what both of its ends do, and what became of it. */
class Talk {
  readonly id: number
  readonly seed: number
  readonly fate: Fate
  readonly patterns: { readonly up: Pattern; readonly down: Pattern }
  received = { up: 0, down: 0 }
  ended = { up: false, down: false }
  wrong: string | undefined = undefined

  constructor(seed: number, id: number) {
    const random = seeded(seed)
    this.seed = seed
    this.id = id
    this.patterns = { up: new Pattern(seed + 1), down: new Pattern(seed + 2) }
    const size = (): number => (random.below(4) === 0 ? random.below(5_000) : random.below(MOST_BYTES))
    const draw = random.below(6)
    this.fate = { up: size(), down: size(), reset: draw === 0 ? 'client' : draw === 1 ? 'origin' : undefined }
  }

  receive(stream: Duplex, direction: 'up' | 'down', random: Random): void {
    const pattern = this.patterns[direction]
    stream.on('data', (chunk: Buffer) => {
      for (let at = 0; at < chunk.length; ) {
        const size = Math.min(chunk.length - at, PERIOD)
        const offset = this.received[direction]
        if (!chunk.subarray(at, at + size).equals(pattern.at(offset, size))) this.wrong ??= `${direction} ${offset}`
        this.received[direction] += size
        at += size
      }
      if (random.below(12) > 0) return
      stream.pause()
      void settle(random.below(random.below(10) === 0 ? 60 : 6)).then(() => stream.resume())
    })
    stream.on('end', () => {
      this.ended[direction] = true
    })
  }

  /** Sends what fate says, then FIN or reset. */
  async send(stream: Duplex, direction: 'up' | 'down', random: Random): Promise<void> {
    const resets = this.fate.reset === (direction === 'up' ? 'client' : 'origin')
    const total = this.fate[direction]
    for (let sent = 0; sent < total && !stream.destroyed; ) {
      const size = Math.min(total - sent, 1 + random.below(random.below(3) === 0 ? 3_000 : PERIOD - 1))
      const more = stream.write(this.patterns[direction].at(sent, size))
      sent += size
      if (!more && random.below(4) > 0) await drained(stream)
      else if (random.below(8) === 0) await settle(random.below(4))
    }
    if (stream.destroyed) return
    if (resets) reset(stream)
    else stream.end()
  }

  /** What is to be said of it when it is over. */
  problem(halfCloses: boolean): string | undefined {
    const { up, down } = this.received
    const got = `connection ${this.id} (seed ${this.seed}): ${up}/${this.fate.up} up, ${down}/${this.fate.down} down`
    if (this.wrong !== undefined) return `${got}: wrong bytes at ${this.wrong}`
    if (this.fate.reset !== undefined) return undefined
    // With its response a POST is over: nobody waits for the rest of the request.
    if (!halfCloses && down === this.fate.down && this.ended.down) return undefined
    return up === this.fate.up && down === this.fate.down && this.ended.up && this.ended.down ? undefined : got
  }
}

function drained(stream: Duplex): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done)
      stream.off('close', done)
      resolve()
    }
    stream.on('drain', done)
    stream.on('close', done)
  })
}

/** The sockets of streams that cannot be reset. */
const BENEATH = new WeakMap<Duplex, Duplex>()

function reset(stream: Duplex): void {
  if ('rstCode' in stream) (stream as unknown as { close(code: number): void }).close(constants.NGHTTP2_CANCEL)
  else resetConnection((BENEATH.get(stream) ?? stream) as never)
}

/** The far ends: each stream that comes in finds its talk by the hello. */
class Far {
  talks: Talk[] = []

  readonly accept = (stream: Duplex): void => {
    stream.on('error', () => {})
    const hello = (): void => {
      const bytes = stream.read(HELLO_BYTES) as Buffer | null
      if (bytes === null) return
      stream.off('readable', hello)
      const talk = this.talks[bytes.readUInt32BE()]
      const random = seeded(talk.seed + 3)
      talk.receive(stream, 'up', random)
      stream.resume()
      void talk.send(stream, 'down', random)
    }
    stream.on('readable', hello)
  }
}

async function listening(t: Test, server: Server | Http2Server | Http2SecureServer): Promise<number> {
  server.on('error', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return (server.address() as AddressInfo).port
}

const authority = await Authority.create()
const leaf = await authority.issue({ dns: ['far.example'] })
const secrets = { cert: leaf.chain, key: leaf.key }

/** Keeps what passes for a while, in both directions, and passes it on unchanged. */
const keeper: NetworkFilterFactory<object> = {
  name: 'test.keeper',
  typeUrls: ['test.Keeper'],
  parse: () => ({}),
  compile(): NetworkFilter {
    const random = seeded(99)
    interface Kept {
      chunks: Buffer[]
    }
    const flush = (connection: NetworkConnection, kept: Kept): void => {
      for (const chunk of kept.chunks.splice(0)) connection.write(chunk)
    }
    return {
      createState: (): Kept => ({ chunks: [] }),
      onWrite(connection, chunk, end, state) {
        const kept = state as Kept
        if (end || kept.chunks.length > 3) {
          const all = Buffer.concat([...kept.chunks.splice(0), chunk])
          return random.below(2) === 0 ? all : settle(2).then(() => all)
        }
        if (random.below(3) === 0 && kept.chunks.length === 0) return undefined
        kept.chunks.push(chunk)
        if (kept.chunks.length === 1) void settle(2).then(() => flush(connection, kept))
        return null
      },
    } satisfies NetworkFilter
  },
}

const KEEPER: Fields = { name: 'test.keeper', typed_config: { '@type': 'type.googleapis.com/test.Keeper' } }

const DOWNSTREAM_TLS: Fields = {
  transport_socket: {
    name: 'tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
      common_tls_context: {
        tls_certificates: [
          { certificate_chain: { inline_string: leaf.chain }, private_key: { inline_string: leaf.key } },
        ],
      },
    },
  },
}

const UPSTREAM_TLS: Fields = {
  transport_socket: {
    name: 'tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
      sni: 'far.example',
      common_tls_context: { validation_context: { trusted_ca: { inline_string: authority.pem } } },
    },
  },
}

const HBONE_TLS: UpstreamTlsConfig = {
  certificates: [],
  alpn: ['h2'],
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  groups: ['X25519'],
  sni: 'far.example',
  autoSni: 'none',
  autoSanValidation: true,
  maxSessionKeys: 0,
  validation: { trustedCa: authority.pem, systemRoots: false, sans: [], acceptUntrusted: false },
}

const HTTP2: Fields = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
}

/** One way through the gateway, made for one test. */
interface Way {
  readonly port: number
  readonly cluster?: Fields
  readonly chain?: Fields
  /** False: the origin's end is the end of both directions. */
  readonly halfCloses?: boolean
  readonly clusters?: readonly Fields[]
  readonly listeners?: readonly Fields[]
  readonly before?: readonly Fields[]
  readonly proxy?: Fields
  readonly adjust?: (config: GatewayConfig) => GatewayConfig
}

const TUNNEL: Fields = { tunneling_config: { hostname: 'far.example:443' } }
const POST: Fields = { tunneling_config: { hostname: 'far.example:443', use_post: true } }

const plain = async (t: Test, far: Far): Promise<number> =>
  listening(t, createServer({ allowHalfOpen: true, noDelay: true }, far.accept))

const http2 = async (t: Test, far: Far): Promise<number> => {
  const server = createHttp2Server()
  server.on('stream', (stream: ServerHttp2Stream) => {
    stream.respond({ ':status': 200 })
    far.accept(stream)
  })
  return listening(t, server)
}

const INSIDE: Fields = { envoy_internal_address: { server_listener_name: 'inside' } }

const WAYS: { readonly [name: string]: (t: Test, far: Far) => Promise<Way> } = {
  'plain to plain': async (t, far) => ({ port: await plain(t, far) }),
  'plain to plain, behind a filter that keeps what is written': async (t, far) => ({
    port: await plain(t, far),
    before: [KEEPER],
  }),
  'plain through an internal listener': async (t, far) => ({
    port: await plain(t, far),
    proxy: { cluster: 'inside' },
    clusters: [
      {
        name: 'inside',
        type: 'STATIC',
        load_assignment: {
          cluster_name: 'inside',
          endpoints: [{ lb_endpoints: [{ endpoint: { address: INSIDE } }] }],
        },
      },
    ],
    listeners: [
      {
        name: 'inside',
        internal_listener: {},
        filter_chains: [{ filters: [tcpProxy({ cluster: 'far', stat_prefix: 'inside' })] }],
      },
    ],
  }),
  'plain to TLS': async (t, far) => ({
    port: await listening(t, createTlsServer({ ...secrets, allowHalfOpen: true }, far.accept)),
    cluster: UPSTREAM_TLS,
  }),
  'TLS to plain': async (t, far) => ({ port: await plain(t, far), chain: DOWNSTREAM_TLS }),
  'plain through CONNECT over HTTP/1': async (t, far) => {
    const server = createHttpServer()
    server.on('connect', (_, socket: Duplex) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      far.accept(socket)
    })
    return { port: await listening(t, server), proxy: TUNNEL }
  },
  'plain through CONNECT over HTTP/2': async (t, far) => ({
    port: await http2(t, far),
    cluster: HTTP2,
    proxy: TUNNEL,
  }),
  'plain through POST over HTTP/1': async (t, far) => {
    const server = createHttpServer((request, response) => {
      response.writeHead(200).flushHeaders()
      const both = Duplex.from({ readable: request, writable: response } as never)
      BENEATH.set(both, request.socket)
      far.accept(both)
    })
    return { port: await listening(t, server), proxy: POST, halfCloses: false }
  },
  'plain through POST over HTTP/2': async (t, far) => ({
    port: await http2(t, far),
    cluster: HTTP2,
    proxy: POST,
    halfCloses: false,
  }),
  'plain through HBONE': async (t, far) => {
    const server = createSecureServer(secrets)
    server.on('stream', (stream: ServerHttp2Stream) => {
      stream.respond({ ':status': 200 })
      far.accept(stream)
    })
    const port = await listening(t, server)
    const layer = { kind: 'hbone', port, authority: 'address', tls: HBONE_TLS, headers: [] } as const
    return {
      port,
      adjust: (config) => ({
        ...config,
        clusters: config.clusters.map((one) => ({ ...one, layers: [layer] })),
      }),
    }
  },
}

/** Plays one talk from the client's side; resolves when its connection is gone. */
async function play(talk: Talk, port: number, secure: boolean): Promise<void> {
  const options = { host: '127.0.0.1', port, allowHalfOpen: true }
  const stream = secure
    ? connectTls({ ...options, servername: 'far.example', ca: authority.pem } as ConnectionOptions)
    : connect({ ...options, noDelay: true })
  const closed = new Promise<void>((resolve) => stream.once('close', () => resolve()))
  stream.on('error', () => {})
  const random = seeded(talk.seed + 4)
  const hello = Buffer.alloc(HELLO_BYTES)
  hello.writeUInt32BE(talk.id)
  stream.write(hello)
  talk.receive(stream, 'down', random)
  void talk.send(stream, 'up', random)
  await closed
}

async function talkThrough(t: Test, name: string, base: number): Promise<void> {
  const far = new Far()
  far.talks = Array.from({ length: CONNECTIONS }, (_, id) => new Talk(base + id * 16, id))
  const way = await WAYS[name](t, far)
  const l4 = await layer4(t, {
    filters: [...(way.before ?? []), tcpProxy({ cluster: 'far', ...way.proxy })],
    chain: way.chain,
    clusters: [cluster('far', way.port, way.cluster), ...(way.clusters ?? [])],
    ...(way.listeners && { listeners: way.listeners }),
    gateway: { networkFilters: [keeper], ...(way.adjust && { adjust: way.adjust }) },
    listener: { per_connection_buffer_limit_bytes: 65_536 },
  })
  const { gateway } = l4
  await Promise.all(far.talks.map((talk) => play(talk, gateway.port(), way.chain !== undefined)))
  await gateway.until(() => gateway.stat('listener.127.0.0.1_0.downstream_cx_active') === 0, 'end', 10_000)
  await gateway.until(() => gateway.stat('cluster.far.upstream_rq_active') === 0, 'end of tunnels', 10_000)
  const problems = (): string[] => far.talks.flatMap((talk) => talk.problem(way.halfCloses !== false) ?? [])
  // What the gateway has passed on, the far ends may have yet to read.
  await gateway.until(() => problems().length === 0, 'whole').catch(() => {})
  t.same(problems(), [])
  // A reset may come before its connection is accepted.
  t.ok(gateway.stat('tcp.l4.downstream_cx_total') > CONNECTIONS / 2)
  t.equal(gateway.stat('tcp.l4.upstream_flush_active'), 0)
  t.same(gateway.complaints, [])
  await l4.finish()
}

for (const name of Object.keys(WAYS)) {
  for (const seed of [1, 3000]) {
    t.test(`${name}: every byte is the one that was sent (seed ${seed})`, (t) => talkThrough(t, name, seed))
  }
}
