import { connect as netConnect } from 'node:net'
import t from 'tap'
import { bootstrap, type Fields } from '../end-to-end/bootstrap.ts'
import { TestGateway } from '../support/gateway.ts'
import { Origin } from '../support/origin.ts'
import { ask, HboneServer, joinTo, Mesh, spiffe } from './peers.ts'

/** An HBONE client in Envoy's form: an internal listener whose tcp_proxy tunnels over HTTP/2 with mutual TLS. */

const TYPE = 'type.googleapis.com/envoy.extensions'

function tcpListener(name: string, where: Fields, proxy: Fields): Fields {
  const typed_config = {
    '@type': `${TYPE}.filters.network.tcp_proxy.v3.TcpProxy`,
    stat_prefix: name,
    ...proxy,
  }
  return { name, ...where, filter_chains: [{ filters: [{ name: 'tcp', typed_config }] }] }
}

t.test('bytes go through an internal listener into a tunnel, with the mesh certificate', async (t) => {
  const mesh = await Mesh.create()
  const server = await HboneServer.start(t, mesh, await mesh.workload('server'))
  const origin = await Origin.start((request, reply) => void reply.send({ body: `got ${request.target}` }))
  server.serve = joinTo(origin.port)
  const own = await mesh.workload('client')
  const address = (port: number): Fields => ({
    address: { socket_address: { address: '127.0.0.1', port_value: port } },
  })
  const endpointOf = (at: Fields): Fields => ({ endpoints: [{ lb_endpoints: [{ endpoint: at }] }] })
  const config = bootstrap({ listeners: [], clusters: [] }) as { static_resources: object }
  config.static_resources = {
    listeners: [
      tcpListener('front', address(0), { cluster: 'outbound' }),
      tcpListener(
        'tunnel',
        { internal_listener: {} },
        {
          cluster: 'hbone',
          tunneling_config: { hostname: '10.0.0.9:8080' },
        },
      ),
    ],
    clusters: [
      {
        name: 'outbound',
        load_assignment: {
          cluster_name: 'outbound',
          ...endpointOf({ address: { envoy_internal_address: { server_listener_name: 'tunnel' } } }),
        },
        transport_socket: {
          name: 'internal',
          typed_config: {
            '@type': `${TYPE}.transport_sockets.internal_upstream.v3.InternalUpstreamTransport`,
            transport_socket: {
              name: 'raw',
              typed_config: { '@type': `${TYPE}.transport_sockets.raw_buffer.v3.RawBuffer` },
            },
          },
        },
      },
      {
        name: 'hbone',
        load_assignment: { cluster_name: 'hbone', ...endpointOf(address(server.port)) },
        typed_extension_protocol_options: {
          'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
            '@type': `${TYPE}.upstreams.http.v3.HttpProtocolOptions`,
            explicit_http_config: { http2_protocol_options: {} },
          },
        },
        transport_socket: {
          name: 'tls',
          typed_config: {
            '@type': `${TYPE}.transport_sockets.tls.v3.UpstreamTlsContext`,
            common_tls_context: {
              alpn_protocols: ['h2'],
              tls_certificates: [
                { certificate_chain: { inline_string: own.chain }, private_key: { inline_string: own.key } },
              ],
              validation_context: {
                trusted_ca: { inline_string: mesh.authority.pem },
                match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: spiffe('server') } }],
              },
            },
          },
        },
      },
    ],
  }
  const gateway = await TestGateway.start(config)
  t.teardown(async () => {
    await gateway.close()
    await origin.close()
  })
  const sockets = [1, 2].map(() => netConnect({ port: gateway.port('front'), host: '127.0.0.1', allowHalfOpen: true }))
  for (const [i, socket] of sockets.entries()) {
    t.match(await ask(socket, `GET /${i} HTTP/1.1\r\nhost: a\r\n\r\n`, `got /${i}`), /^HTTP\/1\.1 200 /)
  }
  t.same(
    server.seen.map(({ authority }) => authority),
    ['10.0.0.9:8080', '10.0.0.9:8080'],
  )
  t.equal(new Set(server.seen.map(({ session }) => session)).size, 1)
  t.match(server.seen[0].peer, spiffe('client'))
  for (const socket of sockets) socket.end()
  await gateway.until(() => gateway.stat('cluster.outbound.upstream_cx_active') === 0, 'end of the connections')
})
