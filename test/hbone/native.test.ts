import { once } from 'node:events'
import { connect as netConnect } from 'node:net'
import t, { type Test } from 'tap'
import {
  ConfigRefused,
  type ConnectionInfo,
  createGateway,
  type Gateway,
  type GatewayOptions,
  type HttpFilter,
  type NativeConfig,
} from '../../lib/cli/library.ts'
import type { MeshMaterial } from '../../lib/tls/mesh.ts'
import type { Issued } from '../support/certificates.ts'
import { Origin } from '../support/origin.ts'
import { WireClient } from '../support/wire.ts'
import { until } from '../upstream/http2-lab.ts'
import { ask, HboneClient, Mesh, spiffe, TRUST_DOMAIN } from './peers.ts'

/** HBONE in the native form: a server, a cluster of tunnels, and both together. */

type Server = NonNullable<NativeConfig['hbone']>[number]

const GET = 'GET /inner HTTP/1.1\r\nhost: any\r\n\r\n'
const silent = { debug() {}, info() {}, warn() {}, error() {} }

function identity(mesh: Mesh, issued: Issued): Exclude<Server['identity'], string> {
  return {
    certificate: { certificateChain: issued.chain, privateKey: issued.key },
    trustedCa: mesh.authority.pem,
  }
}

async function run(t: Test, config: NativeConfig, options: GatewayOptions = {}): Promise<Gateway> {
  const gateway = createGateway(config, { log: silent, ...options })
  t.teardown(() => gateway.close({ drainMs: 0 }))
  await gateway.start()
  return gateway
}

function portOf(gateway: Gateway, name: string): number {
  const [address] = gateway.addresses[name]
  if (address.kind !== 'ip') throw new Error('no port')
  return address.port
}

function stat(gateway: Gateway, name: string): number {
  const { counters, gauges } = gateway.stats()
  return [...counters, ...gauges].find(([known]) => known === name)?.[1] ?? Number.NaN
}

interface Rig {
  readonly mesh: Mesh
  readonly origin: Origin
  readonly server: Gateway
  readonly port: number
}

async function rig(t: Test): Promise<Rig> {
  const mesh = await Mesh.create()
  const origin = await Origin.start((request, reply) => void reply.send({ body: `got ${request.target}` }))
  t.teardown(() => origin.close())
  const server = await run(t, {
    listeners: [],
    clusters: [{ name: 'app', endpoints: [`127.0.0.1:${origin.port}`] }],
    hbone: [
      {
        address: '127.0.0.1:0',
        identity: identity(mesh, await mesh.workload('server')),
        trustDomains: [TRUST_DOMAIN],
        targets: [
          { ranges: ['10.66.0.0/16'], forbidden: true },
          { ranges: ['127.0.0.0/8', '10.0.0.0/8', 'fd00::/8'], ports: [80, origin.port], cluster: 'app' },
          { hosts: ['app.demo', '*.app.demo'], cluster: 'app' },
        ],
      },
    ],
  })
  return { mesh, origin, server, port: portOf(server, 'hbone') }
}

t.test('which targets are known, which are forbidden, and that there is nothing but CONNECT', async (t) => {
  const { mesh, port, server } = await rig(t)
  const client = await HboneClient.open(t, port, mesh, await mesh.workload('client'))
  const statusOf = async (target: string): Promise<number> => (await client.tunnel(target)).status
  for (const target of ['10.0.0.9:80', '[fd00::1]:80', '[::ffff:10.1.1.1]:80', 'app.demo:9', 'a.APP.demo:9']) {
    t.equal(await statusOf(target), 200, target)
  }
  for (const target of ['10.0.0.9:81', '192.0.2.1:80', 'demo:1', 'xapp.demo:1', '[fe80::1]:80']) {
    t.equal(await statusOf(target), 404, target)
  }
  for (const target of ['10.66.3.4:80', '[::ffff:10.66.3.4]:80', '[0:0:0:0:0:ffff:a42:304]:80']) {
    t.equal(await statusOf(target), 403, target)
  }
  for (const target of ['app.demo:0', '.app.demo:1', '10.0.0.999:80', '0x0a.66.3.4:80']) {
    t.equal(await statusOf(target), 400, target)
  }
  const plain = client.session.request({ ':path': '/' })
  t.equal((await once(plain, 'response'))[0][':status'], 405)
  plain.close()
  const settings = client.session.remoteSettings
  t.match(settings, { maxConcurrentStreams: 200, initialWindowSize: 4 * 1024 * 1024, maxFrameSize: 1024 * 1024 })
  const { stream } = await client.tunnel('10.0.0.9:80')
  t.match(await ask(stream, GET, 'got /inner'), /^HTTP\/1\.1 200 /)
  t.equal(stat(server, 'cluster.app.upstream_cx_total'), 6)
})

