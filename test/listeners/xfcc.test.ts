import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type ConnectionOptions, connect } from 'node:tls'
import t from 'tap'
import type { ClientCertificateHeaderConfig } from '../../lib/config/listener.ts'
import type { TlsInfo } from '../../lib/core/connection.ts'
import { Headers } from '../../lib/core/headers.ts'
import { compileClientCert } from '../../listeners/http/client-cert.ts'
import { bootstrap, type Fields } from '../end-to-end/bootstrap.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { TestGateway } from '../support/gateway.ts'
import { Origin } from '../support/origin.ts'
import { connection, peer, tlsInfo } from '../support/peers.ts'

const NAME = 'x-forwarded-client-cert'
const ALL: ClientCertificateHeaderConfig['fields'] = ['dns', 'uri', 'issuer', 'subject', 'chain', 'cert']
const HASH = 'ab'.repeat(32)

/** What the header is after one request that came with `before`; undefined: there is none. */
function apply(
  config: ClientCertificateHeaderConfig,
  tls: TlsInfo | undefined,
  before?: readonly string[],
): string | undefined {
  const headers = new Headers((before ?? []).flatMap((value) => [NAME, value]))
  const facts = connection({ tls })
  compileClientCert(config)(headers, facts, { connection: facts, request: headers, metadata: { get: () => undefined } })
  return headers.join(NAME)
}

const verified = (known: Parameters<typeof peer>[0] = {}, local: readonly string[] = []): TlsInfo =>
  tlsInfo({ peer: peer(known), local: { subject: 'CN=me', uriSans: local, dnsSans: [] } })

t.test('each mode does with the header what Envoy does', async (t) => {
  const fields: ClientCertificateHeaderConfig['fields'] = []
  const own = `Hash=${HASH}`
  for (const [mode, before, withPeer, without] of [
    ['forward-only', undefined, undefined, undefined],
    ['forward-only', ['Hash=1'], 'Hash=1', undefined],
    ['append-forward', undefined, own, undefined],
    ['append-forward', ['Hash=1', 'Hash=2'], `Hash=1,Hash=2,${own}`, undefined],
    ['append-forward', [''], own, undefined],
    ['sanitize-set', ['Hash=1'], own, undefined],
    ['always-forward-only', ['Hash=1'], 'Hash=1', 'Hash=1'],
    ['always-forward-only', undefined, undefined, undefined],
  ] as const) {
    const name = `${mode} ${before}`
    t.equal(apply({ mode, fields }, verified(), before), withPeer, name)
    t.equal(apply({ mode, fields }, undefined, before), without, `${name} in plaintext`)
    t.equal(apply({ mode, fields }, tlsInfo(), before), without, `${name} without a certificate`)
    t.equal(apply({ mode, fields }, tlsInfo({ peerUnverified: true }), before), without, `${name} not verified`)
  }
})

t.test('the pairs stand in the order of Envoy, each name for itself', async (t) => {
  const tls = verified(
    { subject: 'CN=a,OU=b\\, c,O="d"', uriSans: ['spiffe://a', 'https://b'], dnsSans: ['a.example', 'b.example'] },
    ['spiffe://me', 'spiffe://also-me'],
  )
  const pem = '"-----BEGIN%20CERTIFICATE-----%0AMA%3D%3D%0A-----END%20CERTIFICATE-----%0A"'
  t.equal(
    apply({ mode: 'sanitize-set', fields: ALL }, tls),
    [
      'By=spiffe://me',
      'By=spiffe://also-me',
      `Hash=${HASH}`,
      `Cert=${pem}`,
      `Chain=${pem}`,
      'Subject="CN=a,OU=b\\, c,O=\\"d\\""',
      'URI=spiffe://a',
      'URI=https://b',
      'DNS=a.example',
      'DNS=b.example',
      'Issuer="CN=Example CA"',
    ].join(';'),
  )
  t.equal(
    apply({ mode: 'sanitize-set', fields: ['subject', 'uri', 'dns'] }, verified({ subject: '' })),
    `Hash=${HASH};Subject="";URI=`,
  )
  const base64 = verified({ pem: '-----BEGIN CERTIFICATE-----\r\na+/=\r\n-----END CERTIFICATE-----\r\n' })
  t.match(apply({ mode: 'sanitize-set', fields: ['cert'] }, base64), /%0Aa%2B%2F%3D%0A/)
})

