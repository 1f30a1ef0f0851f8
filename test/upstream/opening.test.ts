import { createServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import t, { type Test } from 'tap'
import type { ByteEvents } from '../../lib/core/attempt.ts'
import { plainConnection } from '../../lib/core/connection.ts'
import { createPipe } from '../../lib/core/pipe.ts'
import type { UpstreamTlsConfig } from '../../lib/tls/config.ts'
import { resetConnection } from '../../lib/tls/raw-socket.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import { settle } from '../support/clock.ts'
import { type Lab, type LabOptions, lab, listen, until } from './http2-lab.ts'

/** Connections in the making: whatever they wait for, and however that ends, nothing of them is left. */

const TLS: UpstreamTlsConfig = {
  certificates: [],
  alpn: [],
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.3',
  groups: ['X25519', 'P-256'],
  sni: 'web.example',
  autoSni: 'none',
  autoSanValidation: false,
  maxSessionKeys: 1,
}
const PROXY = { kind: 'proxy-protocol', version: 1, passTlvs: 'none', addedTlvs: [] } as const

/** A peer that takes what comes and says nothing. */
interface Silent {
  readonly options: LabOptions
  readonly ends: Duplex[]
  /** Bytes that say that the phase is reached. */
  bytes: number
}

async function silentSocket(t: Test, cluster: (port: number) => Partial<ClusterConfig>): Promise<Silent> {
  const far: Silent = { options: { port: 0 }, ends: [], bytes: 0 }
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    far.ends.push(socket)
    socket.on('data', (chunk: Buffer) => {
      far.bytes += chunk.length
    })
  })
  const port = await listen(t, server)
  return Object.assign(far, { options: { port, cluster: cluster(port) } })
}

const STAGES: { readonly [stage: string]: (t: Test) => Promise<Silent> } = {
  'TLS behind a PROXY header': (t) => silentSocket(t, () => ({ tls: TLS, layers: [PROXY] })),
  'an HTTP proxy': (t) =>
    silentSocket(t, (port) => {
      const proxyAddress = { kind: 'ip', host: '127.0.0.1', port } as const
      return { tls: TLS, layers: [PROXY, { kind: 'http-connect', proxyAddress, target: 'address' }] }
    }),
  async 'TLS within'() {
    const far: Silent = { options: { port: 0 }, ends: [], bytes: 0 }
    const at = { address: '127.0.0.1', port: 1 }
    const connect = (): Duplex => {
      const { near, far: end } = createPipe({ near: at, far: at })
      end.on('error', () => {})
      end.on('data', (chunk: Buffer) => {
        far.bytes += chunk.length
      })
      far.ends.push(end)
      return near
    }
    const endpoint = { address: { kind: 'internal', listener: 'inner' } } as const
    return Object.assign(far, { options: { port: 0, internal: { connect }, endpoint, cluster: { tls: TLS } } })
  },
}

/** Whoever waits for the connection. */
interface Waiter {
  readonly failures: string[]
  abort(): void
}

const CLIENT = plainConnection({
  id: 7,
  remoteAddress: '192.0.2.1',
  remotePort: 1234,
  localAddress: '192.0.2.9',
  localPort: 443,
  kind: 'ip',
  listenerName: 'in',
})

const WAITERS: { readonly [kind: string]: (made: Lab) => Waiter } = {
  ...Object.fromEntries(
    (['http1', 'http2', 'auto', 'downstream'] as const).map((kind) => [
      kind,
      (made: Lab): Waiter => {
        const call = made.call({ connection: CLIENT })
        return {
          get failures() {
            return call.failures.map(({ flag }) => flag)
          },
          abort: () => call.stream?.cancel(),
        }
      },
    ]),
  ),
  bytes(made) {
    const failures: string[] = []
    const events: ByteEvents = {
      onConnected: () => failures.push('connected'),
      onData: () => true,
      onEnd: () => failures.push('end'),
      onDrain: () => failures.push('drain'),
      onClosed: (why) => failures.push(why?.flag ?? 'closed'),
    }
    const stream = made.cluster.connect(made.host(), { priority: 'default', downstream: CLIENT }, events)
    stream?.write(Buffer.from('early'))
    stream?.end()
    return { failures, abort: () => stream?.reset() }
  },
}

const ENDINGS: {
  readonly [ending: string]: (parts: { made: Lab; far: Silent; waiter: Waiter }) => Promise<string[]>
} = {
  async 'the client goes, then time runs out'({ made, waiter }) {
    waiter.abort()
    made.clock.advance(5_100)
    return []
  },
  async 'time runs out'({ made }) {
    made.clock.advance(5_100)
    return ['UF']
  },
  async 'the cluster is destroyed'({ made }) {
    made.cluster.destroy()
    return ['UF']
  },
  async 'the cluster is retired, then time runs out'({ made }) {
    made.cluster.retire()
    made.clock.advance(5_100)
    return ['UF']
  },
  async 'the peer ends'({ far }) {
    far.ends[0].end()
    return ['UF']
  },
  async 'the peer talks nonsense'({ far }) {
    far.ends[0].write('nonsense, and more of it\r\n\r\n')
    return ['UF']
  },
  async 'the peer resets'({ far }) {
    resetConnection(far.ends[0] as Socket)
    return ['UF']
  },
}

