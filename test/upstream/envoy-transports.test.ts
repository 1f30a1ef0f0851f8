import 'reflect-metadata'
import { createHash, webcrypto, X509Certificate } from 'node:crypto'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { createServer as createTlsServer, type TlsOptions } from 'node:tls'
import * as x509 from '@peculiar/x509'
import t, { type Test } from 'tap'
import { pemOf } from '../../lib/tls/der.ts'
import { bootstrap, cluster, endpoint, type Fields } from '../end-to-end/bootstrap.ts'
import { get } from '../end-to-end/setup.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { TestGateway } from '../support/gateway.ts'
import { MlDsaAuthority } from '../support/ml-dsa.ts'
import { WireClient } from '../support/wire.ts'
import { listen } from './http2-lab.ts'

/** The same as Envoy's configuration has it, through a whole gateway. */

const TYPE = 'type.googleapis.com/envoy.extensions.transport_sockets'
const RAW = { name: 'raw', typed_config: { '@type': `${TYPE}.raw_buffer.v3.RawBuffer` } }

const authority = await Authority.create()
const leaf = await authority.issue({ dns: ['web.example'] })

function tls(common: Fields = {}, context: Fields = {}): Fields {
  return {
    name: 'tls',
    typed_config: {
      '@type': `${TYPE}.tls.v3.UpstreamTlsContext`,
      sni: 'web.example',
      auto_sni_san_validation: true,
      ...context,
      common_tls_context: {
        validation_context: { trusted_ca: { inline_string: authority.pem } },
        ...common,
      },
    },
  }
}

async function selfSigned(): Promise<Pick<Issued, 'chain' | 'key'>> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=web.example',
    keys: keys as webcrypto.CryptoKeyPair,
    signingAlgorithm: algorithm,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: 'web.example' }])],
  })
  const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', (keys as webcrypto.CryptoKeyPair).privateKey))
  return { chain: certificate.toString('pem'), key: pemOf('PRIVATE KEY', key) }
}

function http(socket: Socket, told: string[] = []): void {
  let text = ''
  socket.on('error', () => {})
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
    const end = text.indexOf('\r\n\r\n')
    if (end < 0) return
    told.push(text.slice(0, text.indexOf('GET ')))
    text = text.slice(end + 4)
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
  })
}

async function secureServer(t: Test, issued: Pick<Issued, 'chain' | 'key'>, options: TlsOptions = {}): Promise<number> {
  const server = createTlsServer({ cert: issued.chain, key: issued.key, ...options }, (socket) => http(socket))
  server.on('tlsClientError', () => {})
  return listen(t, server)
}

interface Run {
  readonly gateway: TestGateway
  /** Status of one request, on a connection of its own. */
  ask(): Promise<number>
  /** The access log's lines, after everything has ended. */
  logged(): Promise<{ readonly [key: string]: unknown }[]>
}

async function run(t: Test, fields: Fields, port = 1): Promise<Run> {
  const logPath = join(t.testdir(), 'access.log')
  const client = new WireClient()
  const config = bootstrap({ log: logPath, clusters: [cluster('origin', port, fields)] })
  const gateway = await TestGateway.start(config, { logPath })
  const end = async (): Promise<void> => {
    await client.closeAll()
    await gateway.close()
  }
  t.teardown(end)
  return {
    gateway,
    async ask() {
      const wire = await client.connect(gateway.port())
      const response = await wire.exchange(get())
      await wire.close()
      return response.status
    },
    async logged() {
      await end()
      return gateway.lines().map((line) => JSON.parse(line) as { [key: string]: unknown })
    },
  }
}