t.test('as JSON the header is an array, one object for each proxy', async (t) => {
  const tls = verified({ subject: 'CN=a,O="d"', uriSans: ['spiffe://a;b', 'spiffe://ü'], dnsSans: ['a.example'] }, [
    'spiffe://me',
  ])
  const json = (mode: ClientCertificateHeaderConfig['mode'], before?: readonly string[]): string | undefined =>
    apply({ mode, fields: ['subject', 'uri', 'dns', 'issuer'], format: 'json' }, tls, before)
  const own =
    `{"by":["spiffe://me"],"hash":"${HASH}","subject":"CN=a,O=\\"d\\"",` +
    '"uri":["spiffe://a;b","spiffe://\\u00fc"],"dns":["a.example"],"issuer":"CN=Example CA"}'
  t.equal(json('sanitize-set', ['By=x']), `[${own}]`)
  t.equal(json('append-forward'), `[${own}]`)
  t.equal(json('append-forward', ['']), `[${own}]`)
  t.equal(json('append-forward', ['[]']), `[${own}]`)
  t.equal(json('append-forward', [' [{"by": ["x"]}] ']), `[{"by":["x"]},${own}]`)
  t.equal(json('append-forward', ['[{"by":["x"]}]', '[1]']), `[{"by":["x"]},1,${own}]`)
  const text = (before: string): string =>
    `${before},By=spiffe://me;Hash=${HASH};Subject="CN=a,O=\\"d\\"";URI="spiffe://a;b";URI=spiffe://ü;DNS=a.example;Issuer="CN=Example CA"`
  for (const before of ['By=x', '[{"by":["x"]}', '{"by":1}']) t.equal(json('append-forward', [before]), text(before))
  const brackets = `[{"by":["\\"${'['.repeat(20)}"]}]`
  t.equal(json('append-forward', [brackets]), `${brackets.slice(0, -1)},${own}]`, 'brackets in texts are no nesting')
  t.equal(apply({ mode: 'append-forward', fields: [], format: 'json' }, undefined, ['[{}]']), undefined)
  const bare = verified({ subject: '', uriSans: [], dnsSans: [] })
  t.equal(
    apply({ mode: 'sanitize-set', fields: ALL.slice(0, 4), format: 'json' }, bare),
    `[{"hash":"${HASH}","issuer":"CN=Example CA"}]`,
  )
  const pem = (name: string): string => `-----BEGIN CERTIFICATE-----\n${name}=\n-----END CERTIFICATE-----\n`
  const chain = verified({ pem: pem('a'), chainPem: pem('a') + pem('b') })
  const told = apply({ mode: 'sanitize-set', fields: ['cert', 'chain'], format: 'json' }, chain)
  t.match(JSON.parse(told ?? '')[0], { cert: pem('a'), chain: [pem('a'), pem('b')] })
})

t.test('an array of a client that nests without end is forwarded as text, and takes nobody down', async (t) => {
  for (const count of [10, 8000]) {
    const deep = `[${'{"0":'.repeat(count)}1${'}'.repeat(count)}]`
    const told = apply({ mode: 'append-forward', fields: [], format: 'json' }, verified(), [deep])
    t.equal(told, `${deep},Hash=${HASH}`)
  }
})

t.test('a matcher decides by request what is told, and where it finds nothing the rest holds', async (t) => {
  const config: ClientCertificateHeaderConfig = {
    mode: 'sanitize',
    fields: [],
    byRequest: {
      list: [
        {
          predicate: {
            kind: 'single',
            input: { kind: 'request-header', name: 'x-who' },
            string: { kind: 'exact', value: 'json', ignoreCase: false },
          },
          onMatch: { action: { mode: 'sanitize-set', fields: [], format: 'json' } },
        },
      ],
      onNoMatch: { action: { mode: 'always-forward-only', fields: [] } },
    },
  }
  for (const [who, expected] of [
    ['json', `[{"hash":"${HASH}"}]`],
    ['other', 'Hash=1'],
  ] as const) {
    const headers = new Headers([NAME, 'Hash=1', 'x-who', who])
    const facts = connection({ tls: verified() })
    compileClientCert(config)(headers, facts, {
      connection: facts,
      head: { method: 'GET', scheme: 'https', authority: 'a', path: '/', protocol: undefined },
      request: headers,
      metadata: { get: () => undefined },
    })
    t.equal(headers.join(NAME), expected)
  }
})

