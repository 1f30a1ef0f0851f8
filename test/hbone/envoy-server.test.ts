import { once } from 'node:events'
import { connect as netConnect } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect as tlsConnect } from 'node:tls'
import t, { type Test } from 'tap'
import { bootstrap, cluster, type Fields } from '../end-to-end/bootstrap.ts'
import { settle } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { Origin } from '../support/origin.ts'
import { ask, HboneClient, Mesh, spiffe } from './peers.ts'

/** An HBONE server in Envoy's form: mTLS, a route that ends CONNECT, and internal listeners behind it. */

const TLS = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext'

/** The transport socket of the tunnel: certificates on both sides, of this trust domain. */
async function mutual(mesh: Mesh): Promise<Fields> {
  const own = await mesh.workload('gateway')
  return {
    transport_socket: {
      name: 'tls',
      typed_config: {
        '@type': TLS,
        require_client_certificate: true,
        common_tls_context: {
          alpn_protocols: ['h2'],
          tls_certificates: [
            { certificate_chain: { inline_string: own.chain }, private_key: { inline_string: own.key } },
          ],
          validation_context: {
            trusted_ca: { inline_string: mesh.authority.pem },
            match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { prefix: spiffe('').slice(0, -11) } }],
          },
        },
      },
    },
  }
}

function internal(name: string, listener: string): Fields {
  const address = { envoy_internal_address: { server_listener_name: listener } }
  return {
    name,
    type: 'STATIC',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
  }
}

function tunnelTo(name: string): Fields {
  return { cluster: name, upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }] }
}

interface Lab {
  readonly gateway: TestGateway
  readonly origin: Origin
  readonly mesh: Mesh
  readonly port: number
}

async function lab(t: Test): Promise<Lab> {
  const mesh = await Mesh.create()
  const origin = await Origin.start((request, reply) => void reply.send({ body: `got ${request.target}` }))
  const inner = await mesh.authority.issue({ dns: ['inner.test'] })
  const config = bootstrap({
    listeners: [
      {
        name: 'hbone',
        fields: {},
        hcm: {
          stat_prefix: 'hbone',
          upgrade_configs: [{ upgrade_type: 'CONNECT' }],
          http2_protocol_options: { allow_connect: true },
        },
        routes: [
          {
            match: {
              connect_matcher: {},
              headers: [{ name: ':authority', string_match: { exact: '10.0.0.9:443' } }],
            },
            route: tunnelTo('secure'),
          },
          {
            match: { connect_matcher: {}, headers: [{ name: ':authority', string_match: { prefix: '10.0.0.9:' } }] },
            route: tunnelTo('inner'),
          },
          {
            match: { connect_matcher: {}, headers: [{ name: ':authority', string_match: { prefix: '10.66.' } }] },
            direct_response: { status: 403 },
          },
        ],
      },
      { name: 'inside', fields: { address: undefined, internal_listener: {} }, hcm: { stat_prefix: 'inside' } },
      { name: 'inside-tls', fields: { address: undefined, internal_listener: {} }, hcm: { stat_prefix: 'tls' } },
    ],
    clusters: [cluster('origin', origin.port), internal('inner', 'inside'), internal('secure', 'inside-tls')],
  }) as { static_resources: { listeners: { filter_chains: Fields[] }[] } }
  const { listeners } = config.static_resources
  Object.assign(listeners[0].filter_chains[0], await mutual(mesh))
  Object.assign(listeners[2].filter_chains[0], {
    transport_socket: {
      name: 'tls',
      typed_config: {
        '@type': TLS,
        common_tls_context: {
          tls_certificates: [
            { certificate_chain: { inline_string: inner.chain }, private_key: { inline_string: inner.key } },
          ],
        },
      },
    },
  })
  const gateway = await TestGateway.start(config)
  t.teardown(async () => {
    await gateway.close()
    await origin.close()
  })
  return { gateway, origin, mesh, port: gateway.port('hbone') }
}

const GET = 'GET /inner HTTP/1.1\r\nhost: any\r\n\r\n'

