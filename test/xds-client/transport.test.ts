import t from 'tap'
import { parseConfigText } from '../../lib/config/parse.ts'
import { ConfigRefused, type Json, type JsonObject } from '../../lib/core/errors.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { RuleChecker } from '../../lib/proto/rules.ts'
import { checkTls } from '../../lib/tls/check.ts'
import type { DownstreamTlsConfig, UpstreamTlsConfig } from '../../lib/tls/config.ts'
import { openPkcs12 } from '../../lib/tls/pkcs12.ts'
import { parseTrustBundles } from '../../lib/tls/spiffe-bundle.ts'
import { type EnvoyLoadContext, loadBootstrap } from '../../xds-client/envoy/load.ts'
import { Authority, encryptedKey } from '../support/certificates.ts'
import { managerOf } from '../support/chains.ts'
import { FAKE_FILTERS } from './fake-filters.ts'

const TYPE = 'type.googleapis.com/'
const TLS = `${TYPE}envoy.extensions.transport_sockets.tls.v3.`
const HTTP = `${TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`
const OPTIONS = `${TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions`

const authority = await Authority.create()
const server = await authority.issue({ dns: ['a.example'] })
const other = await authority.issue({ dns: ['b.example'] })
const crl = await authority.revoke(other)

const FILES: { readonly [path: string]: string } = {
  '/tls/server.crt': server.chain,
  '/tls/server.key': server.key,
  '/tls/other.key': other.key,
  '/tls/locked.key': encryptedKey(server, 'open sesame'),
  '/tls/ca.crt': authority.pem,
  '/tls/other-ca.crt': (await Authority.create('CN=Other')).pem,
  '/tls/crl.pem': crl,
  '/tls/empty': '',
  '/tls/garbage': 'no PEM',
}

const registry = createProtoRegistry()
const context: EnvoyLoadContext = {
  registry,
  rules: new RuleChecker(registry),
  filters: FAKE_FILTERS,
  networkFilters: new Map(),
  listenerFilters: new Map(),
  tlsFormats: { pkcs12: openPkcs12, trustBundles: parseTrustBundles },
  checks: {
    format: () => undefined,
    pathTemplate: () => undefined,
    pathTemplateRewrite: () => undefined,
    tls: checkTls,
  },
  readFile(path) {
    if (FILES[path] === undefined) throw new Error('no such file')
    return Buffer.from(FILES[path])
  },
  environment: (name) => (name === 'KEY' ? server.key : name === 'PASSWORD' ? 'open sesame' : undefined),
}

interface Parts {
  readonly chain?: JsonObject
  readonly http?: JsonObject
  readonly cluster?: JsonObject
}

function bootstrap({ chain = {}, http = {}, cluster = {} }: Parts): string {
  const router = { '@type': `${TYPE}envoy.extensions.filters.http.router.v3.Router` }
  const hcm = { '@type': HTTP, stat_prefix: 's', route_config: {}, http_filters: [{ name: 'r', typed_config: router }] }
  const address = { socket_address: { address: '127.0.0.1', port_value: 80 } }
  const filters = [{ name: 'hcm', typed_config: { ...hcm, ...http } }]
  const listener = { name: 'l', address, filter_chains: [{ filters, ...chain }] }
  return JSON.stringify({ static_resources: { listeners: [listener], clusters: [{ name: 'c', ...cluster }] } }, null, 1)
}

function load(parts: Parts, using = context): ReturnType<typeof loadBootstrap> {
  return loadBootstrap(parseConfigText(bootstrap(parts), 'config.yaml'), using)
}

const PREFIXES = /static_resources\.(?:listeners\[0\]\.filter_chains\[0\]|clusters\[0\])\.?/
const SHORT = /(?:filters\[0\]|transport_socket)\.typed_config\.?|typed_extension_protocol_options\["o"\]\./

/** Mistakes as `path: message`, without the part of the path that leads to the message under test. */
function mistakes(parts: Parts, using = context): string[] {
  try {
    load(parts, using)
    return []
  } catch (error) {
    if (!(error instanceof ConfigRefused)) throw error
    return error.errors.map(({ path, message }) => `${path.replace(PREFIXES, '').replace(SHORT, '')}: ${message}`)
  }
}

function ignored(parts: Parts): string[] {
  return load(parts).ignored.map((path) => path.replace(PREFIXES, '').replace(SHORT, ''))
}

function downstream(fields: JsonObject): Parts {
  const typed_config = { '@type': `${TLS}DownstreamTlsContext`, ...fields }
  return { chain: { transport_socket: { name: 'tls', typed_config } } }
}

function upstream(fields: JsonObject, cluster: JsonObject = {}): Parts {
  const typed_config = { '@type': `${TLS}UpstreamTlsContext`, ...fields }
  return { cluster: { ...cluster, transport_socket: { name: 'tls', typed_config } } }
}

const CERTIFICATE: JsonObject = {
  certificate_chain: { filename: '/tls/server.crt' },
  private_key: { filename: '/tls/server.key' },
}

/** A server's context with this in its common part. */
function common(fields: JsonObject): Parts {
  return downstream({ common_tls_context: { tls_certificates: [CERTIFICATE], ...fields } })
}

function certificate(fields: JsonObject): Parts {
  return common({ tls_certificates: [fields] })
}

