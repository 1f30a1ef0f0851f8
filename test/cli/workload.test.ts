import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect } from 'node:tls'
import t, { type Test } from 'tap'
import { workloadOf, writeEach } from '../../lib/cli/workload.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { MeshMaterial } from '../../lib/tls/mesh.ts'
import { writeCertificate } from '../../lib/workload/certificate-directory.ts'
import { GatewayProcess } from '../attacks/gateway-process.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { ControlPlane, XDS } from '../support/control-plane.ts'
import { IstioCa } from '../support/istio-ca.ts'

/** The reference binary as a workload of a mesh: with a certificate that it gets itself, or that an agent hands it by SDS. */

t.setTimeout(120_000)

const TYPE = 'type.googleapis.com/envoy.extensions'
const ID = 'spiffe://td.test/ns/demo/sa/gateway'

/** One listener that speaks TLS and answers 200. */
function listener(context: JsonObject): JsonObject {
  const http = {
    '@type': `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: 'web',
    route_config: {
      virtual_hosts: [
        { name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, direct_response: { status: 200 } }] },
      ],
    },
    http_filters: [{ name: 'router', typed_config: { '@type': `${TYPE}.filters.http.router.v3.Router` } }],
  }
  const tls = {
    '@type': `${TYPE}.transport_sockets.tls.v3.DownstreamTlsContext`,
    require_client_certificate: true,
    common_tls_context: context,
  }
  return {
    name: 'web',
    address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    filter_chains: [
      { filters: [{ name: 'http', typed_config: http }], transport_socket: { name: 'tls', typed_config: tls } },
    ],
  }
}

/** What the gateway shows and answers to one who shows this. */
async function ask(
  port: number,
  client: Issued,
  ca: string,
): Promise<{ name: string; serial: string; status: string }> {
  const options: ConnectionOptions = { port, host: '127.0.0.1', cert: client.chain, key: client.key, ca }
  const socket = connect({ ...options, checkServerIdentity: () => undefined })
  await once(socket, 'secureConnect')
  const { subjectaltname = '', serialNumber } = socket.getPeerCertificate()
  socket.write('GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')
  let answer = ''
  for await (const chunk of socket) answer += chunk
  return { name: subjectaltname, serial: serialNumber, status: answer.slice(9, 12) }
}

async function until(done: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 300; i++) {
    if (await done()) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error('it did not come about')
}

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'hg-workload-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

t.test('it gets its certificate from an Istio CA, and takes over each that is written after it', async (t) => {
  const mesh = await Authority.create('CN=Mesh Root')
  const ca = await IstioCa.start(mesh, await mesh.issue({ dns: ['istiod.test'] }), 'secret')
  t.teardown(() => ca.close())
  const base = folder(t)
  const certs = join(base, 'certs')
  writeFileSync(join(base, 'token'), 'secret\n')
  writeFileSync(join(base, 'root.pem'), mesh.pem)
  const file = (name: string): JsonObject => ({ filename: join(certs, name) })
  const web = listener({
    tls_certificates: [{ certificate_chain: file('cert-chain.pem'), private_key: file('key.pem') }],
    validation_context: { trusted_ca: file('root-cert.pem') },
  })
  const environment = {
    CA_ADDRESS: `127.0.0.1:${ca.port}`,
    CA_NAME: 'istiod.test',
    CA_ROOT_CA: join(base, 'root.pem'),
    CA_TOKEN_FILE: join(base, 'token'),
    TRUST_DOMAIN: 'td.test',
    POD_NAMESPACE: 'demo',
    SERVICE_ACCOUNT: 'gateway',
    CLUSTER_ID: 'c1',
  }
  const bootstrap = { static_resources: { listeners: [web] } }
  const gateway = await GatewayProcess.start(t, bootstrap, ['--workload-certs', certs], environment)
  t.match(ca.asked, [{ authorization: 'Bearer secret', clusterId: 'c1' }])
  const client = await mesh.issue({ uri: ['spiffe://td.test/ns/demo/sa/client'] })
  const port = await gateway.port('web')
  const first = await ask(port, client, mesh.pem)
  t.match(first, { name: `URI:${ID}`, status: '200' })
  const next = await mesh.issue({ uri: [ID] })
  await writeCertificate(certs, { certificateChain: next.chain, privateKey: next.key, trustedCa: mesh.pem })
  await until(async () => (await ask(port, client, mesh.pem)).serial !== first.serial)
  t.equal(ca.asked.length, 1)
})

t.test('of certificates that come close upon each other the last one is in force', async (t) => {
  const certs = join(folder(t), 'certs')
  const errors: unknown[] = []
  const log = { debug() {}, info() {}, warn() {}, error: (...what: unknown[]) => void errors.push(what) }
  const material = (text: string): MeshMaterial => ({ certificateChain: text, privateKey: text, trustedCa: text })
  let tell: (next: MeshMaterial) => void = () => {}
  const source = {
    material: material('0'),
    onRenewed: (listener: typeof tell): (() => void) => {
      tell = listener
      return () => {}
    },
  }
  const first = writeEach(certs, source, log)
  for (const text of ['1', '2', '3', '4']) tell(material(text))
  await first
  const kept = (): string[] =>
    ['cert-chain.pem', 'key.pem', 'root-cert.pem'].map((name) => readFileSync(join(certs, name), 'utf8'))
  await until(async () => kept()[0] === '4')
  t.same(kept(), ['4', '4', '4'])
  t.same(errors, [])
})

t.test('without a certificate it does not start, and says what is missing', async (t) => {
  const certs = join(folder(t), 'certs')
  const bootstrap = { static_resources: { listeners: [] } }
  const start = (environment: NodeJS.ProcessEnv): Promise<unknown> =>
    GatewayProcess.start(t, bootstrap, ['--workload-certs', certs], environment)
  await t.rejects(start({ POD_NAMESPACE: 'demo' }), { message: /--workload-certs: SERVICE_ACCOUNT must be set/ })
  t.throws(() => workloadOf({}), {
    message: 'POD_NAMESPACE and SERVICE_ACCOUNT must be set, or SPIFFE_ENDPOINT_SOCKET',
  })
  t.match(workloadOf({ POD_NAMESPACE: 'n', SERVICE_ACCOUNT: 's' }), {
    caAddress: 'istiod.istio-system.svc:15012',
    tokenFile: '/var/run/secrets/tokens/istio-token',
    rootsFile: '/var/run/secrets/istio/root-cert.pem',
  })
})

for (const [agent, own, roots] of [
  ['Istio', 'default', 'ROOTCA'],
  ['SPIRE', ID, 'spiffe://td.test'],
] as const) {
  t.test(`secrets come by SDS over a Unix socket, under the names of ${agent}'s agent`, async (t) => {
    const mesh = await Authority.create('CN=Mesh Root')
    const path = join(folder(t), 'socket')
    const plane = await ControlPlane.start({ path })
    t.teardown(() => plane.close())
    const certificate = ({ chain, key }: Issued): JsonObject => ({
      name: own,
      tls_certificate: { certificate_chain: { inline_string: chain }, private_key: { inline_string: key } },
    })
    const trusted = { name: roots, validation_context: { trusted_ca: { inline_string: mesh.pem } } }
    plane.set(XDS.secret, [certificate(await mesh.issue({ uri: [ID] })), trusted])
    const sds = (name: string): JsonObject => ({
      name,
      sds_config: {
        resource_api_version: 'V3',
        api_config_source: {
          api_type: 'GRPC',
          transport_api_version: 'V3',
          grpc_services: [{ envoy_grpc: { cluster_name: 'sds-grpc' } }],
        },
      },
    })
    const web = listener({
      tls_certificate_sds_secret_configs: [sds(own)],
      combined_validation_context: {
        default_validation_context: {
          match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { prefix: 'spiffe://td.test/' } }],
        },
        validation_context_sds_secret_config: sds(roots),
      },
    })
    const cluster = {
      name: 'sds-grpc',
      type: 'STATIC',
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': `${TYPE}.upstreams.http.v3.HttpProtocolOptions`,
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
      load_assignment: {
        cluster_name: 'sds-grpc',
        endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path } } } }] }],
      },
    }
    const bootstrap = {
      node: { id: 'sidecar~10.0.0.1~gateway.demo~demo.svc.cluster.local', cluster: 'gateway.demo' },
      static_resources: { listeners: [web], clusters: [cluster] },
    }
    const gateway = await GatewayProcess.start(t, bootstrap)
    // It comes when its secrets have.
    await until(async () => (await gateway.ask('/listeners')).includes('web::'))
    const port = await gateway.port('web')
    const client = await mesh.issue({ uri: ['spiffe://td.test/ns/demo/sa/client'] })
    const first = await ask(port, client, mesh.pem)
    t.match(first, { name: `URI:${ID}`, status: '200' })
    const stranger = await mesh.issue({ uri: ['spiffe://other.test/ns/demo/sa/client'] })
    const refused = await ask(port, stranger, mesh.pem).catch(() => ({ status: '' }))
    t.equal(refused.status, '', 'of another trust domain')
    plane.set(XDS.secret, [certificate(await mesh.issue({ uri: [ID] })), trusted])
    await until(async () => (await ask(port, client, mesh.pem)).serial !== first.serial)
    t.same([...plane.streams].length > 0, true)
  })
}
