import { createServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import type { ByteEvents, ByteStream, RoutingPriority, UpstreamInfo } from '../../lib/core/attempt.ts'
import { plainConnection } from '../../lib/core/connection.ts'
import { FAILURES, type Failure } from '../../lib/core/failure.ts'
import type { Leases, SlotLease } from '../../lib/core/lease.ts'
import { LocalLeases } from '../../lib/core/local-leases.ts'
import { createPipe } from '../../lib/core/pipe.ts'
import type { UpstreamTlsConfig } from '../../lib/tls/config.ts'
import { resetConnection } from '../../lib/tls/raw-socket.ts'
import type { Host } from '../../lib/upstream/host.ts'
import { Authority } from '../support/certificates.ts'
import { settle, TestClock } from '../support/clock.ts'
import { RelayedLease } from '../support/relayed-lease.ts'
import { socketPath } from '../support/socket-path.ts'
import { type Lab, type LabOptions, lab, listen, until } from './http2-lab.ts'

/** Raw connections of a cluster, over every transport and through every way to end. */

/** One connection and all that came of it. */
class Bytes implements ByteEvents {
  readonly stream: ByteStream | undefined
  info: UpstreamInfo | undefined = undefined
  connects = 0
  readonly chunks: Buffer[] = []
  ends = 0
  drains = 0
  readonly closes: { readonly why: Failure | undefined; readonly detail: string | undefined }[] = []
  /** What `onData` answers. */
  flowing = true
  whenConnected: (() => void) | undefined = undefined

  constructor({ cluster, host }: Lab, priority: RoutingPriority = 'default') {
    const downstream = plainConnection({
      id: 7,
      remoteAddress: '192.0.2.1',
      remotePort: 1234,
      localAddress: '192.0.2.9',
      localPort: 443,
      kind: 'ip',
      listenerName: 'in',
    })
    this.stream = cluster.connect(host(), { priority, downstream }, this)
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString()
  }

  get bytes(): number {
    return this.chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  }

  get closed(): boolean {
    return this.closes.length > 0
  }

  onConnected(info: UpstreamInfo): void {
    this.connects++
    this.info = info
    this.whenConnected?.()
  }

  onData(chunk: Buffer): boolean {
    this.chunks.push(chunk)
    return this.flowing
  }

  onEnd(): void {
    this.ends++
  }

  onDrain(): void {
    this.drains++
  }

  onClosed(why: Failure | undefined, detail?: string): void {
    this.closes.push({ why, detail })
  }
}

/** The other side: what it got, and its stream. */
class Peer {
  readonly stream: Duplex
  readonly chunks: Buffer[] = []
  ended = false
  error: string | undefined = undefined
  closed = false

  constructor(stream: Duplex) {
    this.stream = stream
    stream.on('data', (chunk: Buffer) => this.chunks.push(chunk))
    stream.on('end', () => {
      this.ended = true
    })
    stream.on('error', (error: NodeJS.ErrnoException) => {
      this.error = error.code
    })
    stream.on('close', () => {
      this.closed = true
    })
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString('latin1')
  }

  get bytes(): number {
    return this.chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  }
}

/** Of a Unix socket that is closed the peer sees a FIN. */
function gone({ closed, ended }: Peer): boolean {
  return closed || ended
}

interface Far {
  readonly options: LabOptions
  readonly peers: Peer[]
  /** What the peer gets before the bytes of the owner. */
  readonly preface: string
}

const authority = await Authority.create()
const leaf = await authority.issue({ dns: ['web.example'] })

const tls: UpstreamTlsConfig = {
  certificates: [],
  alpn: ['bytes/1'],
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.3',
  groups: ['X25519MLKEM768', 'X25519', 'P-256'],
  sni: 'web.example',
  autoSni: 'none',
  autoSanValidation: true,
  maxSessionKeys: 1,
  validation: { trustedCa: authority.pem, systemRoots: false, sans: [], acceptUntrusted: false },
}

const PROXY = { kind: 'proxy-protocol', version: 1, passTlvs: 'none', addedTlvs: [] } as const

const TRANSPORTS: { readonly [name: string]: (t: Test) => Promise<Far> } = {
  async plain(t) {
    const peers: Peer[] = []
    const port = await listen(
      t,
      createServer({ allowHalfOpen: true }, (socket) => void peers.push(new Peer(socket))),
    )
    return { options: { port }, peers, preface: '' }
  },
  async tls(t) {
    const peers: Peer[] = []
    const server = createTlsServer(
      { cert: leaf.chain, key: leaf.key, ALPNProtocols: ['bytes/1'], allowHalfOpen: true },
      (socket) => void peers.push(new Peer(socket)),
    )
    server.on('tlsClientError', () => {})
    return { options: { port: await listen(t, server), cluster: { tls } }, peers, preface: '' }
  },
  async proxy(t) {
    const { options, peers } = await TRANSPORTS.plain(t)
    const preface = 'PROXY TCP4 192.0.2.1 192.0.2.9 1234 443\r\n'
    return { options: { ...options, cluster: { layers: [PROXY] } }, peers, preface }
  },
  async pipe(t) {
    const peers: Peer[] = []
    const path = socketPath(t, 'far.sock')
    const server = createServer({ allowHalfOpen: true }, (socket) => void peers.push(new Peer(socket)))
    await new Promise<void>((resolve) => server.listen(path, resolve))
    t.teardown(() => {
      for (const { stream } of peers) stream.destroy()
      server.close()
    })
    return { options: { port: 0, path }, peers, preface: '' }
  },
  async internal() {
    const peers: Peer[] = []
    const internal: LabOptions['internal'] = {
      connect(listener) {
        if (listener !== 'inner') return undefined
        const at = { address: '127.0.0.1', port: 1 }
        const { near, far } = createPipe({ near: at, far: at })
        peers.push(new Peer(far))
        return near
      },
    }
    const endpoint = { address: { kind: 'internal', listener: 'inner' } } as const
    return { options: { port: 0, internal, endpoint }, peers, preface: '' }
  },
}

interface Open extends Far {
  readonly lab: Lab
  readonly bytes: Bytes
  readonly peer: Peer
}

async function open(t: Test, transport: string): Promise<Open> {
  const far = await TRANSPORTS[transport](t)
  const made = await lab(t, far.options)
  const bytes = new Bytes(made)
  await until(() => bytes.connects === 1 && far.peers.length === 1, 'a connection')
  return { ...far, lab: made, bytes, peer: far.peers[0] }
}

for (const transport of Object.keys(TRANSPORTS)) {
  t.test(`${transport}: bytes go both ways, from before there is a connection`, async (t) => {
    const far = await TRANSPORTS[transport](t)
    const made = await lab(t, far.options)
    const bytes = new Bytes(made)
    bytes.whenConnected = () => bytes.stream?.write(Buffer.from('three'))
    t.equal(bytes.stream?.write(Buffer.from('one ')), false, 'the owner waits')
    bytes.stream?.write(Buffer.from('two '))
    t.equal(made.stat('upstream_cx_active'), 1)
    await until(() => far.peers[0]?.text === `${far.preface}one two three`, 'all of it in order')
    t.equal(bytes.connects, 1)
    t.equal(bytes.drains, 1, 'and is told when the wait is over')
    far.peers[0].stream.write('back')
    await until(() => bytes.text === 'back', 'the answer')
    t.equal(bytes.info?.tls?.alpn, transport === 'tls' ? 'bytes/1' : undefined)
    t.equal(bytes.info?.remoteAddress, made.host().addressText)
    t.equal(bytes.info?.reused, false)
    t.same(bytes.closes, [])
    bytes.stream?.reset()
    await until(() => gone(far.peers[0]), 'the end')
    t.same(bytes.closes, [], 'whoever resets knows')
  })

  t.test(`${transport}: the owner's half-close leaves the other direction open`, async (t) => {
    const { bytes, peer, lab } = await open(t, transport)
    bytes.stream?.write(Buffer.from('last'))
    bytes.stream?.end()
    await until(() => peer.ended, 'the FIN')
    t.match(peer.text, /last$/)
    await settle(3)
    t.equal(bytes.ends, 0)
    peer.stream.write('still here')
    await until(() => bytes.text === 'still here', 'what comes the other way')
    t.same(bytes.closes, [])
    peer.stream.end()
    await until(() => bytes.closed, 'the end of both')
    t.same(bytes.closes, [{ why: undefined, detail: undefined }])
    t.equal(bytes.ends, 1)
    t.equal(lab.stat('upstream_cx_destroy'), 1)
    t.equal(lab.stat('upstream_cx_connect_fail'), 0)
  })

  t.test(`${transport}: the peer's half-close leaves the other direction open`, async (t) => {
    const { bytes, peer } = await open(t, transport)
    peer.stream.end('bye')
    await until(() => bytes.ends === 1, 'the FIN')
    t.equal(bytes.text, 'bye')
    await settle(3)
    t.same(bytes.closes, [])
    t.equal(bytes.stream?.write(Buffer.from('more')), true)
    await until(() => /more$/.test(peer.text), 'what goes the other way')
    bytes.stream?.end()
    await until(() => bytes.closed && peer.ended, 'the end of both')
    t.same(bytes.closes, [{ why: undefined, detail: undefined }])
  })

  t.test(`${transport}: a half-close before there is a connection comes behind what was written`, async (t) => {
    const far = await TRANSPORTS[transport](t)
    const bytes = new Bytes(await lab(t, far.options))
    bytes.stream?.write(Buffer.from('all of it'))
    bytes.stream?.end()
    await until(() => far.peers[0]?.ended === true, 'the FIN')
    t.equal(far.peers[0].text, `${far.preface}all of it`)
    far.peers[0].stream.end('ok')
    await until(() => bytes.closed, 'the end of both')
    t.same(bytes.closes, [{ why: undefined, detail: undefined }])
    t.equal(bytes.text, 'ok')
    t.equal(bytes.drains, 0)
  })

  t.test(`${transport}: the owner's reset reaches the peer as one`, async (t) => {
    const { bytes, peer, lab } = await open(t, transport)
    bytes.stream?.reset()
    bytes.stream?.reset()
    t.equal(bytes.stream?.write(Buffer.from('into the void')), true)
    await until(() => gone(peer), 'the end')
    // A Unix socket knows no reset.
    t.equal(peer.error, transport === 'pipe' ? undefined : 'ECONNRESET')
    t.same(bytes.closes, [])
    t.equal(lab.stat('upstream_cx_destroy_local'), 1)
    t.equal(lab.stat('upstream_cx_destroy_remote'), 0)
  })

  t.test(`${transport}: the peer's reset reaches the owner as a failure, once`, async (t) => {
    const { bytes, peer, lab } = await open(t, transport)
    if (transport === 'pipe') peer.stream.destroy()
    else resetConnection(peer.stream as Socket)
    // What ends without a reset is a FIN, and the write that runs into it.
    if (transport === 'pipe') {
      await until(() => bytes.ends === 1, 'the FIN')
      bytes.stream?.write(Buffer.from('x'))
      bytes.stream?.write(Buffer.from('y'))
    }
    await until(() => bytes.closed, 'the end')
    await settle(3)
    t.equal(bytes.closes.length, 1)
    t.equal(bytes.closes[0].why, FAILURES.upstreamClosed)
    t.equal(lab.stat('upstream_cx_destroy_remote'), 1)
    t.equal(lab.stat('upstream_cx_destroy_with_active_rq'), 1)
  })

  t.test(`${transport}: a slow peer makes the owner wait, and all arrives`, async (t) => {
    const { bytes, peer, preface } = await open(t, transport)
    peer.stream.pause()
    const chunk = Buffer.alloc(64 * 1024, 'a')
    let sent = 0
    while (sent < 400 && bytes.stream?.write(chunk) === true) {
      sent++
      await settle(1)
    }
    sent++
    t.ok(sent < 400, 'writing was told to stop')
    t.equal(bytes.drains, 0)
    peer.stream.resume()
    await until(() => bytes.drains === 1 && peer.bytes === sent * chunk.length + preface.length, 'the rest')
    bytes.stream?.reset()
  })

  t.test(`${transport}: a slow owner makes the peer wait, and all arrives`, async (t) => {
    const { bytes, peer, lab } = await open(t, transport)
    bytes.flowing = false
    const chunk = Buffer.alloc(64 * 1024, 'b')
    let sent = 0
    while (sent < 400 && peer.stream.writableLength < 1024 * 1024) {
      peer.stream.write(chunk)
      sent++
      await settle(1)
    }
    t.ok(sent < 400, 'the peer is stuck')
    t.equal(bytes.chunks.length, 1, 'nothing comes after a refusal')
    t.equal(lab.stat('upstream_flow_control_paused_reading_total'), 1)
    bytes.flowing = true
    bytes.stream?.resume()
    await until(() => bytes.bytes === sent * chunk.length, 'the rest')
    t.equal(lab.stat('upstream_flow_control_resumed_reading_total'), 1)
    bytes.stream?.reset()
  })

  t.test(`${transport}: what is paused before there is a connection stays so`, async (t) => {
    const far = await TRANSPORTS[transport](t)
    const bytes = new Bytes(await lab(t, far.options))
    bytes.stream?.pause()
    await until(() => far.peers.length === 1 && bytes.connects === 1, 'a connection')
    far.peers[0].stream.write('early')
    await settle(10)
    t.equal(bytes.text, '')
    bytes.stream?.resume()
    await until(() => bytes.text === 'early', 'it')
    bytes.stream?.reset()
  })

  t.test(`${transport}: a reset before there is a connection leaves nothing behind`, async (t) => {
    const far = await TRANSPORTS[transport](t)
    const made = await lab(t, far.options)
    const bytes = new Bytes(made)
    bytes.stream?.write(Buffer.from('never'))
    bytes.stream?.reset()
    t.equal(made.stat('upstream_cx_active'), 0)
    await settle(10)
    t.equal(bytes.connects, 0)
    t.same(bytes.closes, [])
    t.equal(made.cluster.status().hosts[0].stats.cx_active, 0)
  })
}

t.test('a host that refuses is a failure to connect, with its reason', async (t) => {
  const server = createServer()
  const port = await listen(t, server)
  await new Promise((resolve) => server.close(resolve))
  const made = await lab(t, { port })
  const bytes = new Bytes(made)
  bytes.stream?.write(Buffer.from('never'))
  await until(() => bytes.closed, 'the refusal')
  t.same(bytes.closes, [{ why: FAILURES.connectFailed, detail: 'delayed connect error: Connection refused' }])
  t.equal(bytes.connects, 0)
  t.equal(made.stat('upstream_cx_connect_fail'), 1)
  t.equal(made.stat('upstream_cx_total'), 1)
  t.equal(made.stat('upstream_cx_destroy'), 1)
  t.equal(made.stat('upstream_cx_destroy_remote'), 1)
  t.equal(made.stat('upstream_cx_destroy_with_active_rq'), 0)
})

t.test('an internal listener that is not there refuses', async (t) => {
  const endpoint = { address: { kind: 'internal', listener: 'nobody' } } as const
  const made = await lab(t, { port: 0, endpoint, internal: { connect: () => undefined } })
  const bytes = new Bytes(made)
  await until(() => bytes.closed, 'the refusal')
  t.equal(bytes.closes[0].why, FAILURES.connectFailed)
  t.equal(made.stat('upstream_cx_connect_fail'), 1)
})

t.test('a handshake that does not end is a timeout', async (t) => {
  const silent: Socket[] = []
  const port = await listen(
    t,
    createServer((socket) => void silent.push(socket)),
  )
  const made = await lab(t, { port, cluster: { tls, connectTimeoutMs: 2_000 } })
  const bytes = new Bytes(made)
  await until(() => silent.length === 1, 'a connection')
  made.clock.advance(1_900)
  await settle(2)
  t.same(bytes.closes, [])
  made.clock.advance(200)
  await until(() => bytes.closed, 'the timeout')
  t.same(bytes.closes, [{ why: FAILURES.connectTimeout, detail: undefined }])
  t.equal(made.stat('upstream_cx_connect_timeout'), 1)
  t.equal(made.stat('upstream_cx_connect_fail'), 1)
  t.equal(made.stat('upstream_cx_active'), 0)
})

t.test('max_connections is an overflow, by priority, and room comes back', async (t) => {
  const { options, peers } = await TRANSPORTS.plain(t)
  const made = await lab(t, { ...options, limits: { maxConnections: 1 } })
  const first = new Bytes(made)
  const second = new Bytes(made)
  t.equal(second.stream, undefined)
  t.same(second.closes, [{ why: FAILURES.overflow, detail: undefined }])
  t.equal(made.stat('upstream_cx_overflow'), 1)
  const important = new Bytes(made, 'high')
  await until(() => first.connects + important.connects === 2 && peers.length === 2, 'both')
  first.stream?.reset()
  const third = new Bytes(made)
  await until(() => third.connects === 1, 'the third')
  third.stream?.reset()
  important.stream?.reset()
})

t.test('the per-host limit holds for raw connections', async (t) => {
  const { options } = await TRANSPORTS.plain(t)
  const made = await lab(t, { ...options, cluster: { maxConnectionsPerHost: 1 } })
  const first = new Bytes(made)
  const second = new Bytes(made)
  t.equal(second.closes[0]?.why, FAILURES.overflow)
  await until(() => first.connects === 1, 'the first')
  first.stream?.reset()
})

t.test('a retired cluster lets its connections end by themselves', async (t) => {
  const { bytes, peer, lab } = await open(t, 'plain')
  lab.cluster.retire()
  let drained = false
  void lab.cluster.drained().then(() => {
    drained = true
  })
  bytes.stream?.write(Buffer.from('on'))
  await until(() => peer.text === 'on', 'bytes')
  t.equal(drained, false)
  peer.stream.end()
  bytes.stream?.end()
  await until(() => drained, 'the end')
  t.equal(bytes.closes.length, 1)
})

t.test('a cluster that is destroyed resets its connections, those in the making too', async (t) => {
  const { bytes, peer, lab } = await open(t, 'plain')
  const making = new Bytes(lab)
  lab.cluster.destroy()
  t.equal(bytes.closes[0]?.why, FAILURES.upstreamClosed)
  t.equal(making.closes[0]?.why, FAILURES.connectFailed)
  await until(() => peer.closed, 'the end')
  t.equal(peer.error, 'ECONNRESET')
  const late = new Bytes({ ...lab, host: () => ({}) as ReturnType<Lab['host']> })
  t.equal(late.stream, undefined)
  t.equal(late.closes[0]?.why, FAILURES.noHealthyHost)
})

/** Leases of two limits that have nothing here until `tell`, which has what lay unused in another process come here. */
class Elsewhere implements Leases {
  readonly local = new LocalLeases(new TestClock())
  readonly tokens = this.local.tokens.bind(this.local)
  readonly #key: string
  readonly #here = Promise.withResolvers<void>()
  #told = false

  constructor(key: string) {
    this.#key = key
  }

  tell(): void {
    this.#told = true
    this.#here.resolve()
  }

  slots(key: string, limit: number): SlotLease {
    const lease = this.local.slots(key, limit)
    if (key !== this.#key) return lease
    return Object.assign(new RelayedLease(lease), {
      ask: () => (this.#told ? undefined : this.#here.promise),
      tryAcquire: () => this.#told && lease.tryAcquire(),
    })
  }
}

t.test('a raw connection waits for room that other processes may have, of its host too', async (t) => {
  const { options } = await TRANSPORTS.plain(t)
  const { host } = await lab(t, options)
  for (const key of ['cluster.web.default.cx', `cluster.web.host.${(host() as Host).key}`]) {
    const leases = new Elsewhere(key)
    const made = await lab(t, { ...options, cluster: { maxConnectionsPerHost: 1 }, leases })
    const first = new Bytes(made)
    t.equal(first.closed, false, key)
    leases.tell()
    await until(() => first.connects === 1, 'the connection')
    const second = new Bytes(made)
    if (key.includes('host')) t.equal(second.closes[0]?.why, FAILURES.overflow)
    first.stream?.reset()
    second.stream?.reset()
    await until(() => made.stat('upstream_cx_active') === 0, 'the end')
    made.cluster.retire()
    t.equal(leases.local.size, 0, 'no room is held for good')
  }
})

t.test('a raw connection that has waited until the cluster was destroyed is not opened', async (t) => {
  const { options } = await TRANSPORTS.plain(t)
  const leases = new Elsewhere('cluster.web.default.cx')
  const made = await lab(t, { ...options, leases })
  const late = new Bytes(made)
  made.cluster.destroy()
  leases.tell()
  await settle()
  t.same(late.closes, [{ why: FAILURES.noHealthyHost, detail: undefined }])
  t.equal(made.stat('upstream_cx_total'), 0)
})
