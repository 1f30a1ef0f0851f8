import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { createFilterRegistry } from '../../lib/chain/registry.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { NativeConfig } from '../../lib/config/native/config.ts'
import type { NativeHttp2 } from '../../lib/config/native/http2.ts'
import { readNativeConfig } from '../../lib/config/native/read.ts'
import type {
  NativeCertificateValidation,
  NativeDownstreamTls,
  NativeUpstreamTls,
} from '../../lib/config/native/tls.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import { EDGE_HTTP2, type Http2Config } from '../../lib/http2/config.ts'
import { routerFactory } from '../../lib/router/router.ts'
import type { DownstreamTlsConfig, UpstreamTlsConfig } from '../../lib/tls/config.ts'
import { Authority, encryptedKey } from '../support/certificates.ts'
import { managerOf } from '../support/chains.ts'

const registry = createFilterRegistry([routerFactory])
const authority = await Authority.create()
const server = await authority.issue({ dns: ['a.example'] })
const other = await authority.issue({ dns: ['b.example'] })
const crl = await authority.revoke(other)
const CERTIFICATE = { certificateChain: server.chain, privateKey: server.key }

function read(config: unknown): GatewayConfig {
  return readNativeConfig(config, { registry })
}

function mistakes(config: unknown): string[] {
  try {
    read(config)
    return []
  } catch (error) {
    if (!(error instanceof ConfigRefused)) throw error
    return error.errors.map(String)
  }
}

function withListener(listener: unknown): unknown {
  return { listeners: [{ address: '127.0.0.1:1', http: { routes: [] }, ...(listener as object) }] }
}

function withCluster(cluster: unknown): unknown {
  return { listeners: [], clusters: [{ name: 'c', endpoints: ['a.example:1'], ...(cluster as object) }] }
}

function listenerTls(tls: NativeDownstreamTls, codec: 'auto' | 'http1' | 'http2' = 'auto'): DownstreamTlsConfig {
  const found = read(withListener({ tls, http: { codec, routes: [] } })).listeners[0].filterChains[0].tls
  if (found === undefined) throw new Error('no TLS')
  return found
}

function clusterTls(tls: NativeUpstreamTls): UpstreamTlsConfig {
  const found = read(withCluster({ tls })).clusters[0].tls
  if (found === undefined) throw new Error('no TLS')
  return found
}

t.test('HTTP/2 is safe at the edge where nothing is said, and as told where it is', async (t) => {
  const http2: Required<NativeHttp2> = {
    hpackTableBytes: 0,
    maxConcurrentStreams: 7,
    initialStreamWindowBytes: 65_535,
    initialConnectionWindowBytes: 70_000,
    allowConnect: true,
    streamErrorOnInvalidMessage: true,
    maxOutboundFrames: 11,
    maxOutboundControlFrames: 12,
    maxConsecutiveEmptyFrames: 0,
    maxPriorityFramesPerStream: 0,
    maxWindowUpdatesPerDataFrame: 1,
    keepalive: { intervalMs: 30_000, timeoutMs: undefined },
    customSettings: [{ id: 0xf000, value: 0xffff_ffff }],
  }
  const expected: Http2Config = {
    ...(http2 as Http2Config),
    keepalive: { intervalMs: 30_000, timeoutMs: 10_000, jitterPercent: 15, idleIntervalMs: 0 },
  }
  const config: NativeConfig = {
    listeners: [{ address: '127.0.0.1:1', http: { codec: 'http2', routes: [], http2 } }],
    clusters: [
      { name: 'told', endpoints: [], protocol: 'http2', http2, preconnectRatio: 1.5 },
      { name: 'silent', endpoints: [] },
      { name: 'in kind', endpoints: [], protocol: 'downstream' },
    ],
  }
  const { listeners, clusters } = read(config)
  t.equal(managerOf(listeners[0]).codec, 'http2')
  t.same(managerOf(listeners[0]).http2, expected)
  t.match(clusters[0], { protocol: 'http2', preconnectRatio: 1.5 })
  t.same(clusters[0].http2, expected)
  t.match(clusters[1], { protocol: 'http1', preconnectRatio: 1, tls: undefined })
  t.same(clusters[1].http2, EDGE_HTTP2)
  t.equal(clusters[2].protocol, 'downstream')
})