t.test('a server whose certificate is not good enough gets no request', async (t) => {
  const stranger = await Authority.create('CN=Stranger')
  const verify = 'X509_verify_cert: certificate verification error: '
  const cases: readonly (readonly [
    name: string,
    issued: Pick<Issued, 'chain' | 'key'>,
    why: string,
    counter: string,
  ])[] = [
    [
      'expired',
      await authority.issue({ dns: ['web.example'], fromDays: -9, toDays: -1 }),
      `${verify}certificate has expired`,
      'fail_verify_error',
    ],
    [
      'not yet valid',
      await authority.issue({ dns: ['web.example'], fromDays: 1, toDays: 9 }),
      `${verify}certificate is not yet valid`,
      'fail_verify_error',
    ],
    ['wrong name', await authority.issue({ dns: ['other.example'] }), 'verify SAN list', 'fail_verify_san'],
    [
      'wrong purpose',
      await authority.issue({ dns: ['web.example'], usages: ['1.3.6.1.5.5.7.3.2'] }),
      `${verify}unsupported certificate purpose`,
      'fail_verify_error',
    ],
    [
      'unknown authority',
      await stranger.issue({ dns: ['web.example'] }),
      `${verify}unable to get local issuer certificate`,
      'fail_verify_error',
    ],
    ['self-signed', await selfSigned(), `${verify}self-signed certificate`, 'fail_verify_error'],
  ]
  for (const [name, issued, why, counter] of cases) {
    await t.test(name, async (t) => {
      const port = await secureServer(t, issued)
      const { gateway, ask, logged } = await run(t, { transport_socket: tls() }, port)
      t.equal(await ask(), 503)
      t.equal(gateway.stat(`cluster.origin.ssl.${counter}`), 1)
      t.equal(gateway.stat('cluster.origin.ssl.handshake'), 0)
      t.equal(gateway.stat('cluster.origin.upstream_cx_connect_fail'), 1)
      const [line] = await logged()
      t.match(line, { status: 503, flags: 'UF' })
      t.ok(String(line.details).replaceAll('_', ' ').includes(why.replaceAll('_', ' ')), String(line.details))
    })
  }
})

t.test('a certificate or a key that is pinned is enough, any other is not', async (t) => {
  const port = await secureServer(t, leaf)
  const certificate = new X509Certificate(leaf.chain)
  const hash = certificate.fingerprint256
  const key = certificate.publicKey.export({ type: 'spki', format: 'der' })
  const spki = createHash('sha256').update(key).digest('base64')
  const wrong = 'ab'.repeat(32)
  const trusted = { trusted_ca: { inline_string: authority.pem } }
  for (const [pins, status] of [
    [{ verify_certificate_hash: [wrong, hash] }, 200],
    [{ verify_certificate_spki: [spki] }, 200],
    [{ verify_certificate_hash: [wrong], verify_certificate_spki: [spki] }, 200],
    [{ verify_certificate_hash: [wrong] }, 503],
  ] as const) {
    await t.test(`${Object.keys(pins)} ${status}`, async (t) => {
      const { gateway, ask, logged } = await run(
        t,
        { transport_socket: tls({ validation_context: { ...trusted, ...pins } }) },
        port,
      )
      t.equal(await ask(), status)
      t.equal(gateway.stat('cluster.origin.ssl.fail_verify_cert_hash'), status === 200 ? 0 : 1)
      const [line] = await logged()
      if (status === 503) t.match(line.details, /cert_hash_and_spki/)
    })
  }
})

t.test('a server that wants a certificate of ML-DSA gets it', async (t) => {
  const issuer = new MlDsaAuthority('ml-dsa-65')
  const own = issuer.issue('gate.example')
  const port = await secureServer(t, leaf, { requestCert: true, rejectUnauthorized: true, ca: issuer.pem })
  const certificate = { certificate_chain: { inline_string: own.chain }, private_key: { inline_string: own.key } }
  const { ask } = await run(t, { transport_socket: tls({ tls_certificates: [certificate] }) }, port)
  t.equal(await ask(), 200)
  const without = await run(t, { transport_socket: tls() }, port)
  t.equal(await without.ask(), 503)
})

