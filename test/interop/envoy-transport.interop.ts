import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parseConfigText } from '../../lib/config/parse.ts'
import { ConfigRefused, type Json, type JsonObject } from '../../lib/core/errors.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { RuleChecker } from '../../lib/proto/rules.ts'
import { checkTls } from '../../lib/tls/check.ts'
import { loadBootstrap } from '../../xds-client/envoy/load.ts'
import { Authority, encryptedKey, type Issued } from '../support/certificates.ts'
import { FAKE_FILTERS } from '../xds-client/fake-filters.ts'
import { validateWithEnvoy } from './envoy/processes.ts'
import { findProgram, missing } from './programs.ts'

/*
 * Envoy and Headgate judge the same configurations of TLS and HTTP/2. Where they differ it is written down here, and the
 * reason among the decisions of xds-client/README.md.
 */

t.setTimeout(120_000)

/** Who takes a configuration. */
type Taken = 'both' | 'none' | 'envoy' | 'headgate'
type Cases = { readonly [name: string]: readonly [Taken, JsonObject] }

const TYPE = 'type.googleapis.com/'
const TLS = `${TYPE}envoy.extensions.transport_sockets.tls.v3.`
const OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'
const MANAGER = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'

const authority = await Authority.create()
const server = await authority.issue({ dns: ['a.example'] })
const rsa = await authority.issue({ dns: ['a.example'], key: 'rsa' })
const weak = await authority.issue({ key: 'rsa', bits: 1024 })
const other = await authority.issue({ dns: ['b.example'] })

const inline = (text: string): JsonObject => ({ inline_string: text })
const pair = ({ chain, key }: Issued): JsonObject => ({ certificate_chain: inline(chain), private_key: inline(key) })
const CERTIFICATE = pair(server)
const TRUSTED: JsonObject = { trusted_ca: inline(authority.pem) }
const BROKEN = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'

function bootstrap(parts: { readonly chain?: JsonObject; readonly http?: JsonObject; readonly cluster?: JsonObject }) {
  const router = { '@type': `${TYPE}envoy.extensions.filters.http.router.v3.Router` }
  const http_filters = [{ name: 'router', typed_config: router }]
  const typed_config = { '@type': `${TYPE}${MANAGER}`, stat_prefix: 's', route_config: {}, http_filters, ...parts.http }
  const address = { socket_address: { address: '127.0.0.1', port_value: 0 } }
  const filter_chains = [{ filters: [{ name: 'manager', typed_config }], ...parts.chain }]
  const listeners = [{ name: 'l', address, filter_chains }]
  return { static_resources: { listeners, clusters: [{ name: 'c', ...parts.cluster }] } } satisfies JsonObject
}

function socket(context: 'Downstream' | 'Upstream', fields: JsonObject): JsonObject {
  return { transport_socket: { name: 'tls', typed_config: { '@type': `${TLS}${context}TlsContext`, ...fields } } }
}

const listener = (fields: JsonObject): JsonObject => bootstrap({ chain: socket('Downstream', fields) })
const common = (fields: JsonObject, more: JsonObject = {}): JsonObject =>
  listener({ common_tls_context: { tls_certificates: [CERTIFICATE], ...fields }, ...more })
const certificate = (fields: JsonObject): JsonObject => common({ tls_certificates: [fields] })
const parameters = (tls_params: JsonObject): JsonObject => common({ tls_params })
const suites = (...cipher_suites: string[]): JsonObject => parameters({ cipher_suites })
const curves = (...ecdh_curves: string[]): JsonObject => parameters({ ecdh_curves })
const validation = (validation_context: JsonObject): JsonObject => common({ validation_context })
const trusted = (more: JsonObject): JsonObject => validation({ ...TRUSTED, ...more })
const authorities = (text: string): JsonObject => validation({ trusted_ca: inline(text) })
const san = (entry: JsonObject): JsonObject => trusted({ match_typed_subject_alt_names: [entry] })
const cluster = (common_tls_context: JsonObject, more: JsonObject = {}, around: JsonObject = {}): JsonObject =>
  bootstrap({ cluster: { ...around, ...socket('Upstream', { common_tls_context, ...more }) } })
const verified = (more: JsonObject, around: JsonObject = {}): JsonObject =>
  cluster({ validation_context: TRUSTED }, more, around)
const options = (fields: JsonObject): JsonObject => ({
  typed_extension_protocol_options: { [OPTIONS]: { '@type': `${TYPE}${OPTIONS}`, ...fields } },
})
const names = (upstream_http_protocol_options: JsonObject): JsonObject =>
  options({ explicit_http_config: { http2_protocol_options: {} }, upstream_http_protocol_options })
const http2 = (http2_protocol_options: JsonObject): JsonObject => bootstrap({ http: { http2_protocol_options } })
const setting = (...list: (readonly [number, number])[]): JsonObject =>
  http2({ custom_settings_parameters: list.map(([identifier, value]): Json => ({ identifier, value })) })

