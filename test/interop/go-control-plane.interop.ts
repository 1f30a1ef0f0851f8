import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'
import { Origin } from '../support/origin.ts'
import { type CertificateFolder, certificatesFor } from './certificates.ts'
import { GoControlPlane } from './control-plane.ts'
import { type RunningProxy, startEnvoy, startHeadgate } from './envoy/processes.ts'
import { needing, program } from './programs.ts'
import { folderFor, freePort } from './servers.ts'
import { Traffic } from './traffic.ts'

/**
 * A control plane on go-control-plane drives the gateway: both variants, plaintext and mutual TLS, under traffic. Real Envoy
 * goes through the same where it is here, which shows that the scenario asks for nothing of our own.
 */

t.setTimeout(600_000)

const NODE = 'node-1'
const LISTENER = 'envoy.config.listener.v3.Listener'
const ROUTES = 'envoy.config.route.v3.RouteConfiguration'
const CLUSTER = 'envoy.config.cluster.v3.Cluster'
const ENDPOINTS = 'envoy.config.endpoint.v3.ClusterLoadAssignment'
const SECRET = 'envoy.extensions.transport_sockets.tls.v3.Secret'
const HCM = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'
const ROUTER = 'envoy.extensions.filters.http.router.v3.Router'
const TLS = 'envoy.extensions.transport_sockets.tls.v3.'

const typed = (type: string, fields: object): object => ({ '@type': `type.googleapis.com/${type}`, ...fields })
const ADS = { ads: {}, resource_api_version: 'V3' }
const at = (port: number): object => ({ socket_address: { address: '127.0.0.1', port_value: port } })

function listener(name: string, port: number, extra: object = {}): object {
  const manager = typed(HCM, {
    stat_prefix: name,
    rds: { route_config_name: 'routes', config_source: ADS },
    http_filters: [{ name: 'envoy.filters.http.router', typed_config: typed(ROUTER, {}) }],
  })
  const chain = {
    filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: manager }],
    ...extra,
  }
  return typed(LISTENER, { name, address: at(port), filter_chains: [chain] })
}

function routes(...list: readonly object[]): object {
  return typed(ROUTES, { name: 'routes', virtual_hosts: [{ name: 'all', domains: ['*'], routes: list }] })
}

const toShop = { match: { prefix: '/' }, route: { cluster: 'shop' } }
const say = (path: string, text: string): object => ({
  match: { path },
  direct_response: { status: 200, body: { inline_string: text } },
})
const shop = typed(CLUSTER, {
  name: 'shop',
  type: 'EDS',
  connect_timeout: '2s',
  eds_cluster_config: { eds_config: ADS },
})

function endpoints(...ports: readonly number[]): object {
  const list = ports.map((port) => ({ endpoint: { address: at(port) } }))
  return typed(ENDPOINTS, { cluster_name: 'shop', endpoints: [{ lb_endpoints: list }] })
}

interface Channel {
  readonly api: 'GRPC' | 'DELTA_GRPC'
  readonly tls: CertificateFolder | undefined
}

async function bootstrap(planePort: number, { api, tls }: Channel): Promise<string> {
  const own = tls && (await tls.issue({ subject: 'CN=proxy', dns: ['proxy.test'] }))
  const secured = own && {
    transport_socket: {
      name: 'envoy.transport_sockets.tls',
      typed_config: typed(`${TLS}UpstreamTlsContext`, {
        sni: 'plane.test',
        common_tls_context: {
          tls_certificates: [{ certificate_chain: { filename: own.chain }, private_key: { filename: own.key } }],
          validation_context: { trusted_ca: { filename: tls.ca } },
        },
      }),
    },
  }
  return JSON.stringify({
    node: { id: NODE, cluster: 'test' },
    admin: { address: at(0) },
    dynamic_resources: {
      ads_config: {
        api_type: api,
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'plane' } }],
      },
      lds_config: ADS,
      cds_config: ADS,
    },
    static_resources: {
      clusters: [
        {
          name: 'plane',
          type: 'STATIC',
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': typed(
              'envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
              { explicit_http_config: { http2_protocol_options: {} } },
            ),
          },
          load_assignment: {
            cluster_name: 'plane',
            endpoints: [{ lb_endpoints: [{ endpoint: { address: at(planePort) } }] }],
          },
          ...secured,
        },
      ],
    },
  })
}