t.test('a name cannot pass for another pair or element', async (t) => {
  const of = (known: Parameters<typeof peer>[0]): string | undefined =>
    apply({ mode: 'sanitize-set', fields: ['subject', 'uri', 'dns'] }, verified({ subject: 'CN=x', ...known }))
  const start = `Hash=${HASH};Subject=`
  t.equal(of({ uriSans: ['spiffe://a,By=x'] }), `${start}"CN=x";URI="spiffe://a,By=x"`)
  t.equal(of({ uriSans: ['a;URI=b'] }), `${start}"CN=x";URI="a;URI=b"`)
  t.equal(of({ uriSans: ['https://a?b=c'] }), `${start}"CN=x";URI="https://a?b=c"`)
  t.equal(of({ uriSans: ['a";Hash=b'] }), `${start}"CN=x";URI="a\\";Hash=b"`)
  t.equal(of({ uriSans: ['a\\'] }), `${start}"CN=x";URI="a\\\\"`)
  t.equal(of({ uriSans: ['a\\nb'] }), `${start}"CN=x";URI="a\\\\nb"`, 'a name as it is, whoever takes the escapes away')
  t.equal(of({ uriSans: ['a\\"b'] }), `${start}"CN=x";URI="a\\\\\\"b"`)
  t.equal(of({ dnsSans: ['a,b'] }), `${start}"CN=x";URI=;DNS="a,b"`)
  t.equal(of({ subject: 'CN=a\\"b' }), `${start}"CN=a\\"b";URI=`, 'what is escaped already stays')
  t.equal(of({ subject: 'CN=a\\' }), `${start}"CN=a\\\\";URI=`)
  t.equal(of({ subject: 'CN=a\r\nx: y' }), `${start}"CN=a??x: y";URI=`)
})

const DOWNSTREAM = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext'

function tlsChain(server: Issued, authority: Authority, validation: Fields): Fields {
  return {
    transport_socket: {
      name: 'tls',
      typed_config: {
        '@type': DOWNSTREAM,
        common_tls_context: {
          tls_certificates: [
            { certificate_chain: { inline_string: server.chain }, private_key: { inline_string: server.key } },
          ],
          validation_context: { trusted_ca: { inline_string: authority.pem }, ...validation },
        },
      },
    },
  }
}

/** One request over a connection of its own; answers the header that the origin got. */
async function ask(port: number, options: ConnectionOptions, header = ''): Promise<void> {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options })
  socket.on('error', () => {})
  // A FIN before the answer would give up on it.
  socket.write(`GET / HTTP/1.1\r\nhost: a\r\n${header}connection: close\r\n\r\n`)
  let answer = ''
  for await (const chunk of socket) answer += chunk
  if (!answer.startsWith('HTTP/1.1 200')) throw new Error(`not answered: ${JSON.stringify(answer.slice(0, 80))}`)
}

t.test('upstreams learn of verified clients alone', async (t) => {
  const authority = await Authority.create('CN=Clients')
  const stranger = await Authority.create('CN=Strangers')
  const server = await authority.issue({ subject: 'CN=server', uri: ['spiffe://gate'], dns: ['a'] })
  const client = await authority.issue({
    subject: 'CN=client, O=Example',
    uri: ['spiffe://client'],
    dns: ['c1.example', 'c2.example'],
  })
  const other = await stranger.issue({ subject: 'CN=other', uri: ['spiffe://client'] })
  const origin = await Origin.start({})
  t.teardown(() => origin.close())
  const cluster = {
    name: 'origin',
    load_assignment: {
      cluster_name: 'origin',
      endpoints: [
        {
          lb_endpoints: [
            { endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: origin.port } } } },
          ],
        },
      ],
    },
  }
  const listen = (name: string, hcm: Fields): Fields => ({
    name,
    hcm,
    chain: tlsChain(server, authority, { trust_chain_verification: 'ACCEPT_UNTRUSTED' }),
  })
  const details = { subject: true, uri: true, dns: true }
  const gateway = await TestGateway.start(
    bootstrap({
      listeners: [
        listen('set', { forward_client_cert_details: 'SANITIZE_SET', set_current_client_cert_details: details }),
        listen('append', { forward_client_cert_details: 'APPEND_FORWARD', use_remote_address: true }),
        listen('default', {}),
        listen('always', { forward_client_cert_details: 'ALWAYS_FORWARD_ONLY', use_remote_address: true }),
      ],
      clusters: [cluster],
    }),
  )
  t.teardown(() => gateway.close())
  const seen = async (listener: string, who: Issued | undefined, header?: string): Promise<string | undefined> => {
    const before = origin.requests.length
    await ask(gateway.port(listener), who === undefined ? {} : { cert: who.chain, key: who.key }, header)
    t.equal(origin.requests.length, before + 1)
    return origin.requests[before].get(NAME)
  }
  const forged = `${NAME}: By=x;Hash=forged\r\n`
  const hash = Buffer.from(await client.certificate.getThumbprint('SHA-256')).toString('hex')
  const whole = `By=spiffe://gate;Hash=${hash};Subject="O=Example,CN=client";URI=spiffe://client;DNS=c1.example;DNS=c2.example`
  t.equal(await seen('set', client, forged), whole)
  t.equal(await seen('set', other, forged), undefined, 'not verified, though tolerated')
  t.equal(await seen('set', undefined, forged), undefined)
  t.equal(await seen('append', client, forged), `By=x;Hash=forged,By=spiffe://gate;Hash=${hash}`)
  t.equal(await seen('append', undefined, forged), undefined)
  t.equal(await seen('default', client, forged), undefined)
  t.equal(await seen('always', undefined, forged), 'By=x;Hash=forged')
})

