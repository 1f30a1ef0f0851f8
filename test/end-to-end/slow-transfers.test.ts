import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http, { createServer, type IncomingMessage } from 'node:http'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { GatewayProcess } from '../attacks/gateway-process.ts'
import { bootstrap, cluster, type Fields } from './bootstrap.ts'
import { LONG } from './xds-lab.ts'
import { sleep } from './xds-load.ts'

/**
 * F6 and F7: clients that read nothing of large answers for a while, and upstreams that read nothing of large uploads. What
 * the gateway holds meanwhile is bounded by its buffers, all bytes arrive, and others are served.
 */

t.setTimeout(600_000)

const MIB = 1 << 20
const CLIENTS = LONG ? 200 : 16
const SIZE = (LONG ? 64 : 4) * MIB
const HOLD_MS = LONG ? 30_000 : 1_500
const BUFFER = 64 * 1024
/** What a heap does by itself: in the long form it fills the room that a worker's has, of which an idle one uses little. */
const HEAP_MIB = LONG ? 96 : 48
/** Per client as promised (edge-safety F6: two buffers and 64 KiB), and a tenth of it. */
const MOST_MIB = ((CLIENTS * (2 * BUFFER + 64 * 1024)) / MIB) * 1.1 + HEAP_MIB

const CHUNK: Buffer = Buffer.alloc(64 * 1024, 'headgate slow transfers ')
const HASH: string = hashOf(SIZE)

function hashOf(size: number): string {
  const hash = createHash('sha256')
  for (let left = size; left > 0; left -= CHUNK.length) hash.update(CHUNK)
  return hash.digest('hex')
}

/** Sends large answers as fast as they are taken; reads uploads after a while, and answers with their hash. */
async function startOrigin(t: Test): Promise<number> {
  const server = createServer(async (request, response) => {
    response.on('error', () => {})
    request.on('error', () => {})
    if (request.url === '/quick') response.end('quick')
    else if (request.method === 'GET') {
      response.setHeader('content-length', SIZE)
      for (let left = SIZE; left > 0 && !response.destroyed; left -= CHUNK.length) {
        if (!response.write(CHUNK)) await once(response, 'drain').catch(() => {})
      }
      response.end()
    } else {
      await sleep(HOLD_MS)
      response.end(await hashed(request))
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

async function hashed(stream: AsyncIterable<Buffer>): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of stream) hash.update(chunk)
  return hash.digest('hex')
}

async function upload(to: NodeJS.WritableStream): Promise<void> {
  for (let left = SIZE; left > 0; left -= CHUNK.length) if (!to.write(CHUNK)) await once(to, 'drain')
  to.end()
}

/** What a client of one protocol has in hand; answers the hash that it, or the upstream, came to. */
type Transfer = (port: number) => Promise<string>

/** Kept connections: one that closes gives who reads nothing but `delayed_close_timeout`, as Envoy's do. */
const download1: Transfer = async (port) => {
  const agent = new http.Agent({ keepAlive: true })
  const request = http.get({ port, host: '127.0.0.1', agent, path: '/large' })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  await sleep(HOLD_MS)
  const hash = await hashed(response)
  agent.destroy()
  return hash
}

const upload1: Transfer = async (port) => {
  const headers = { 'content-length': SIZE }
  const request = http.request({ port, host: '127.0.0.1', agent: false, path: '/large', method: 'PUT', headers })
  const answered = once(request, 'response') as Promise<[IncomingMessage]>
  await upload(request)
  return textOf((await answered)[0])
}

async function overHttp2(port: number, run: (session: ClientHttp2Session) => Promise<string>): Promise<string> {
  const session = connectHttp2(`http://127.0.0.1:${port}`)
  try {
    return await run(session)
  } finally {
    session.close()
  }
}

const download2: Transfer = (port) =>
  overHttp2(port, async (session) => {
    const stream = session.request({ ':path': '/large' })
    await once(stream, 'response')
    await sleep(HOLD_MS)
    return hashed(stream)
  })

const upload2: Transfer = (port) =>
  overHttp2(port, async (session) => {
    const stream = session.request({ ':path': '/large', ':method': 'PUT' })
    await upload(stream)
    return textOf(stream)
  })

async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const pieces: Buffer[] = []
  for await (const piece of stream) pieces.push(piece)
  return Buffer.concat(pieces).toString()
}

/** Small requests all the time, one after the other: how long each took. */
class Victim {
  readonly tookMs: number[] = []
  readonly #running: Promise<void>
  failures = 0
  #stopped = false

  constructor(port: number) {
    this.#running = this.#run(port)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  get medianMs(): number {
    return this.tookMs.toSorted((a, b) => a - b)[this.tookMs.length >> 1]
  }

  async #run(port: number): Promise<void> {
    const agent = new http.Agent({ keepAlive: true })
    while (!this.#stopped) {
      const begin = performance.now()
      const request = http.get({ port, host: '127.0.0.1', agent, path: '/quick' })
      try {
        const [response] = (await once(request, 'response')) as [IncomingMessage]
        if ((await textOf(response)) !== 'quick') this.failures++
      } catch {
        this.failures++
      }
      this.tookMs.push(performance.now() - begin)
      await sleep(10)
    }
    agent.destroy()
  }
}

const WINDOWS: Fields = { initial_stream_window_size: BUFFER, initial_connection_window_size: BUFFER }
const LIMIT: Fields = { per_connection_buffer_limit_bytes: BUFFER }

for (const [name, transfer] of Object.entries({
  'HTTP/1 clients that read nothing for a while': download1,
  'HTTP/2 clients that read nothing for a while': download2,
  'upstreams that read nothing of HTTP/1 uploads': upload1,
  'upstreams that read nothing of HTTP/2 uploads': upload2,
})) {
  t.test(`${CLIENTS} ${name}: memory is bounded, every byte arrives, others are served`, async (t) => {
    const origin = await startOrigin(t)
    const spec = bootstrap({
      fields: LIMIT,
      hcm: { http2_protocol_options: WINDOWS },
      routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', timeout: '0s' } }],
      clusters: [cluster('origin', origin, LIMIT)],
    })
    const gateway = await GatewayProcess.start(t, spec)
    const port = await gateway.port('main')
    const victim = new Victim(port)
    const { growthMib, result } = await gateway.growthDuring(() =>
      Promise.all(Array.from({ length: CLIENTS }, () => transfer(port))),
    )
    await victim.stop()
    t.same(new Set(result), new Set([HASH]))
    t.equal(victim.failures, 0)
    t.ok(victim.tookMs.length > 20, 'others were served all the time')
    t.ok(growthMib <= MOST_MIB, `${growthMib.toFixed(1)} MiB of at most ${MOST_MIB.toFixed(1)}`)
    t.ok(gateway.untouched)
    const others = `others' median ${victim.medianMs.toFixed(1)} ms`
    t.comment(
      `${CLIENTS} of ${SIZE / MIB} MiB: ${growthMib.toFixed(1)} MiB more (at most ${MOST_MIB.toFixed(1)}), ${others}`,
    )
  })
}