const CERTIFICATES: Cases = {
  'a server': ['both', common({})],
  'a server without certificates': ['none', listener({ common_tls_context: {} })],
  'a server without anything': ['none', listener({})],
  'two certificates of one key type': ['both', common({ tls_certificates: [CERTIFICATE, pair(other)] })],
  'two key types of one name': ['both', common({ tls_certificates: [CERTIFICATE, pair(rsa)] })],
  'a short RSA key': ['none', certificate(pair(weak))],
  'a key of another certificate': ['none', certificate({ ...CERTIFICATE, private_key: inline(other.key) })],
  'a locked key': ['none', certificate({ ...CERTIFICATE, private_key: inline(encryptedKey(server, 'x')) })],
  'a locked key with its password': [
    'both',
    certificate({ ...CERTIFICATE, private_key: inline(encryptedKey(server, 'x')), password: inline('x') }),
  ],
  'a locked key with another password': [
    'none',
    certificate({ ...CERTIFICATE, private_key: inline(encryptedKey(server, 'x')), password: inline('y') }),
  ],
  'a password for an open key': ['both', certificate({ ...CERTIFICATE, password: inline('y') })],
  'a chain without a key': ['none', certificate({ certificate_chain: inline(server.chain) })],
  'a key without a chain': ['none', certificate({ private_key: inline(server.key) })],
  'a chain with a broken end': [
    'none',
    certificate({ ...CERTIFICATE, certificate_chain: inline(server.chain + BROKEN) }),
  ],
  'text around certificates': [
    'both',
    certificate({ ...CERTIFICATE, certificate_chain: inline(`Bag\n${server.chain}end`) }),
  ],
}