function serverTls(parts: Parts): DownstreamTlsConfig {
  const { tls } = load(parts).listeners[0].filterChains[0]
  if (tls === undefined) throw new Error('no TLS')
  return tls
}

function clientTls(parts: Parts): UpstreamTlsConfig {
  const { tls } = load(parts).clusters[0]
  if (tls === undefined) throw new Error('no TLS')
  return tls
}

function options(fields: JsonObject): JsonObject {
  return { typed_extension_protocol_options: { o: { '@type': OPTIONS, ...fields } } }
}

function http2(fields: JsonObject): Parts {
  return { http: { http2_protocol_options: fields } }
}

const settings = (...list: (readonly [identifier: number, value: number])[]): Parts =>
  http2({ custom_settings_parameters: list.map(([identifier, value]) => ({ identifier, value })) })

t.test('fields of HTTP/2 that are out of their range are refused, each at its place', async (t) => {
  const cases: readonly (readonly [field: string, value: Json, message: RegExp])[] = [
    ['max_concurrent_streams', 0, /range \[1, 2147483647\]/],
    ['max_concurrent_streams', 2_147_483_648, /range \[1, 2147483647\]/],
    ['initial_stream_window_size', 65_534, /65535/],
    ['initial_stream_window_size', 2_147_483_648, /2147483647/],
    ['initial_connection_window_size', 65_534, /65535/],
    ['max_outbound_frames', 0, /greater than or equal to 1/],
    ['max_outbound_control_frames', 0, /greater than or equal to 1/],
    ['max_inbound_window_update_frames_per_data_frame_sent', 0, /greater than or equal to 1/],
    ['hpack_table_size', -1, /between 0 and/],
    ['max_header_field_size_kb', 64, /must not exceed the limit of all headers, 60$/],
    ['max_header_field_size_kb', 257, /256/],
    ['disallow_obs_text', true, /is not available$/],
  ]
  for (const [field, value, message] of cases) {
    const [first, ...rest] = mistakes(http2({ [field]: value }))
    t.match(first, new RegExp(`^http2_protocol_options\\.${field}: `), `${field} ${value}`)
    t.match(first, message, `${field} ${value}`)
    t.same(rest, [], `${field} ${value}`)
  }
  t.match(mistakes(http2({ connection_keepalive: { interval: '1s' } })), [
    /^http2_protocol_options\.connection_keepalive\.timeout: .*required/,
  ])
  t.match(mistakes(http2({ connection_keepalive: { timeout: '0s' } })), [/connection_keepalive\.timeout: /])
  t.match(mistakes(http2({ connection_keepalive: { timeout: '1s', interval_jitter: { value: 101 } } })), [
    /connection_keepalive\.interval_jitter\.value: .*100/,
  ])
})

t.test('custom settings follow the rules of Envoy', async (t) => {
  const at = 'http2_protocol_options.custom_settings_parameters'
  t.same(mistakes(settings([0xf000, 1], [0xf000, 2])), [`${at}[1].value: setting 61440 is 1 already`])
  t.same(mistakes(settings([2, 1])), [`${at}[0].value: server push is not available`])
  t.same(mistakes(settings([5, 65_536])), [`${at}[0].identifier: the size of frames cannot be set`])
  t.same(mistakes(settings([8, 1])), [`${at}[0].identifier: the CONNECT protocol is set by allow_connect`])
  t.same(mistakes(settings([9, 2])), [`${at}[0].value: must be 0 or 1, is 2`])
  t.same(mistakes(settings([3, 0])), [`${at}[0].value: must be 1 to 2147483647, is 0`])
  t.same(mistakes(settings([4, 1])), [`${at}[0].value: must be 65535 to 2147483647, is 1`])
  t.match(mistakes(settings([65_536, 1])), [/\[0\]\.identifier: .*65535/])
  t.match(mistakes(http2({ custom_settings_parameters: [{ identifier: 9 }] })), [/\[0\]\.value: .*required/])
  const both: Parts = http2({
    max_concurrent_streams: 5,
    custom_settings_parameters: [{ identifier: 3, value: 5 }],
  })
  t.same(mistakes(both), [`${at}[0].identifier: setting 3 is set by max_concurrent_streams already`])
  const { http2: read } = managerOf(load(settings([1, 0], [3, 9], [4, 70_000], [2, 0], [77, 8])).listeners[0])
  t.match(read, { hpackTableBytes: 0, maxConcurrentStreams: 9, initialStreamWindowBytes: 70_000 })
  t.same(read.customSettings, [{ id: 77, value: 8 }])
})

t.test('which invalid messages end a stream alone is decided in the order of Envoy', async (t) => {
  const read = (http: JsonObject): boolean => managerOf(load({ http }).listeners[0]).http2.streamErrorOnInvalidMessage
  const override = 'override_stream_error_on_invalid_http_message'
  const deprecated = 'stream_error_on_invalid_http_messaging'
  const manager = 'stream_error_on_invalid_http_message'
  t.equal(read({}), false)
  t.equal(read({ [manager]: true }), true)
  t.equal(read({ http2_protocol_options: { [deprecated]: true } }), true)
  t.equal(read({ [manager]: false, http2_protocol_options: { [deprecated]: true } }), false)
  t.equal(read({ [manager]: true, http2_protocol_options: { [override]: false } }), false)
  t.equal(read({ [manager]: false, http2_protocol_options: { [override]: true } }), true)
})