/** Origins that say who they are. */
async function origins(t: Test): Promise<{ readonly one: Origin; readonly two: Origin }> {
  const make = async (name: string): Promise<Origin> => {
    const origin = await Origin.start(async (_, reply) => {
      await reply.send({ body: name })
    })
    t.teardown(() => origin.close())
    return origin
  }
  return { one: await make('one'), two: await make('two') }
}

async function ask(port: number, path = '/'): Promise<string> {
  try {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } })
    return `${answer.status} ${await answer.text()}`
  } catch {
    return 'unreachable'
  }
}

/** The serial number of the certificate that a port shows; '' where no handshake succeeds. */
function serial(port: number, ca: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connectTls({ port, host: '127.0.0.1', servername: 'web.test', ca }, () => {
      resolve(socket.getPeerCertificate().serialNumber)
      socket.destroy()
    })
    socket.on('error', () => resolve(''))
  })
}

async function until(t: Test, what: string, look: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 15_000
  while (!(await look())) {
    if (Date.now() > end) {
      t.fail(`in vain: ${what}`)
      throw new Error(`waited in vain until ${what}`)
    }
    await sleep(20)
  }
  t.pass(what)
}

type StartProxy = (bootstrap: string, folder: string) => Promise<RunningProxy>

async function scenario(t: Test, file: string, channel: Channel, start: StartProxy): Promise<void> {
  const { one, two } = await origins(t)
  const folder = folderFor(t)
  const args: string[] = []
  if (channel.tls !== undefined) {
    const server = await channel.tls.issue({ subject: 'CN=plane', dns: ['plane.test'] })
    args.push('-cert', server.chain, '-key', server.key, '-ca', channel.tls.ca)
  }
  const plane = await GoControlPlane.start(t, file, args)
  const [web, other, secure] = [await freePort(), await freePort(), await freePort()]
  const first = [listener('web', web), routes(toShop), shop, endpoints(one.port)]
  await plane.snapshot(NODE, first, { version: '1' })

  const gateway = await start(await bootstrap(plane.port, channel), folder)
  t.teardown(() => gateway.stop())
  await until(t, 'the first snapshot serves', async () => (await ask(web)) === '200 one')
  for (const type of [LISTENER, ROUTES, CLUSTER, ENDPOINTS]) {
    t.equal((await plane.verdict(type, '1')).error, undefined, `${type} is taken`)
  }
  const traffic = new Traffic(web)
  t.teardown(() => traffic.stop())

  await plane.snapshot(NODE, [listener('web', web), routes(toShop), shop, endpoints(two.port)], {
    version: '1',
    versions: { [ENDPOINTS]: '2' },
  })
  await until(t, 'endpoints alone have changed', async () => (await ask(web)) === '200 two')
  t.equal((await plane.verdict(ENDPOINTS, '2')).error, undefined)

  const wrong = typed(ROUTES, { name: 'routes', virtual_hosts: [{ name: 'all', domains: [], routes: [toShop] }] })
  await plane.snapshot(NODE, [listener('web', web), wrong, shop, endpoints(two.port)], {
    version: '1',
    versions: { [ENDPOINTS]: '2', [ROUTES]: '3' },
  })
  const refusal = await plane.verdict(ROUTES, '3')
  t.match(refusal.error, /domains/i, 'a wrong route table is refused, with the field')
  t.equal(await ask(web), '200 two', 'and the old one serves')
  if (gateway.kind === 'headgate') {
    t.match(refusal.error, /virtual_hosts\[0\]\.domains/, 'and its place')
    const dump = await (await fetch(`${gateway.admin}/config_dump`)).text()
    t.match(dump, /"error_state"/, 'and the config dump has the reason')
  }

  const many = Array.from({ length: 1000 }, (_, i) => say(`/page-${i}`, `page ${i}`))
  await plane.snapshot(NODE, [listener('web', web), routes(...many, toShop), shop, endpoints(one.port, two.port)], {
    version: '4',
    versions: { [LISTENER]: '1', [CLUSTER]: '1' },
  })
  await until(t, 'the next one is taken', async () => (await ask(web, '/page-999')) === '200 page 999')
  t.equal((await plane.verdict(ROUTES, '4')).error, undefined)

  // A second listener with a certificate by SDS, which is then exchanged.
  const certificates = channel.tls ?? (await certificatesFor(t))
  const pair = async (): Promise<object> => {
    const { chain, key } = await certificates.issue({ subject: 'CN=web', dns: ['web.test'] })
    const text = (path: string): object => ({ inline_string: readFileSync(path, 'utf8') })
    return typed(SECRET, {
      name: 'web-cert',
      tls_certificate: { certificate_chain: text(chain), private_key: text(key) },
    })
  }
  const socket = {
    transport_socket: {
      name: 'envoy.transport_sockets.tls',
      typed_config: typed(`${TLS}DownstreamTlsContext`, {
        common_tls_context: { tls_certificate_sds_secret_configs: [{ name: 'web-cert', sds_config: ADS }] },
      }),
    },
  }
  const ca = readFileSync(certificates.ca, 'utf8')
  const rest = [routes(toShop), shop, endpoints(one.port)]
  const two1 = [listener('web', web), listener('secure', secure, socket), ...rest]
  await plane.snapshot(NODE, [...two1, await pair()], { version: '5' })
  await until(t, 'a listener with a delivered certificate serves', async () => (await serial(secure, ca)) !== '')
  const before = await serial(secure, ca)
  await plane.snapshot(NODE, [...two1, await pair()], { version: '5', versions: { [SECRET]: '6' } })
  await until(t, 'the certificate has been exchanged', async () => {
    const now = await serial(secure, ca)
    return now !== '' && now !== before
  })

  await plane.snapshot(NODE, [listener('web', web), listener('secure', other), ...rest], { version: '7' })
  await until(t, 'a listener has moved', async () => (await ask(other)) === '200 one')
  await until(t, 'and its old port is closed', async () => (await serial(secure, ca)) === '')

  await plane.stop()
  await until(t, 'the gateway notices that its control plane is gone', async () => {
    const stats = await (await fetch(`${gateway.admin}/stats`)).text()
    return /^control_plane\.connected_state: 0$/m.test(stats)
  })
  t.equal(await ask(web), '200 one', 'without a control plane everything serves on')
  await plane.snapshot(NODE, [listener('web', web), ...rest.slice(0, 2), endpoints(two.port)], { version: '8' })
  await plane.restart()
  await until(t, 'when it is back, what changed meanwhile is in force', async () => (await ask(web)) === '200 two')
  await until(t, 'and what is no more has gone', async () => (await ask(other)) === 'unreachable')

  const { requests, failures } = await traffic.stop()
  t.ok(requests > 100, `${requests} requests meanwhile`)
  t.same(failures, [], 'none of them failed')
  const complaints = gateway
    .stderr()
    .split('\n')
    .filter((line) => /"level":(?:50|60)\b/.test(line))
  t.same(complaints, [], 'no process has ended or complained')
}

for (const api of ['GRPC', 'DELTA_GRPC'] as const) {
  for (const secured of [false, true]) {
    const name = `${api}${secured ? ' with mutual TLS' : ''}`
    const channel = async (t: Test): Promise<Channel> => ({ api, tls: secured ? await certificatesFor(t) : undefined })
    t.test(`go-control-plane drives the gateway, ${name}`, needing('go-control-plane'), async (t) =>
      scenario(t, program('go-control-plane'), await channel(t), startHeadgate),
    )
    t.test(`go-control-plane drives envoy, ${name}`, needing('go-control-plane', 'envoy'), async (t) =>
      scenario(t, program('go-control-plane'), await channel(t), (bootstrap, folder) =>
        startEnvoy(program('envoy'), bootstrap, folder),
      ),
    )
  }
}