t.test('no certificate, another trust domain, plaintext and silence: refused, and the server lives', async (t) => {
  const { mesh, port, origin } = await rig(t)
  await t.rejects(HboneClient.open(t, port, mesh, undefined))
  await t.rejects(HboneClient.open(t, port, mesh, await mesh.workload('client', 'elsewhere.test')))
  await t.rejects(HboneClient.open(t, port, mesh, await (await Mesh.create()).workload('client')))
  for (const uri of [
    [`spiffe://${TRUST_DOMAIN}.evil/ns/demo/sa/client`],
    [`spiffe://${TRUST_DOMAIN}`],
    [`spiffe://${TRUST_DOMAIN.toUpperCase()}/ns/demo/sa/client`],
    [`SPIFFE://${TRUST_DOMAIN}/ns/demo/sa/client`],
    [`spiffe://${TRUST_DOMAIN}:1/ns/demo/sa/client`],
    [`http://a/?spiffe://${TRUST_DOMAIN}/ns/demo/sa/client`],
    // Which of two is meant nobody can tell.
    ['spiffe://elsewhere.test/ns/demo/sa/admin', spiffe('client')],
    [spiffe('client'), spiffe('admin')],
  ]) {
    await t.rejects(HboneClient.open(t, port, mesh, await mesh.authority.issue({ uri })), uri.join())
  }
  await t.rejects(HboneClient.open(t, port, mesh, await mesh.authority.issue({ dns: [spiffe('client').slice(9)] })))
  const plain = netConnect(port, '127.0.0.1')
  plain.on('error', () => {})
  plain.resume()
  plain.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  await once(plain, 'close')
  t.equal(origin.requests.length, 0)
  const client = await HboneClient.open(t, port, mesh, await mesh.workload('client'))
  t.equal((await client.tunnel('10.0.0.9:80')).status, 200)
})

async function front(
  t: Test,
  mesh: Mesh,
  port: number,
  endpoint: string,
  options: GatewayOptions = {},
): Promise<Gateway> {
  const config: NativeConfig = {
    listeners: [
      {
        name: 'front',
        address: '127.0.0.1:0',
        http: { routes: [{ match: {}, action: { kind: 'route', cluster: 'app' } }] },
      },
    ],
    clusters: [
      {
        name: 'app',
        endpoints: [endpoint],
        hbone: {
          identity: options.workload === undefined ? identity(mesh, await mesh.workload('client')) : 'workload',
          identities: [spiffe('server')],
          port,
          headers: { baggage: 'k8s.namespace.name=demo' },
        },
      },
    ],
  }
  return run(t, config, options)
}

t.test('two gateways: a cluster of tunnels on one side, the server on the other', async (t) => {
  const { mesh, port, origin, server } = await rig(t)
  const client = await front(t, mesh, port, `127.0.0.1:${origin.port}`)
  const wires = new WireClient()
  t.teardown(() => wires.closeAll())
  for (let i = 0; i < 3; i++) {
    const wire = await wires.connect(portOf(client, 'front'))
    const response = await wire.exchange(`GET /${i} HTTP/1.1\r\nhost: a\r\n\r\n`)
    t.equal(response.status, 200)
    t.equal(response.text(), `got /${i}`)
  }
  t.equal(stat(client, 'cluster.app.upstream_cx_total'), 1)
  t.equal(stat(client, 'cluster.app.hbone.upstream_cx_total'), 1)
  t.equal(stat(server, 'http.hbone.downstream_rq_total'), 1)
})