t.test('what has no effect in HTTP/2 is reported, not refused', async (t) => {
  const fields = ['allow_metadata', 'use_oghttp2_codec', 'enable_huffman_encoding']
  const numbers = ['max_metadata_size', 'stream_reset_burst', 'stream_reset_rate']
  const set = [...fields.map((field) => [field, true]), ...numbers.map((field) => [field, 5])]
  t.same(
    ignored(http2(Object.fromEntries(set) as JsonObject)).sort(),
    [...fields, ...numbers].map((field) => `http2_protocol_options.${field}`).sort(),
  )
})

t.test('upgrades and CONNECT that need what is not there are refused', async (t) => {
  const router = { name: 'r', typed_config: { '@type': `${TYPE}envoy.extensions.filters.http.router.v3.Router` } }
  t.match(mistakes({ http: { upgrade_configs: [{ upgrade_type: 'websocket', filters: [router] }] } }), [
    /^upgrade_configs\[0\]\.filters: a filter chain of its own is not available$/,
  ])
  const route = {
    match: { connect_matcher: {} },
    route: { cluster: 'c', upgrade_configs: [{ upgrade_type: 'websocket', connect_config: {} }] },
  }
  const route_config = { virtual_hosts: [{ name: 'v', domains: ['*'], routes: [route] }] }
  t.match(mistakes({ http: { route_config } }), [
    /\.upgrade_configs\[0\]\.connect_config: belongs to the upgrade CONNECT, this one is "websocket"$/,
  ])
  t.match(mistakes({ http: { codec_type: 'HTTP3' } }), [/^codec_type: HTTP3 cannot be used/])
  t.match(mistakes({ http: { common_http_protocol_options: { max_response_headers_kb: 5 } } }), [
    /^common_http_protocol_options\.max_response_headers_kb: belongs to clusters$/,
  ])
})

t.test('the protocol options of a cluster that cannot be honoured are refused', async (t) => {
  const refused = (cluster: JsonObject): string[] => mistakes({ cluster })
  t.same(refused(options({ auto_config: {} })), [
    'auto_config: needs a TLS transport socket: the protocol is chosen by ALPN',
  ])
  t.match(refused(options({ explicit_http_config: { http3_protocol_options: {} } })), [/http3_protocol_options: /])
  t.match(mistakes(upstream({}, options({ auto_config: { http3_protocol_options: {} } }))), [
    /^auto_config\.http3_protocol_options: upstream: HTTP\/3/,
  ])
  t.same(refused({ http_protocol_options: {}, http2_protocol_options: {} }), [
    'http2_protocol_options: excludes http_protocol_options unless the downstream protocol is used',
  ])
  const names = { override_auto_sni_header: 'x-sni' }
  t.match(
    refused(options({ explicit_http_config: { http_protocol_options: {} }, upstream_http_protocol_options: names })),
    [/^upstream_http_protocol_options\.override_auto_sni_header: /],
  )
  t.match(refused({ preconnect_policy: { per_upstream_preconnect_ratio: 0.5 } }), [/per_upstream_preconnect_ratio: /])
  t.match(refused({ preconnect_policy: { per_upstream_preconnect_ratio: 3.5 } }), [/per_upstream_preconnect_ratio: /])
  const h2 = { http2_protocol_options: { max_header_field_size_kb: 64 } }
  t.match(refused(options({ explicit_http_config: h2 })), [/max_header_field_size_kb: .* 60$/])
})

t.test('the name of a request is that of SNI where a cluster says so, and is verified', async (t) => {
  const trusting = { common_tls_context: { validation_context: { trusted_ca: { filename: '/tls/ca.crt' } } } }
  const auto = (fields: JsonObject): JsonObject => ({ upstream_http_protocol_options: fields })
  t.match(clientTls(upstream({ sni: 'x' }, auto({ auto_sni: true }))), {
    autoSni: 'authority',
    autoSanValidation: false,
  })
  t.match(
    clientTls(upstream({ ...trusting, auto_host_sni: true }, auto({ auto_sni: true, auto_san_validation: true }))),
    {
      autoSni: 'authority',
      autoSanValidation: true,
    },
  )
  t.match(clientTls(upstream({ auto_host_sni: true }, auto({}))), { autoSni: 'host', autoSanValidation: false })
  t.same(mistakes(upstream({}, auto({ auto_sni: true, auto_san_validation: true }))), [
    'upstream_http_protocol_options.auto_san_validation: needs a validation_context with trusted_ca or system_root_certs',
  ])
  t.same(mistakes(upstream({ ...trusting, sni: 'x' }, auto({ auto_san_validation: true }))), [
    'upstream_http_protocol_options.auto_san_validation: needs auto_sni',
  ])
  t.same(mistakes(upstream({ auto_sni_san_validation: true, sni: 'x' })), [
    'auto_sni_san_validation: needs a validation_context with trusted_ca or system_root_certs',
  ])
  t.same(ignored({ cluster: auto({ auto_sni: true }) }), ['upstream_http_protocol_options.auto_sni'])
  const nameless = upstream({ ...trusting, auto_sni_san_validation: true })
  t.same(mistakes(nameless), ['transport_socket: auto_sni_san_validation needs a name: sni, auto_host_sni or auto_sni'])
  t.match(clientTls(upstream({ ...trusting, auto_sni_san_validation: true }, auto({ auto_sni: true }))), {
    autoSni: 'authority',
    autoSanValidation: true,
  })
  const match_typed_subject_alt_names = [{ san_type: 'DNS', matcher: { exact: 'a' } }]
  const validation_context = { trusted_ca: { filename: '/tls/ca.crt' }, match_typed_subject_alt_names }
  t.match(
    clientTls(upstream({ auto_sni_san_validation: true, common_tls_context: { validation_context } })),
    { autoSanValidation: true, validation: { sans: [{ type: 'dns' }] } },
    'the names that are listed hold where none is sent',
  )
})