t.test('values of HTTP/2 and of clusters that cannot be are refused with their paths', async (t) => {
  const http2 = {
    hpackTableBytes: -1,
    maxConcurrentStreams: 0,
    initialStreamWindowBytes: 65_534,
    initialConnectionWindowBytes: 2 ** 31,
    maxOutboundFrames: 0,
    maxWindowUpdatesPerDataFrame: 0,
    keepalive: { timeoutMs: 0, jitterPercent: 101 },
    customSettings: [{ id: 4, value: 1 }, { id: 65_536, value: 1 }, { id: 9 }],
    push: true,
  }
  const at = 'listeners[0].http.http2'
  t.same(mistakes(withListener({ http: { routes: [], http2 } })), [
    `${at}.hpackTableBytes: must be at least 0, is -1`,
    `${at}.maxConcurrentStreams: must be at least 1, is 0`,
    `${at}.initialStreamWindowBytes: must be at least 65535, is 65534`,
    `${at}.initialConnectionWindowBytes: must be at most 2147483647, is 2147483648`,
    `${at}.maxOutboundFrames: must be at least 1, is 0`,
    `${at}.maxWindowUpdatesPerDataFrame: must be at least 1, is 0`,
    `${at}.keepalive.timeoutMs: must be at least 1, is 0`,
    `${at}.keepalive.jitterPercent: must be at most 100, is 101`,
    `${at}.customSettings[0].id: is a setting of HTTP/2 itself, or none`,
    `${at}.customSettings[1].id: must be at most 65535, is 65536`,
    `${at}.customSettings[2].value: is required`,
    `${at}.push: unknown field "push"`,
  ])
  t.same(mistakes(withCluster({ protocol: 'http3', preconnectRatio: 4 })), [
    'clusters[0].protocol: must be "http1", "http2", "auto" or "downstream", is "http3"',
    'clusters[0].preconnectRatio: must be at most 3, is 4',
  ])
  t.same(mistakes(withCluster({ protocol: 'auto' })), [
    'clusters[0].protocol: auto needs tls: the protocol is chosen by ALPN',
  ])
  t.same(mistakes(withCluster({ protocol: 'auto', tls: {} })), [])
})

t.test('TLS has safe defaults on both sides', async (t) => {
  const shared = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.3', groups: ['X25519MLKEM768', 'X25519', 'P-256'] }
  t.same(listenerTls({ certificates: [CERTIFICATE] }), {
    ...shared,
    certificates: [CERTIFICATE],
    alpn: ['h2', 'http/1.1'],
    requireClientCertificate: false,
    handshakeTimeoutMs: 10_000,
    sessionTickets: true,
  })
  t.same(listenerTls({ certificates: [CERTIFICATE] }, 'http1').alpn, ['http/1.1'])
  t.same(listenerTls({ certificates: [CERTIFICATE] }, 'http2').alpn, ['h2'])
  const validation = { systemRoots: true, sans: [], acceptUntrusted: false }
  t.same(clusterTls({}), {
    ...shared,
    certificates: [],
    alpn: [],
    validation,
    sni: '',
    autoSni: 'host',
    autoSanValidation: true,
    maxSessionKeys: 1,
  })
  t.match(clusterTls({ sni: 'a.example' }), { sni: 'a.example', autoSni: 'none', autoSanValidation: true })
  t.match(clusterTls({ validation: { acceptUntrusted: true } }), { autoSanValidation: false })
  t.match(clusterTls({ validation: { sans: [{ type: 'uri', match: 'spiffe://a' }] } }), {
    autoSanValidation: false,
    validation: { systemRoots: true, sans: [{ type: 'uri', match: { kind: 'exact', value: 'spiffe://a' } }] },
  })
})