t.test('PROXY protocol stands around TLS and around plain TCP', async (t) => {
  const told: string[] = []
  const port = await listen(
    t,
    createServer((socket) => http(socket, told)),
  )
  const around = (config: Fields | undefined, inner: Fields): Fields => ({
    name: 'proxy',
    typed_config: {
      '@type': `${TYPE}.proxy_protocol.v3.ProxyProtocolUpstreamTransport`,
      ...(config && { config }),
      transport_socket: inner,
    },
  })
  const { ask, gateway } = await run(t, { transport_socket: around(undefined, RAW) }, port)
  t.equal(await ask(), 200)
  t.match(told[0], new RegExp(`^PROXY TCP4 127\\.0\\.0\\.1 127\\.0\\.0\\.1 \\d+ ${gateway.port()}\r\n$`))
  const tlv = { type: 0xe5, value: Buffer.from('a').toString('base64') }
  const second = await run(t, { transport_socket: around({ version: 'V2', added_tlvs: [tlv] }, RAW) }, port)
  t.equal(await second.ask(), 200)
  t.equal(told[1].length, 16 + 12 + 4)
  t.equal(told[1].slice(28), '\xe5\0\x01a')
  const made = { type: 0xe6, format_string: { text_format_source: { inline_string: 'in %DOWNSTREAM_LOCAL_PORT%' } } }
  const third = await run(t, { transport_socket: around({ version: 'V2', added_tlvs: [made, tlv] }, RAW) }, port)
  t.equal(await third.ask(), 200)
  const text = `in ${third.gateway.port()}`
  t.equal(told[2].slice(28), `\xe6\0${String.fromCharCode(text.length)}${text}\xe5\0\x01a`)
})

t.test("an endpoint's HTTP proxy is in its metadata, or in that of its locality, or in the transport", async (t) => {
  const asked: string[] = []
  const proxy = await listen(
    t,
    createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', (chunk: Buffer) => {
        asked.push(chunk.toString('latin1').split('\r\n')[0])
        socket.write('HTTP/1.1 200 OK\r\n\r\n')
        http(socket)
      })
    }),
  )
  const address = { socket_address: { address: '127.0.0.1', port_value: proxy } }
  const typed = { '@type': 'type.googleapis.com/envoy.config.core.v3.Address', ...address }
  const metadata = { typed_filter_metadata: { 'envoy.http11_proxy_transport_socket.proxy_address': typed } }
  const transport = (more: Fields = {}): Fields => ({
    transport_socket: {
      name: 'proxy',
      typed_config: {
        '@type': `${TYPE}.http_11_proxy.v3.Http11ProxyUpstreamTransport`,
        transport_socket: RAW,
        ...more,
      },
    },
  })
  const at = (group: Fields, one: Fields): Fields => ({
    load_assignment: {
      cluster_name: 'origin',
      endpoints: [{ ...group, lb_endpoints: [endpoint('192.0.2.1', 80, one)] }],
    },
  })
  for (const fields of [
    { ...transport(), ...at({}, { metadata }) },
    { ...transport(), ...at({ metadata }, {}) },
    { ...transport({ default_proxy_address: address }), ...at({}, {}) },
  ]) {
    const { ask } = await run(t, fields)
    t.equal(await ask(), 200)
  }
  t.same(asked, Array(3).fill('CONNECT 192.0.2.1:80 HTTP/1.1'))
})

t.test('transports are matched by metadata, and endpoints have several addresses', async (t) => {
  const secure = await secureServer(t, leaf)
  const plain = await listen(
    t,
    createServer((socket) => http(socket)),
  )
  const dead = createServer()
  const closed = await listen(t, dead)
  await new Promise((resolve) => dead.close(resolve))
  const labels = { filter_metadata: { 'envoy.transport_socket_match': { tls: true } } }
  const ip = (port: number): Fields => ({ address: { socket_address: { address: '127.0.0.1', port_value: port } } })
  const { ask, gateway } = await run(t, {
    transport_socket_matches: [{ name: 'secure', match: { tls: true }, transport_socket: tls() }],
    load_assignment: {
      cluster_name: 'origin',
      endpoints: [
        {
          lb_endpoints: [
            { endpoint: { ...ip(closed), additional_addresses: [ip(plain)] } },
            { metadata: labels, endpoint: { ...ip(1), additional_addresses: [ip(secure)] } },
          ],
        },
      ],
    },
  })
  t.same([await ask(), await ask()], [200, 200])
  t.equal(gateway.stat('cluster.origin.ssl.handshake'), 1)
  t.equal(gateway.stat('cluster.origin.transport_socket_match.secure.total_match_count'), 1)
  t.equal(gateway.stat('cluster.origin.transport_socket_match.default.total_match_count'), 1)
})