t.test("Envoy's defaults hold for what TLS contexts do not say", async (t) => {
  t.same(serverTls(common({})), {
    certificates: [{ certificateChain: server.chain, privateKey: server.key }],
    alpn: [],
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    groups: ['X25519MLKEM768', 'X25519', 'P-256'],
    requireClientCertificate: false,
    handshakeTimeoutMs: 10_000,
    sessionTickets: true,
  })
  t.same(clientTls(upstream({})), {
    certificates: [],
    alpn: [],
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    groups: ['X25519MLKEM768', 'X25519', 'P-256'],
    sni: '',
    autoSni: 'none',
    autoSanValidation: false,
    maxSessionKeys: 1,
  })
  t.equal(load({}).listeners[0].filterChains[0].tls, undefined)
  t.equal(load({}).clusters[0].tls, undefined)
})

t.test('material comes from files, variables and the configuration itself', async (t) => {
  const { certificates, validation } = serverTls(
    common({
      tls_certificates: [
        { certificate_chain: { inline_string: server.chain }, private_key: { environment_variable: 'KEY' } },
        {
          certificate_chain: { inline_bytes: Buffer.from(server.chain).toString('base64') },
          private_key: { filename: '/tls/locked.key' },
          password: { environment_variable: 'PASSWORD' },
        },
      ],
      validation_context: { trusted_ca: { filename: '/tls/ca.crt' }, crl: { filename: '/tls/crl.pem' } },
    }),
  )
  t.same(certificates, [
    { certificateChain: server.chain, privateKey: server.key },
    { certificateChain: server.chain, privateKey: FILES['/tls/locked.key'], passphrase: 'open sesame' },
  ])
  t.same(validation, { trustedCa: authority.pem, systemRoots: false, sans: [], acceptUntrusted: false, crl })
})