t.test('logs tell of the session and of both certificates what the wire has shown', async (t) => {
  const authority = await Authority.create('CN=Clients')
  const server = await authority.issue({ subject: 'CN=server', uri: ['spiffe://gate'], dns: ['a', 'b.example'] })
  const client = await authority.issue({
    subject: 'CN=client, O=Example',
    email: ['me@example.com'],
    ip: ['192.0.2.77'],
    uri: ['spiffe://client'],
  })
  const commands = [
    'DOWNSTREAM_TLS_VERSION DOWNSTREAM_TLS_CIPHER REQUESTED_SERVER_NAME DOWNSTREAM_LOCAL_SUBJECT',
    'DOWNSTREAM_LOCAL_URI_SAN DOWNSTREAM_LOCAL_DNS_SAN DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_ISSUER',
    'DOWNSTREAM_PEER_SERIAL DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_PEER_EMAIL_SAN DOWNSTREAM_PEER_IP_SAN',
    'DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_FINGERPRINT_1 DOWNSTREAM_PEER_CHAIN_SERIALS',
    'DOWNSTREAM_PEER_CERT_V_START DOWNSTREAM_PEER_CERT_V_END FILTER_CHAIN_NAME',
  ].flatMap((names) => names.split(' '))
  const log = join(t.testdir(), 'access.log')
  const access = {
    name: 'file',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
      path: log,
      log_format: { json_format: Object.fromEntries(commands.map((name) => [name, `%${name}%`])) },
    },
  }
  const gateway = await TestGateway.start(
    bootstrap({
      hcm: { access_log: [access] },
      chain: { name: 'secure', ...tlsChain(server, authority, {}) },
      routes: [{ match: { prefix: '/' }, direct_response: { status: 200 } }],
      clusters: [],
    }),
  )
  const version = { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_256_GCM_SHA384', servername: 'b.example' } as const
  await ask(gateway.port(), { cert: client.chain, key: client.key, ...version })
  await gateway.close()
  const hex = async (hash: string): Promise<string> =>
    Buffer.from(await client.certificate.getThumbprint(hash)).toString('hex')
  const { serialNumber, notBefore, notAfter } = client.certificate
  const line = JSON.parse(readFileSync(log, 'utf8')) as Record<string, string>
  t.match(line.DOWNSTREAM_PEER_CHAIN_SERIALS, new RegExp(`^${serialNumber}\\b`))
  t.same(line, {
    ...line,
    DOWNSTREAM_TLS_VERSION: 'TLSv1.3',
    DOWNSTREAM_TLS_CIPHER: 'TLS_AES_256_GCM_SHA384',
    REQUESTED_SERVER_NAME: 'b.example',
    DOWNSTREAM_LOCAL_SUBJECT: 'CN=server',
    DOWNSTREAM_LOCAL_URI_SAN: 'spiffe://gate',
    DOWNSTREAM_LOCAL_DNS_SAN: 'a,b.example',
    DOWNSTREAM_PEER_SUBJECT: 'O=Example,CN=client',
    DOWNSTREAM_PEER_ISSUER: 'CN=Clients',
    DOWNSTREAM_PEER_SERIAL: serialNumber,
    DOWNSTREAM_PEER_URI_SAN: 'spiffe://client',
    DOWNSTREAM_PEER_EMAIL_SAN: 'me@example.com',
    DOWNSTREAM_PEER_IP_SAN: '192.0.2.77',
    DOWNSTREAM_PEER_FINGERPRINT_256: await hex('SHA-256'),
    DOWNSTREAM_PEER_FINGERPRINT_1: await hex('SHA-1'),
    DOWNSTREAM_PEER_CERT_V_START: notBefore.toISOString(),
    DOWNSTREAM_PEER_CERT_V_END: notAfter.toISOString(),
    FILTER_CHAIN_NAME: 'secure',
  })
})