t.test('every setting of TLS holds', async (t) => {
  const locked = encryptedKey(server, 'open sesame')
  const tls: Required<NativeDownstreamTls> = {
    certificates: [CERTIFICATE, { ...CERTIFICATE, privateKey: locked, passphrase: 'open sesame' }],
    alpn: ['http/1.1'],
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    cipherSuites: ['ECDHE-ECDSA-AES128-GCM-SHA256'],
    groups: ['P-256'],
    validation: { trustedCa: authority.pem, crl, sans: [{ type: 'dns', match: { suffix: '.example' } }] },
    requireClientCertificate: false,
    handshakeTimeoutMs: 500,
    sessionTickets: false,
    signatureAlgorithms: ['ecdsa_secp256r1_sha256'],
    keyLog: { path: '/tmp/keys', localRanges: ['10.0.0.0/8'] },
    ticketKeys: [Buffer.alloc(80, 1).toString('base64')],
    sessionTimeoutS: 60,
    requireSni: true,
    fullScan: true,
    preferClientCiphers: true,
    ocspPolicy: 'strict',
  }
  t.same(listenerTls(tls), {
    ...tls,
    keyLog: { path: '/tmp/keys', localRanges: [{ address: '10.0.0.0', prefixLength: 8 }], remoteRanges: [] },
    validation: {
      trustedCa: authority.pem,
      systemRoots: false,
      sans: [{ type: 'dns', match: { kind: 'suffix', value: '.example' } }],
      acceptUntrusted: false,
      crl,
    },
  })
  t.equal(listenerTls({ ...tls, requireClientCertificate: undefined }).requireClientCertificate, true)
  t.equal(read(withListener({ tls })).listeners[0].filterChains[0].transportConnectTimeoutMs, 500)
  t.match(clusterTls({ certificate: CERTIFICATE, autoSni: 'authority', autoSanValidation: false, maxSessionKeys: 5 }), {
    certificates: [CERTIFICATE],
    autoSni: 'authority',
    autoSanValidation: false,
    maxSessionKeys: 5,
  })
})

t.test('peers are told by pins, SPIFFE IDs and names of every type', async (t) => {
  const validation = (value: NativeCertificateValidation): unknown =>
    listenerTls({ certificates: [CERTIFICATE], validation: value }).validation
  const base = { systemRoots: false, sans: [], acceptUntrusted: false }
  const spkis = [Buffer.alloc(32, 1).toString('base64')]
  t.same(validation({ hashes: [Array.from({ length: 32 }, () => 'AB').join(':')], spkis }), {
    ...base,
    hashes: ['ab'.repeat(32)],
    spkis,
  })
  const narrow = { trustedCa: authority.pem, maxDepth: 1, leafCrlOnly: true, allowExpired: true, crl }
  t.same(validation(narrow), { ...base, ...narrow })
  const oid = '1.3.6.1.4.1.311.20.2.3'
  const sans = [{ type: 'other' as const, oid, match: 'user@corp' }]
  t.match(validation({ trustedCa: authority.pem, sans }), { sans: [{ type: 'other', oid }] })
  t.same(validation({ trustDomains: { 'td.example': authority.pem } }), {
    ...base,
    trustDomains: [{ name: 'td.example', trustedCa: authority.pem }],
  })
  const spiffe = clusterTls({ validation: { trustDomains: { 'td.example': authority.pem } } })
  t.equal(spiffe.autoSanValidation, false, 'a SPIFFE ID is not the name of a host')
})

t.test('PEM is read from files whenever the configuration is', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const chain = join(folder, 'chain.pem')
  const key = join(folder, 'key.pem')
  const tls: NativeDownstreamTls = { certificates: [{ certificateChain: { file: chain }, privateKey: { file: key } }] }
  writeFileSync(chain, server.chain)
  const at = 'listeners[0].tls.certificates[0].privateKey.file'
  const missing = mistakes(withListener({ tls }))
  t.equal(missing.length, 1)
  t.ok(missing[0].startsWith(`${at}: cannot read "${key}": ENOENT`), missing[0])
  writeFileSync(key, server.key)
  t.same(listenerTls(tls).certificates, [CERTIFICATE])
  writeFileSync(chain, other.chain)
  writeFileSync(key, other.key)
  t.same(listenerTls(tls).certificates, [{ certificateChain: other.chain, privateKey: other.key }])
  const other2 = { validation: { trustedCa: { file: join(folder, 'none') }, sans: [{ type: 'dns', match: 'a' }] } }
  t.match(mistakes(withCluster({ tls: other2 })), [/^clusters\[0\]\.tls\.validation\.trustedCa\.file: cannot read /])
  const config = withListener({
    tls: { certificates: [{ certificateChain: { file: 'a' }, privateKey: { file: 'b' } }] },
  })
  const readFile = (path: string): Buffer => Buffer.from(path === 'a' ? server.chain : server.key)
  t.match(readNativeConfig(config, { registry, readFile }).listeners[0].filterChains[0].tls?.certificates, [
    CERTIFICATE,
  ])
})