t.test('material that cannot be used is refused where it was named', async (t) => {
  const chain = { filename: '/tls/server.crt' }
  const key = { filename: '/tls/server.key' }
  const at = 'common_tls_context.tls_certificates[0]'
  const cases: readonly (readonly [fields: JsonObject, mistake: RegExp])[] = [
    [{ certificate_chain: chain, private_key: { filename: '/tls/other.key' } }, /private_key: does not belong/],
    [
      { certificate_chain: chain, private_key: { filename: '/tls/missing' } },
      /private_key\.filename: cannot read "\/tls\/missing": no such file$/,
    ],
    [
      { certificate_chain: chain, private_key: { environment_variable: 'NONE' } },
      /private_key\.environment_variable: .*"NONE" is not set/,
    ],
    [{ certificate_chain: chain, private_key: { filename: '/tls/garbage' } }, /private_key: cannot be parsed/],
    [{ certificate_chain: chain, private_key: { filename: '/tls/empty' } }, /private_key: is empty$/],
    [{ certificate_chain: chain, private_key: { filename: '/tls/locked.key' } }, /the private key is encrypted$/],
    [
      { certificate_chain: chain, private_key: { filename: '/tls/locked.key' }, password: { inline_string: 'x' } },
      /password: does not open/,
    ],
    [
      { certificate_chain: { filename: '/tls/garbage' }, private_key: key },
      /certificate_chain: holds no PEM certificate$/,
    ],
    [{ certificate_chain: chain }, /private_key: is required$/],
    [{ private_key: key }, /certificate_chain: is required$/],
    [{ pkcs12: { filename: '/tls/garbage' } }, /pkcs12: is no PKCS#12 file/],
    [{ pkcs12: { filename: '/tls/missing' } }, /pkcs12\.filename: cannot read/],
    [{ ...CERTIFICATE, ocsp_staple: { inline_string: 'x' } }, /ocsp_staple: cannot be used/],
    [
      { certificate_chain: chain, private_key_provider: { provider_name: 'hsm' } },
      /private_key_provider: private key providers/,
    ],
    [{ ...CERTIFICATE, tls_params: {} }, /tls_params: /],
  ]
  for (const [fields, mistake] of cases) {
    const found = mistakes(certificate(fields))
    t.equal(found.length, 1, found.join('\n'))
    t.match(found[0], mistake)
    t.ok(found[0]?.startsWith(at), found[0])
  }
  t.same(mistakes(downstream({})), [': a server needs a certificate'])
  t.same(mistakes(common({ tls_certificates: [] })), [
    'common_tls_context.tls_certificates: a server needs a certificate',
  ])
  t.match(mistakes(upstream({ common_tls_context: { tls_certificates: [CERTIFICATE, CERTIFICATE] } })), [
    /^common_tls_context\.tls_certificates: a client presents one certificate/,
  ])
  t.match(mistakes(certificate(CERTIFICATE), { ...context, readFile: undefined }), [/files are not available/, /files/])
})

t.test('a secret that stands where it does not belong is not quoted', async (t) => {
  for (const [fields, expected] of [
    [{ private_key: 'hunter2' }, 'expected an object, got a text'],
    [{ private_key: { inline_bytes: 'hunter2!' } }, 'is not base64: a text'],
    [{ password: 'hunter2' }, 'expected an object, got a text'],
    [{ pkcs12: ['hunter2'] }, 'expected an object, got a list'],
    [{ certificate_chain: 'public' }, 'expected an object, got "public"'],
  ] as [JsonObject, string][]) {
    const found = mistakes(certificate({ ...CERTIFICATE, ...fields })).join()
    t.match(found, expected)
    t.notMatch(found, /hunter2/)
  }
})

t.test('a mistake in TLS names file, line and column', async (t) => {
  const text = bootstrap(certificate({ ...CERTIFICATE, private_key: { filename: '/tls/other.key' } }))
  const line = text.split('\n').findIndex((content) => content.includes('"private_key"')) + 1
  try {
    loadBootstrap(parseConfigText(text, 'config.yaml'), context)
    t.fail('accepted')
  } catch (error) {
    const [mistake] = (error as ConfigRefused).errors
    t.match(mistake.place, { file: 'config.yaml', line })
    t.ok((mistake.place?.column ?? 0) > 1)
    t.notMatch(String(mistake), /BEGIN/)
  }
})

t.test('parameters of TLS are honoured, and refused where the names mean nothing here', async (t) => {
  const parameters = (fields: JsonObject): Parts => common({ tls_params: fields })
  t.match(
    serverTls(
      parameters({
        tls_minimum_protocol_version: 'TLSv1_3',
        tls_maximum_protocol_version: 'TLSv1_3',
        ecdh_curves: ['P-256'],
      }),
    ),
    { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3', groups: ['P-256'] },
  )
  t.match(serverTls(parameters({ tls_maximum_protocol_version: 'TLSv1_2' })), { maxVersion: 'TLSv1.2' })
  t.same(serverTls(parameters({ cipher_suites: ['ECDHE-ECDSA-AES128-GCM-SHA256:AES128-SHA'] })).cipherSuites, [
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'AES128-SHA',
  ])
  t.same(serverTls(parameters({ signature_algorithms: ['ecdsa_secp256r1_sha256'] })).signatureAlgorithms, [
    'ecdsa_secp256r1_sha256',
  ])
  t.same(ignored(parameters({ tls_minimum_protocol_version: 'TLSv1_0' })), [
    'common_tls_context.tls_params.tls_minimum_protocol_version',
  ])
  const fips = serverTls(parameters({ compliance_policies: ['FIPS_202205'], ecdh_curves: ['X25519'] }))
  t.match(fips, { minVersion: 'TLSv1.2', groups: ['P-256', 'P-384'] })
  t.same(fips.cipherSuites?.slice(0, 2), ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384'])
  t.same(ignored(parameters({ compliance_policies: ['FIPS_202205'], ecdh_curves: ['X25519'] })), [
    'common_tls_context.tls_params.ecdh_curves',
  ])
  const cases: readonly (readonly [fields: JsonObject, field: string, message: RegExp])[] = [
    [{ tls_maximum_protocol_version: 'TLSv1_1' }, 'tls_maximum_protocol_version', /not secure/],
    [
      { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_2' },
      'tls_minimum_protocol_version',
      /above the maximum/,
    ],
    [{ cipher_suites: ['ECDHE-NONSENSE'] }, 'cipher_suites', /unknown cipher "ECDHE-NONSENSE"/],
    [{ cipher_suites: ['TLS_AES_128_GCM_SHA256'] }, 'cipher_suites', /suites of TLS 1.3 cannot be chosen/],
    [{ cipher_suites: ['!MD5'] }, 'cipher_suites', /unknown cipher/],
    [{ ecdh_curves: ['P-nonsense'] }, 'ecdh_curves', /unknown group "P-nonsense"/],
    [{ ecdh_curves: ['X25519MLKEM9'] }, 'ecdh_curves', /post-quantum groups came with OpenSSL 3\.5/],
    [{ signature_algorithms: ['rsa_nonsense'] }, 'signature_algorithms', /unknown signature algorithm "rsa_nonsense"/],
    [{ compliance_policies: ['CNSA2_202603'] }, 'compliance_policies', /CNSA2_202603 is not available/],
  ]
  for (const [fields, field, message] of cases) {
    const [first, ...rest] = mistakes(parameters(fields))
    t.match(first, new RegExp(`^common_tls_context\\.tls_params\\.${field}: `))
    t.match(first, message)
    t.same(rest, [])
  }
  t.match(mistakes(common({ alpn_protocols: [''] })), [/^common_tls_context\.alpn_protocols: must be 1 to 255/])
})

t.test('names in certificates are matched by type, and the deprecated list by all types', async (t) => {
  const trusted_ca = { filename: '/tls/ca.crt' }
  const sans = (fields: JsonObject): unknown =>
    serverTls(common({ validation_context: { trusted_ca, ...fields } })).validation?.sans
  t.same(
    sans({
      match_typed_subject_alt_names: [
        { san_type: 'DNS', matcher: { exact: 'a.example' } },
        { san_type: 'IP_ADDRESS', matcher: { prefix: '10.' } },
      ],
      match_subject_alt_names: [{ exact: 'without effect' }],
    }),
    [
      { type: 'dns', match: { kind: 'exact', value: 'a.example' } },
      { type: 'ip', match: { kind: 'prefix', value: '10.' } },
    ],
  )
  const match = { kind: 'suffix', value: '.example' }
  t.same(sans({ match_subject_alt_names: [{ suffix: '.example' }] }), [
    { type: 'dns', match },
    { type: 'uri', match },
    { type: 'email', match },
    { type: 'ip', match },
  ])
})

t.test('a name that is sent and verified replaces the list of names, as in Envoy', async (t) => {
  const match_typed_subject_alt_names = [{ san_type: 'DNS', matcher: { exact: 'other.example' } }]
  const validation_context = { trusted_ca: { filename: '/tls/ca.crt' }, match_typed_subject_alt_names }
  const fields: JsonObject = { auto_sni_san_validation: true, common_tls_context: { validation_context } }
  const named = upstream({ ...fields, sni: 'a.example' })
  t.match(clientTls(named), { autoSanValidation: true, validation: { trustedCa: authority.pem, sans: [] } })
  t.same(ignored(named), ['common_tls_context.validation_context.match_typed_subject_alt_names'])
  // Endpoints need not have names; where they have none, the list is all there is.
  t.equal(clientTls(upstream({ ...fields, auto_host_sni: true })).validation?.sans.length, 1)
})

function spiffeConfig(trust_domains: JsonObject[]): JsonObject {
  return { '@type': `${TLS}SPIFFECertValidatorConfig`, trust_domains }
}

function spiffe(trust_domains: JsonObject[]): JsonObject {
  return { name: 'v', typed_config: spiffeConfig(trust_domains) }
}

t.test('what narrows whom to trust is translated', async (t) => {
  const trusted_ca = { filename: '/tls/ca.crt' }
  const validation = (fields: JsonObject): unknown => serverTls(common({ validation_context: fields })).validation
  const colons = Array.from({ length: 32 }, () => 'AB').join(':')
  const pin = Buffer.alloc(32, 1).toString('base64')
  t.match(validation({ verify_certificate_hash: [colons], verify_certificate_spki: [pin] }), {
    systemRoots: false,
    hashes: ['ab'.repeat(32)],
    spkis: [pin],
  })
  t.match(
    validation({
      trusted_ca,
      max_verify_depth: 3,
      only_verify_leaf_cert_crl: true,
      allow_expired_certificate: true,
      crl: { filename: '/tls/crl.pem' },
      match_typed_subject_alt_names: [{ san_type: 'OTHER_NAME', oid: '1.2.3', matcher: { exact: 'a' } }],
    }),
    {
      maxDepth: 3,
      leafCrlOnly: true,
      allowExpired: true,
      sans: [{ type: 'other', oid: '1.2.3', match: { kind: 'exact', value: 'a' } }],
    },
  )
  t.same(validation({ custom_validator_config: spiffe([{ name: 'td.example', trust_bundle: trusted_ca }]) }), {
    systemRoots: false,
    sans: [],
    acceptUntrusted: false,
    trustDomains: [{ name: 'td.example', trustedCa: authority.pem }],
  })
  const [, der] = authority.pem.split(/-----[^-]*-----/)
  const keys = [{ use: 'x509-svid', x5c: [der.replaceAll('\n', '')] }, { use: 'jwt-svid' }]
  const bundles = (text: string): JsonObject => ({
    custom_validator_config: {
      name: 'v',
      typed_config: { ...spiffeConfig([{ name: 'x' }]), trust_bundles: { inline_string: text } },
    },
  })
  t.match(validation(bundles(JSON.stringify({ trust_domains: { 'td.example': { keys } } }))), {
    trustDomains: [{ name: 'td.example', trustedCa: authority.pem }],
  })
  for (const text of [
    '{',
    '{}',
    '{"trust_domains":{"a":{}}}',
    '{"trust_domains":{"a":{"keys":[{"use":"x509-svid"}]}}}',
  ]) {
    t.match(mistakes(common({ validation_context: bundles(text) })), [/trust_bundles: /], text)
  }
})

t.test('a validation that cannot be honoured is refused: it would let others in', async (t) => {
  const trusted_ca = { filename: '/tls/ca.crt' }
  const hash = 'a'.repeat(64)
  const cases: readonly (readonly [fields: JsonObject, field: string])[] = [
    [
      {
        verify_certificate_hash: [hash],
        match_typed_subject_alt_names: [{ san_type: 'DNS', matcher: { exact: 'a' } }],
      },
      'match_typed_subject_alt_names',
    ],
    [{ trusted_ca, verify_certificate_hash: ['g'.repeat(64)] }, 'verify_certificate_hash'],
    [{ trusted_ca, verify_certificate_spki: ['a'.repeat(44)] }, 'verify_certificate_spki'],
    [
      {
        trusted_ca: { filename: '/tls/other-ca.crt' },
        only_verify_leaf_cert_crl: true,
        crl: { filename: '/tls/crl.pem' },
      },
      'crl',
    ],
    [{ trusted_ca, require_signed_certificate_timestamp: true }, 'require_signed_certificate_timestamp'],
    [
      { trusted_ca, custom_validator_config: spiffe([{ name: 'd' }]) },
      'custom_validator_config.typed_config.trust_domains[0].trust_bundle',
    ],
    [
      { custom_validator_config: { name: 'v', typed_config: { '@type': `${TLS}UpstreamTlsContext` } } },
      'custom_validator_config',
    ],
    [{ ca_certificate_provider_instance: { instance_name: 'i' } }, 'ca_certificate_provider_instance'],
    [{ match_subject_alt_names: [{ exact: 'a' }] }, 'match_subject_alt_names'],
    [
      { match_typed_subject_alt_names: [{ san_type: 'DNS', matcher: { exact: 'a' } }] },
      'match_typed_subject_alt_names',
    ],
    [
      { trusted_ca, match_typed_subject_alt_names: [{ san_type: 'DNS', oid: '1.2', matcher: { exact: 'a' } }] },
      'match_typed_subject_alt_names[0].oid',
    ],
    [{ crl: { filename: '/tls/crl.pem' } }, 'crl'],
    [{ trusted_ca, crl: { filename: '/tls/ca.crt' } }, 'crl'],
    [{ trusted_ca: { filename: '/tls/garbage' } }, 'trusted_ca'],
    [{ trusted_ca: { filename: '/tls/empty' } }, 'trusted_ca'],
    [{ trusted_ca: { filename: '/tls/missing' } }, 'trusted_ca.filename'],
  ]
  for (const [fields, field] of cases) {
    const found = mistakes(common({ validation_context: fields }))
    t.equal(found.length, 1, found.join('\n'))
    t.ok(found[0]?.startsWith(`common_tls_context.validation_context.${field}: `), found[0])
  }
})

t.test('sources of certificates that are not there are refused by name', async (t) => {
  const sds = { name: 's', sds_config: { ads: {} } }
  const plugin = { instance_name: 'i' }
  const cases: readonly (readonly [fields: JsonObject, field: string])[] = [
    [
      { tls_certificates: [], tls_certificate_sds_secret_configs: [sds] },
      'tls_certificate_sds_secret_configs[0].sds_config.ads',
    ],
    [{ validation_context_sds_secret_config: sds }, 'validation_context_sds_secret_config.sds_config.ads'],
    [
      { combined_validation_context: { default_validation_context: {}, validation_context_sds_secret_config: sds } },
      'combined_validation_context.validation_context_sds_secret_config.sds_config.ads',
    ],
    [{ tls_certificates: [], tls_certificate_provider_instance: plugin }, 'tls_certificate_provider_instance'],
    [
      { custom_handshaker: { name: 'h', typed_config: { '@type': `${TYPE}google.protobuf.Struct`, value: {} } } },
      'custom_handshaker',
    ],
  ]
  for (const [fields, field] of cases) {
    const found = mistakes(common(fields))
    t.equal(found.length, 1, found.join('\n'))
    t.ok(found[0]?.startsWith(`common_tls_context.${field}: `), found[0])
  }
})

t.test('a server that demands certificates without authorities takes any, which proves nothing', async (t) => {
  const context = { tls_certificates: [CERTIFICATE] }
  t.match(serverTls(downstream({ require_client_certificate: true, common_tls_context: context })), {
    requireClientCertificate: true,
    validation: { systemRoots: false, sans: [], acceptUntrusted: true },
  })
  const trusting = { ...context, validation_context: { trusted_ca: { filename: '/tls/ca.crt' } } }
  t.match(serverTls(downstream({ require_client_certificate: true, common_tls_context: trusting })), {
    requireClientCertificate: true,
    validation: { trustedCa: authority.pem, acceptUntrusted: false },
  })
  const untrusted = { ...trusting.validation_context, trust_chain_verification: 'ACCEPT_UNTRUSTED' }
  t.match(serverTls(common({ validation_context: untrusted })), {
    requireClientCertificate: false,
    validation: { acceptUntrusted: true },
  })
})

t.test(
  'settings of a server are honoured, reported where harmless, and refused where they decide whom to let in',
  async (t) => {
    const rest = { common_tls_context: { tls_certificates: [CERTIFICATE] } }
    t.equal(serverTls(downstream({ ...rest, disable_stateless_session_resumption: true })).sessionTickets, false)
    t.same(ignored(downstream({ ...rest, disable_stateful_session_resumption: true })), [])
    const key = Buffer.alloc(80, 1).toString('base64')
    t.match(
      serverTls(
        downstream({
          ...rest,
          session_timeout: '60.5s',
          full_scan_certs_on_sni_mismatch: true,
          prefer_client_ciphers: true,
          session_ticket_keys: { keys: [{ inline_bytes: key }] },
          require_sni: true,
          ocsp_staple_policy: 'STRICT_STAPLING',
        }),
      ),
      {
        sessionTimeoutS: 61,
        fullScan: true,
        preferClientCiphers: true,
        ticketKeys: [key],
        requireSni: true,
        ocspPolicy: 'strict',
      },
    )
    const range = { address_prefix: '10.0.0.0', prefix_len: 8 }
    t.match(serverTls(common({ key_log: { path: '/tmp/keys', local_address_range: [range] } })).keyLog, {
      path: '/tmp/keys',
      localRanges: [{ address: '10.0.0.0', prefixLength: 8 }],
      remoteRanges: [],
    })
    t.match(mistakes(downstream({ ...rest, session_ticket_keys: { keys: [{ inline_string: 'short' }] } })), [
      /^session_ticket_keys: is 5 bytes long; must be 80/,
    ])
    t.match(mistakes(downstream({ ...rest, ocsp_staple_policy: 'MUST_STAPLE' })), [
      /^common_tls_context\.tls_certificates\[0\]\.ocsp_staple: is missing, and the policy demands one/,
    ])
    t.match(mistakes(upstream({ allow_renegotiation: true })), [/^allow_renegotiation: /])
    t.match(mistakes(upstream({ sni: 'a\0b' })), [/^sni: must not contain NUL$/])
    t.match(mistakes(upstream({ sni: 'a'.repeat(256) })), [/^sni: /])
    const chain = { ...downstream(rest).chain, transport_socket_connect_timeout: '3s' }
    t.match(load({ chain }).listeners[0].filterChains[0], {
      tls: { handshakeTimeoutMs: 3000 },
      transportConnectTimeoutMs: 3000,
    })
    const never = { ...chain, transport_socket_connect_timeout: '0s' }
    t.match(load({ chain: never }).listeners[0].filterChains[0], { tls: { handshakeTimeoutMs: 10_000 } })
  },
)

t.test('what is told of client certificates is translated, whatever certificates the chain asks for', async (t) => {
  const told = (http: JsonObject): unknown => {
    return managerOf(load({ http }).listeners[0]).clientCertificateHeader
  }
  t.equal(told({}), undefined)
  t.equal(told({ forward_client_cert_details: 'SANITIZE', set_current_client_cert_details: { uri: true } }), undefined)
  const details = { dns: true, uri: true, issuer: true, subject: true, chain: true, cert: true }
  const fields = ['cert', 'chain', 'subject', 'issuer', 'uri', 'dns']
  for (const [mode, expected] of [
    ['FORWARD_ONLY', 'forward-only'],
    ['APPEND_FORWARD', 'append-forward'],
    ['SANITIZE_SET', 'sanitize-set'],
    ['ALWAYS_FORWARD_ONLY', 'always-forward-only'],
  ]) {
    t.same(told({ forward_client_cert_details: mode }), { mode: expected, fields: [] })
    const http = { forward_client_cert_details: mode, set_current_client_cert_details: details }
    t.same(told(http), { mode: expected, fields })
  }
  const json = { forward_client_cert_details: 'SANITIZE_SET', set_current_client_cert_details: { format: 'JSON' } }
  t.same(told(json), { mode: 'sanitize-set', fields: [], format: 'json' })
  t.match(mistakes({ http: { forward_client_cert_matcher: { matcher_tree: {} } } }), [/forward_client_cert_matcher/])
  const action = (type: string, rest: JsonObject): JsonObject => ({
    action: { name: 'a', typed_config: { '@type': `${TYPE}${type}`, ...rest } },
  })
  const manager = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'
  const set = action(`${manager}.ForwardClientCertConfig`, json)
  t.same(told({ forward_client_cert_matcher: { on_no_match: set } }), {
    mode: 'sanitize',
    fields: [],
    byRequest: { onNoMatch: { action: { mode: 'sanitize-set', fields: [], format: 'json' } } },
  })
  const wrong = { forward_client_cert_matcher: { on_no_match: action('google.protobuf.StringValue', { value: 'x' }) } }
  t.match(mistakes({ http: wrong }), [/typed_config: must be a .*ForwardClientCertConfig, is "google.protobuf/])
})

t.test('other transport sockets are refused by name', async (t) => {
  const socket = (type: string, rest: JsonObject = {}): JsonObject => ({
    transport_socket: { name: 's', typed_config: { '@type': type, ...rest } },
  })
  t.match(mistakes({ chain: socket(`${TLS}UpstreamTlsContext`) }), [/cannot be used: it belongs to the other side/])
  t.match(mistakes({ cluster: socket(`${TLS}DownstreamTlsContext`) }), [/cannot be used: it belongs to the other side/])
  const quic = 'envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport'
  t.match(mistakes({ chain: socket(`${TYPE}${quic}`, { downstream_tls_context: {} }) }), [/QUIC/])
  const matches = [{ name: 'm', match: {}, ...socket(`${TLS}UpstreamTlsContext`) }]
  t.match(mistakes({ cluster: { transport_socket_matches: [...matches, ...matches] } }), [
    /^transport_socket_matches\[1\]\.name: "m" is the name of an earlier match$/,
  ])
  t.match(mistakes({ cluster: { transport_socket_matches: [{ name: 'n', ...socket(`${TYPE}${quic}`) }] } }), [
    /^transport_socket_matches\[0\]\.transport_socket: .*QUIC/,
  ])
})