const PARAMETERS: Cases = {
  'a minimum above the maximum': [
    'envoy',
    parameters({ tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_2' }),
  ],
  'TLS 1.0 as minimum': ['both', parameters({ tls_minimum_protocol_version: 'TLSv1_0' })],
  'TLS 1.1 as maximum': ['envoy', parameters({ tls_maximum_protocol_version: 'TLSv1_1' })],
  'suites with equals': ['both', suites('[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]')],
  'suites by IANA': ['both', suites('TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256')],
  'a DHE suite': ['headgate', suites('DHE-RSA-AES128-GCM-SHA256')],
  'an unknown suite': ['none', suites('ECDHE-RSA-AES128-GCM-SHA256', 'NONSENSE')],
  'a rule for suites': ['envoy', suites('HIGH')],
  '3DES': ['envoy', suites('DES-CBC3-SHA')],
  'a suite of TLS 1.3': ['none', suites('TLS_AES_128_GCM_SHA256')],
  'an empty suite': ['envoy', suites('')],
  'curves by NIST': ['both', curves('X25519', 'P-256', 'P-384', 'P-521')],
  'a hybrid group': ['both', curves('X25519MLKEM768', 'X25519')],
  'a curve by X9.62': ['both', curves('prime256v1')],
  X448: ['headgate', curves('X448')],
  'an unknown curve': ['none', curves('P-999')],
  'two curves in one name': ['envoy', curves('X25519:P-256')],
  'a curve twice': ['headgate', curves('X25519', 'X25519')],
  'ALPN with an empty name': ['envoy', common({ alpn_protocols: [''] })],
  'ALPN with a long name': ['none', common({ alpn_protocols: ['x'.repeat(300)] })],
  'required SNI': ['both', common({}, { require_sni: true })],
  'tickets of a wrong length': ['none', common({}, { session_ticket_keys: { keys: [inline('short')] } })],
}

const VALIDATION: Cases = {
  authorities: ['both', validation(TRUSTED)],
  'no authorities in it': ['none', authorities('garbage')],
  'a broken second authority': ['none', authorities(authority.pem + BROKEN)],
  'an authority without an end': ['none', authorities(authority.pem + authority.pem.slice(0, 150))],
  'no end before an authority': ['none', authorities(`${authority.pem.slice(0, 150)}\n${authority.pem}`)],
  'a comment before an authority': ['both', authorities(`# a - b\n${authority.pem}`)],
  'a key beside an authority': ['both', authorities(authority.pem + server.key)],
  'revocations that are none': ['envoy', trusted({ crl: inline('x') })],
  'names without authorities': ['none', validation({ match_typed_subject_alt_names: [{ matcher: { exact: 'a' } }] })],
  'a name': ['both', san({ san_type: 'DNS', matcher: { exact: 'a' } })],
  'a name without a type': ['none', san({ matcher: { exact: 'a' } })],
  'a name by a broken regex': ['none', san({ san_type: 'DNS', matcher: { safe_regex: { regex: '(' } } })],
  'a name by an empty prefix': ['none', san({ san_type: 'URI', matcher: { prefix: '' } })],
  'an object identifier for a DNS name': ['envoy', san({ san_type: 'DNS', matcher: { exact: 'a' }, oid: '1.2.3' })],
  'anybody accepted': ['both', trusted({ trust_chain_verification: 'ACCEPT_UNTRUSTED' })],
  'expired ones without authorities': ['none', validation({ allow_expired_certificate: true })],
  'expired ones': ['both', trusted({ allow_expired_certificate: true })],
  'a depth of 100': ['both', trusted({ max_verify_depth: 100 })],
  'a depth of 101': ['none', trusted({ max_verify_depth: 101 })],
  'a depth of 1': ['both', trusted({ max_verify_depth: 1 })],
  'certificates required of anybody': ['both', common({}, { require_client_certificate: true })],
}

const UPSTREAM: Cases = {
  'a client': ['both', cluster({})],
  'a client with two certificates': ['none', cluster({ tls_certificates: [CERTIFICATE, pair(rsa)] })],
  'a long name': ['none', cluster({}, { sni: 'x'.repeat(256) })],
  'a name with NUL': ['none', cluster({}, { sni: 'a\0b' })],
  renegotiation: ['envoy', cluster({}, { allow_renegotiation: true })],
  'the SNI validated': ['both', verified({ sni: 'a.example', auto_sni_san_validation: true })],
  'the SNI validated by nobody': ['none', cluster({}, { sni: 'a', auto_sni_san_validation: true })],
  'no SNI validated': ['envoy', verified({ auto_sni_san_validation: true })],
  "the request's name": ['both', verified({}, names({ auto_sni: true, auto_san_validation: true }))],
  "the request's name validated, not sent": ['envoy', verified({}, names({ auto_san_validation: true }))],
  "the request's name validated by nobody": [
    'envoy',
    cluster({}, {}, names({ auto_sni: true, auto_san_validation: true })),
  ],
  'ALPN without TLS': ['none', bootstrap({ cluster: options({ auto_config: {} }) })],
  'ALPN with TLS': ['both', cluster({}, {}, options({ auto_config: {} }))],
  'options without a protocol': ['none', bootstrap({ cluster: options({}) })],
  'the socket of the other side': ['none', bootstrap({ cluster: socket('Downstream', {}) })],
}

const HTTP2: Cases = {
  'no streams': ['none', http2({ max_concurrent_streams: 0 })],
  'all streams': ['both', http2({ max_concurrent_streams: 0x7fff_ffff })],
  'too many streams': ['none', http2({ max_concurrent_streams: 0x8000_0000 })],
  'a small window': ['none', http2({ initial_stream_window_size: 65_534 })],
  'a window too large': ['none', http2({ initial_connection_window_size: 0x8000_0000 })],
  'no table': ['both', http2({ hpack_table_size: 0 })],
  'PINGs without a timeout': ['none', http2({ connection_keepalive: { interval: '1s' } })],
  'PINGs without an interval': ['both', http2({ connection_keepalive: { timeout: '1s' } })],
  'fields larger than all of them': ['none', http2({ max_header_field_size_kb: 100 })],
  'no frames outbound': ['none', http2({ max_outbound_frames: 0 })],
  'no empty frames': ['both', http2({ max_consecutive_inbound_frames_with_empty_payload: 0 })],
  'a setting twice, the same': ['both', setting([99, 1], [99, 1])],
  'a setting twice': ['none', setting([99, 1], [99, 2])],
  push: ['none', setting([2, 1])],
  'no push': ['both', setting([2, 0])],
  'CONNECT by setting': ['none', setting([8, 1])],
  'a setting beyond 16 bits': ['none', setting([65_536, 1])],
  'the size of frames': ['envoy', setting([5, 32_768])],
  'a small window by setting': ['envoy', setting([4, 100])],
  'the table by setting': ['both', setting([1, 100])],
  'no streams by setting': ['envoy', setting([3, 0])],
}

const registry = createProtoRegistry()
const context = {
  registry,
  rules: new RuleChecker(registry),
  filters: FAKE_FILTERS,
  networkFilters: new Map(),
  listenerFilters: new Map(),
  checks: {
    format: () => undefined,
    pathTemplate: () => undefined,
    pathTemplateRewrite: () => undefined,
    tls: checkTls,
  },
}

/** What is wrong; '' where nothing is. */
function refusal(text: string): string {
  try {
    loadBootstrap(parseConfigText(text, 'config.json'), context)
    return ''
  } catch (error) {
    if (!(error instanceof ConfigRefused)) throw error
    return error.errors.map(String).join('\n')
  }
}

const skip = missing(['envoy']) ?? false

for (const [what, cases] of Object.entries({ CERTIFICATES, PARAMETERS, VALIDATION, UPSTREAM, HTTP2 })) {
  t.test(`Envoy and Headgate judge alike: ${what.toLowerCase()}`, { skip }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'headgate-envoy-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const file = join(folder, 'config.json')
    for (const [name, [expected, config]] of Object.entries(cases)) {
      const text = JSON.stringify(config)
      writeFileSync(file, text)
      const { status, said } = await validateWithEnvoy(findProgram('envoy') ?? '', file)
      const ours = refusal(text)
      const found = status === 0 ? (ours === '' ? 'both' : 'envoy') : ours === '' ? 'headgate' : 'none'
      t.equal(found, expected, name, { envoy: said, headgate: ours })
    }
  })
}