t.test('an endpoint that the server does not lead to is 503', async (t) => {
  const { mesh, port } = await rig(t)
  const client = await front(t, mesh, port, '127.0.0.1:1')
  const wires = new WireClient()
  t.teardown(() => wires.closeAll())
  const wire = await wires.connect(portOf(client, 'front'))
  const response = await wire.exchange('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
  t.equal(response.status, 503)
  t.match(response.text(), /remote connection failure/)
})

t.test('a renewed workload certificate is taken over without touching what is open', async (t) => {
  const { mesh, port, origin } = await rig(t)
  const material = (issued: Issued): MeshMaterial => ({
    certificateChain: issued.chain,
    privateKey: issued.key,
    trustedCa: mesh.authority.pem,
  })
  let renew = (_: MeshMaterial): void => {}
  const workload = {
    material: material(await mesh.workload('stranger', 'elsewhere.test')),
    onRenewed: (listener: (next: MeshMaterial) => void) => {
      renew = listener
      return () => {}
    },
  }
  const client = await front(t, mesh, port, `127.0.0.1:${origin.port}`, { workload })
  const wires = new WireClient()
  t.teardown(() => wires.closeAll())
  const wire = await wires.connect(portOf(client, 'front'))
  const get = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n'
  t.equal((await wire.exchange(get)).status, 503, 'the server lets no stranger in')
  renew(material(await mesh.workload('client')))
  let status = 0
  await until(() => {
    void wires
    return stat(client, 'cluster.app.membership_total') === 1
  }, 'the cluster')
  for (let i = 0; i < 50 && status !== 200; i++) status = (await wire.exchange(get)).status
  t.equal(status, 200)
  t.equal(stat(client, 'listener.127.0.0.1_0.downstream_cx_total'), 1, 'the client stayed connected')
})

t.test(
  'a renewed certificate reaches named transports and default chains, also behind one that was no good',
  async (t) => {
    const { mesh, port, origin } = await rig(t)
    const material = (issued: Issued, trustedCa = mesh.authority.pem): MeshMaterial => ({
      certificateChain: issued.chain,
      privateKey: issued.key,
      trustedCa,
    })
    let renew = (_: MeshMaterial): void => {}
    const workload = {
      material: material(await mesh.workload('stranger', 'elsewhere.test')),
      onRenewed: (listener: (next: MeshMaterial) => void) => {
        renew = listener
        return () => {}
      },
    }
    const problems: string[] = []
    const log = { ...silent, error: (message: string) => void problems.push(message) }
    const hbone = { identity: 'workload', identities: [spiffe('server')], port } as const
    const client = await run(
      t,
      {
        listeners: [
          {
            name: 'front',
            address: '127.0.0.1:0',
            http: { routes: [{ match: {}, action: { kind: 'route', cluster: 'app' } }] },
          },
        ],
        clusters: [
          {
            name: 'app',
            endpoints: [{ address: `127.0.0.1:${origin.port}`, transport: 'mesh' }],
            transports: { mesh: { hbone } },
          },
        ],
      },
      { workload, log },
    )
    const wires = new WireClient()
    t.teardown(() => wires.closeAll())
    const wire = await wires.connect(portOf(client, 'front'))
    const get = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n'
    t.equal((await wire.exchange(get)).status, 503)
    const good = material(await mesh.workload('client'))
    for (const bad of [
      { ...good, trustedCa: 'no authorities' },
      { ...good, privateKey: 'no key' },
      { ...good, privateKey: workload.material.privateKey },
      { ...good, certificateChain: '' },
    ]) {
      renew(bad)
      t.equal((await wire.exchange(get)).status, 503)
    }
    t.equal(problems.length, 4)
    renew(good)
    let status = 0
    for (let i = 0; i < 50 && status !== 200; i++) status = (await wire.exchange(get)).status
    t.equal(status, 200)
  },
)

t.test('a tunnel to an internal listener: who the client is, where it wanted to go, and what it said', async (t) => {
  const mesh = await Mesh.create()
  const seen: ConnectionInfo[] = []
  const look: HttpFilter = {
    onRequestHeaders: (stream) => {
      seen.push(stream.connection)
      return stream.reply({ status: 200, body: 'inside', details: 'test' })
    },
  }
  const gateway = await run(t, {
    listeners: [
      {
        name: 'inside',
        internal: true,
        http: { filters: [{ name: 'look', filter: look }], routes: [{ match: {}, action: { kind: 'none' } }] },
      },
    ],
    hbone: [
      {
        address: '127.0.0.1:0',
        identity: identity(mesh, await mesh.workload('server')),
        trustDomains: [TRUST_DOMAIN],
        targets: [{ ports: [80], listener: 'inside' }],
      },
    ],
  })
  const client = await HboneClient.open(t, portOf(gateway, 'hbone'), mesh, await mesh.workload('client'))
  const headers = { baggage: 'k8s.cluster.name=c1,service.name=a%20b;x=y,bad', 'x-forwarded-network': 'n1' }
  const { stream } = await client.tunnel('10.0.0.9:80', headers)
  await ask(stream, GET, 'inside')
  const [connection] = seen
  t.match(connection, { kind: 'internal', listenerName: 'inside', localAddress: '10.0.0.9', localPort: 80 })
  t.equal(connection.remoteAddress, '127.0.0.1')
  t.equal(connection.tls, undefined, 'what is spoken within is plaintext')
  t.same(connection.state.tunnelPeer?.uriSans, [spiffe('client')])
  t.same(connection.state.metadata('hbone'), {
    authority: '10.0.0.9:80',
    baggage: { 'k8s.cluster.name': 'c1', 'service.name': 'a b' },
    network: 'n1',
  })
})

t.test('mistakes are refused by name', async (t) => {
  const mesh = await Mesh.create()
  const own = identity(mesh, await mesh.workload('server'))
  const server: Server = {
    address: '127.0.0.1:0',
    identity: own,
    trustDomains: ['a'],
    targets: [{ cluster: 'x' }],
  }
  const mistakes = (part: object, hbone?: object): readonly string[] => {
    try {
      createGateway({
        listeners: [],
        clusters: [{ name: 'x', endpoints: ['127.0.0.1:1'], ...(hbone && { hbone }) }],
        hbone: [{ ...server, ...part }],
      } as NativeConfig)
      return []
    } catch (error) {
      if (!(error instanceof ConfigRefused)) throw error
      return error.errors.map(({ path, message }) => `${path}: ${message}`)
    }
  }
  t.same(mistakes({}), [])
  t.match(mistakes({ identity: 'workload' }), [
    /^hbone\[0\]\.identity: the gateway was made without the option workload/,
  ])
  t.match(mistakes({ trustDomains: [] }), [/^hbone\[0\]\.trustDomains: /])
  t.match(mistakes({ targets: [{ ports: [1] }] }), [/^hbone\[0\]\.targets\[0\]/])
  t.match(mistakes({ targets: [{ cluster: 'x', forbidden: true }] }), [/^hbone\[0\]\.targets\[0\]/])
  t.match(mistakes({ targets: [{ cluster: 'nowhere' }] }), [/unknown cluster "nowhere"/])
  for (const domain of ['spiffe://a', 'a/', 'A', 'a:1', '*']) {
    t.match(mistakes({ trustDomains: [domain] }), [/^hbone\[0\]\.trustDomains\[0\]: ".*" is no name of a trust domain/])
  }
  for (const host of ['a.b:80', '*', 'a.*', '*b', '10.1', '10.0.0.0/8', 'a..b', '[a]']) {
    const [mistake] = mistakes({ targets: [{ cluster: 'x' }, { hosts: ['a', host], forbidden: true }] })
    t.match(mistake, /^hbone\[0\]\.targets\[1\]\.hosts\[1\]: ".*" is neither a name/, host)
  }
  t.same(mistakes({ targets: [{ hosts: ['[fd00::1]', 'FD00:0::2', '*.a', 'B.c.'], cluster: 'x' }] }), [])
  const client = { identity: own, identities: ['spiffe://a/b'] }
  for (const bad of ['10.0.0.1', 'spiffe://A/b', 'spiffe://a', 'spiffe://a/b/', 'spiffe://a/../b', 'SPIFFE://a/b']) {
    t.match(mistakes({}, { ...client, identities: ['spiffe://a/b', bad] }), [
      /^clusters\[0\]\.hbone\.identities\[1\]: ".*" is no SPIFFE ID/,
    ])
  }
  for (const headers of [{ ':path': '/' }, { 'a b': '' }, { 'x-a': 'b\r\nc: d' }, { Host: 'a' }, { connection: 'x' }]) {
    t.match(mistakes({}, { ...client, headers }), [/^clusters\[0\]\.hbone\.headers/], JSON.stringify(headers))
  }
  t.same(mistakes({}, client), [])
  t.match(mistakes({}, { ...client, identities: [] }), [/^clusters\[0\]\.hbone\.identities: /])
  t.match(mistakes({}, { ...client, identity: 'workload' }), [
    /^clusters\[0\]\.hbone\.identity: the gateway was made without/,
  ])
  t.match(mistakes({}, { ...client, identity: { ...own, trustedCa: 'none' } }), [/trustedCa/])
})