t.test('TLS that cannot be used is refused with the path of what is wrong, and no secret in the message', async (t) => {
  const listener = (tls: unknown): string[] =>
    mistakes(withListener({ tls })).map((text) => text.replace('listeners[0].tls', ''))
  const cluster = (tls: unknown): string[] =>
    mistakes(withCluster({ tls })).map((text) => text.replace('clusters[0].tls', ''))
  const found = [
    listener({ certificates: [{ ...CERTIFICATE, privateKey: other.key }] }),
    listener({ certificates: [CERTIFICATE], cipherSuites: ['AES128-SHA', 'NONSENSE'] }),
    listener({ certificates: [CERTIFICATE], groups: ['nonsense'] }),
    listener({ certificates: [CERTIFICATE], minVersion: 'TLSv1.3', maxVersion: 'TLSv1.2' }),
    listener({ certificates: [CERTIFICATE], validation: { trustedCa: 'no PEM' } }),
    cluster({ certificate: { ...CERTIFICATE, privateKey: other.key } }),
    cluster({ autoSni: 'none' }),
    cluster({ validation: { systemRoots: false } }),
    cluster({ sni: 'a', validation: { sans: [{ type: 'dns', match: { regex: '(' } }] } }),
  ]
  t.match(found, [
    [/^\.certificates\[0\]\.privateKey: does not belong/],
    [/^\.cipherSuites\[1\]: unknown cipher "NONSENSE"/],
    [/^\.groups\[0\]: unknown group "nonsense"/],
    [/^\.minVersion: TLSv1\.3 is above/],
    [/^\.validation\.trustedCa: holds no PEM/],
    [/^\.certificate\.privateKey: does not belong/],
    [/^\.autoSanValidation: needs sni or autoSni$/],
    [/^\.autoSanValidation: needs a validation with authorities$/],
    [/^\.validation\.sans\[0\]\.match: /],
  ])
  for (const list of found) t.equal(list.length, 1, list.join('\n'))
  t.notMatch(found.flat().join('\n'), /BEGIN/)
  t.same(listener({ certificates: [] }), ['.certificates: must not be empty'])
  t.same(listener({ certificates: [{ certificateChain: 5, privateKey: { file: '' } }] }), [
    '.certificates[0].certificateChain: must be PEM text or an object with file, is 5',
    '.certificates[0].privateKey.file: must not be empty',
  ])
  t.same(listener({ certificates: [CERTIFICATE], minVersion: 'TLSv1.1', handshakeTimeoutMs: 0, sni: 'a' }), [
    '.minVersion: must be "TLSv1.2" or "TLSv1.3", is "TLSv1.1"',
    '.handshakeTimeoutMs: must be at least 1, is 0',
    '.sni: unknown field "sni"',
  ])
})

t.test('an endpoint without a name has no certificate that could be checked for it', async (t) => {
  const unnamed = ['clusters[0].endpoints[0].hostname: is required, or sni: TLS checks the certificate for a name']
  t.same(mistakes(withCluster({ endpoints: [{ address: '127.0.0.1:1' }], tls: {} })), unnamed)
  t.match(mistakes(withCluster({ endpoints: ['127.0.0.1:1'], tls: {} })), [
    /^clusters\[0\]\.endpoints\[0\]: is required/,
  ])
  t.same(mistakes(withCluster({ endpoints: [{ address: '127.0.0.1:1', hostname: 'a.example' }], tls: {} })), [])
  t.same(mistakes(withCluster({ endpoints: ['127.0.0.1:1'], tls: { sni: 'a.example' } })), [])
  t.same(mistakes(withCluster({ endpoints: ['127.0.0.1:1'], tls: { autoSanValidation: false } })), [])
})