t.test('many tunnels on one connection, each an HTTP connection to a listener within', async (t) => {
  const { gateway, mesh, port, origin } = await lab(t)
  const client = await HboneClient.open(t, port, mesh, await mesh.workload('client'))
  const tunnels = await Promise.all([1, 2, 3].map(() => client.tunnel('10.0.0.9:80')))
  t.same(
    tunnels.map(({ status }) => status),
    [200, 200, 200],
  )
  for (const { stream } of tunnels) {
    t.match(await ask(stream, GET, 'got /inner'), /^HTTP\/1\.1 200 OK\r\n/)
    t.match(await ask(stream, GET, 'got /inner'), /^HTTP\/1\.1 200 OK\r\n/)
  }
  t.equal(gateway.stat('http.inside.downstream_cx_total'), 3)
  t.equal(origin.requests.length, 6)
  for (const { stream } of tunnels) stream.end()
  await gateway.until(() => gateway.stat('http.inside.downstream_cx_active') === 0, 'end of the tunnels')
  await gateway.until(() => gateway.stat('http.hbone.downstream_rq_active') === 0, 'end of the streams')
})

t.test('TLS within the tunnel is a handshake of its own', async (t) => {
  const { gateway, mesh, port } = await lab(t)
  const client = await HboneClient.open(t, port, mesh, await mesh.workload('client'))
  const { stream } = await client.tunnel('10.0.0.9:443')
  const secured = tlsConnect({ socket: stream as unknown as Duplex, ca: mesh.authority.pem, servername: 'inner.test' })
  await once(secured, 'secureConnect')
  t.match(await ask(secured, GET, 'got /inner'), /^HTTP\/1\.1 200 OK\r\n/)
  t.equal(gateway.stat('listener.inside-tls.ssl.handshake'), 1)
  secured.destroy()
  await gateway.until(() => gateway.stat('http.tls.downstream_cx_active') === 0, 'end of the connection within')
})

t.test('unknown targets are 404, forbidden ones 403, other methods go nowhere', async (t) => {
  const { mesh, port } = await lab(t)
  const client = await HboneClient.open(t, port, mesh, await mesh.workload('client'))
  t.equal((await client.tunnel('10.1.1.1:80')).status, 404)
  t.equal((await client.tunnel('10.66.1.1:80')).status, 403)
  const plain = client.session.request({ ':path': '/' })
  t.equal((await once(plain, 'response'))[0][':status'], 404)
})

t.test('no certificate, another trust domain and plaintext are refused, and the listener lives', async (t) => {
  const { gateway, mesh, port } = await lab(t)
  await t.rejects(HboneClient.open(t, port, mesh, undefined))
  await t.rejects(HboneClient.open(t, port, mesh, await mesh.workload('client', 'elsewhere.test')))
  const prefix = `listener.127.0.0.1_0.ssl.`
  t.equal(gateway.stat(`${prefix}fail_verify_no_cert`), 1)
  t.equal(gateway.stat(`${prefix}fail_verify_san`), 1)
  const plain = netConnect(port, '127.0.0.1')
  plain.write('CONNECT 10.0.0.9:80 HTTP/1.1\r\nhost: 10.0.0.9:80\r\n\r\n')
  let got = ''
  plain.on('data', (chunk: Buffer) => {
    got += chunk.toString('latin1')
  })
  plain.on('error', () => {})
  await once(plain, 'close')
  t.notMatch(got, /^HTTP\/1\.1 2/, 'no tunnel in plaintext')
  const client = await HboneClient.open(t, port, mesh, await mesh.workload('client'))
  t.equal((await client.tunnel('10.0.0.9:80')).status, 200)
  t.equal(gateway.stat('http.inside.downstream_cx_total'), 1)
})

t.test('what a client resets, the listener within hears of, and the other way round', async (t) => {
  const { gateway, origin, mesh, port } = await lab(t)
  const client = await HboneClient.open(t, port, mesh, await mesh.workload('client'))
  const { stream } = await client.tunnel('10.0.0.9:80')
  await ask(stream, GET, 'got /inner')
  client.session.destroy()
  await gateway.until(() => gateway.stat('http.inside.downstream_cx_active') === 0, 'end of the connection within')
  const again = await HboneClient.open(t, port, mesh, await mesh.workload('client'))
  const { stream: other } = await again.tunnel('10.0.0.9:80')
  const ended = once(other, 'end')
  other.resume()
  other.write('NO HTTP\r\n\r\n')
  await ended
  await settle()
  t.equal(origin.requests.length, 1)
})