for (const [stage, begin] of Object.entries(STAGES)) {
  for (const [kind, wait] of Object.entries(WAITERS)) {
    t.test(`${kind}, waiting for ${stage}: nothing is left, however it ends`, async (t) => {
      for (const [ending, end] of Object.entries(ENDINGS)) {
        const far = await begin(t)
        const protocol = kind === 'bytes' ? 'http1' : (kind as ClusterConfig['protocol'])
        const limits = { maxConnections: 1 }
        const made = await lab(t, { ...far.options, limits, cluster: { ...far.options.cluster, protocol } })
        const waiter = wait(made)
        await until(() => far.bytes > 80, 'the stage')
        t.equal(made.stat('circuit_breakers.default.cx_open'), 1)
        const expected = await end({ made, far, waiter })
        await until(() => made.stat('upstream_cx_active') === 0, `the end: ${ending}`)
        await settle(3)
        t.same(waiter.failures, expected, ending)
        t.equal(made.stat('circuit_breakers.default.cx_open'), 0, ending)
        t.equal(made.stat('upstream_cx_total'), 1, ending)
        t.equal(made.stat('upstream_cx_destroy'), 1, ending)
        t.equal(made.stat('upstream_cx_connect_fail'), 1, ending)
        t.equal(made.wheel.armed, 0, ending)
        const [peer] = far.ends
        await until(() => peer.closed || peer.readableEnded, `the peer to hear of it: ${ending}`)
        peer.destroy()
      }
    })
  }
}

t.test('a host that is asked for its protocol without a timeout has all the time', async (t) => {
  const far = await silentSocket(t, () => ({ tls: TLS, protocol: 'auto', connectTimeoutMs: 0 }))
  const made = await lab(t, far.options)
  const call = made.call({})
  await until(() => far.bytes > 80, 'the handshake to begin')
  made.clock.advance(60_000)
  await settle(3)
  t.same(call.failures, [])
  t.equal(made.stat('upstream_cx_connect_timeout'), 0)
})

/** Internal listeners that answer nothing, and the connections to them. */
function innerListener(): { connect: () => Duplex; readonly ends: Duplex[] } {
  const ends: Duplex[] = []
  const at = { address: '127.0.0.1', port: 1 }
  const connect = (): Duplex => {
    const { near, far } = createPipe({ near: at, far: at })
    far.on('error', () => {})
    // The PROXY header is none that anybody answers.
    far.on('data', (bytes: Buffer) => {
      if (bytes.includes('GET ')) far.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
    })
    ends.push(far)
    return near
  }
  return { connect, ends }
}

t.test(
  'what an internal listener is told of one client serves no other, though their addresses are the same',
  async (t) => {
    const { connect, ends } = innerListener()
    const endpoint = { address: { kind: 'internal', listener: 'inner' } } as const
    const layers = [{ kind: 'internal', metadata: [] } as const, PROXY]
    const made = await lab(t, { port: 0, internal: { connect }, endpoint, cluster: { protocol: 'http1', layers } })
    const count = async (connection: typeof CLIENT): Promise<number> => {
      const call = made.call({ connection })
      await until(() => call.over, 'an answer')
      return ends.length
    }
    t.equal(await count(CLIENT), 1)
    t.equal(await count(CLIENT), 1)
    t.equal(await count({ ...CLIENT, id: 8 }), 2)
  },
)

t.test('a request that comes late to a closed pool of one client ends with the cluster', async (t) => {
  let requests = 0
  const server = createServer((socket) => {
    socket.on('data', () => {
      if (++requests === 1) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
    })
  })
  const port = await listen(t, server)
  const made = await lab(t, { port, cluster: { protocol: 'http1', layers: [PROXY] } })
  const host = made.host()
  const first = made.call({ connection: CLIENT, host })
  await until(() => first.over, 'an answer')
  const busy = made.call({ connection: { ...CLIENT, remotePort: 1235 }, host })
  await until(() => requests === 2, 'the second client')
  made.cluster.retire()
  await until(() => made.stat('upstream_cx_active') === 1, 'the end of what is idle')
  const late = made.call({ connection: CLIENT, host })
  await until(() => requests === 3, 'the late request')
  made.cluster.destroy()
  await until(() => made.stat('upstream_cx_active') === 0, 'the end of all')
  t.ok(busy.over)
  t.ok(late.over)
})
