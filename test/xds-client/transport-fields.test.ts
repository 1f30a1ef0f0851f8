import { type DescField, ScalarType } from '@bufbuild/protobuf'
import t from 'tap'
import { parseConfigText } from '../../lib/config/parse.ts'
import { ConfigRefused, type Json, type JsonObject } from '../../lib/core/errors.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { RuleChecker } from '../../lib/proto/rules.ts'
import { checkTls } from '../../lib/tls/check.ts'
import { type EnvoyLoadContext, loadBootstrap } from '../../xds-client/envoy/load.ts'
import { Authority } from '../support/certificates.ts'
import { FAKE_FILTERS } from './fake-filters.ts'

/*
 * Every field of the messages that decide about TLS and HTTP/2 is set, one after the other: it must change the intermediate
 * representation, or be refused, or be reported. A field that a new version of the API brings fails here until somebody
 * has decided about it.
 */

const TYPE = 'type.googleapis.com/'
const SOCKETS = 'envoy.extensions.transport_sockets.tls.v3.'
const HTTP = `${TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`
const OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'

const authority = await Authority.create()
const server = await authority.issue({ dns: ['a.example'] })
const other = await authority.issue({ dns: ['b.example'] })

const registry = createProtoRegistry()
const context: EnvoyLoadContext = {
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

const pem = (text: string): JsonObject => ({ inline_string: text })
const CERTIFICATE: JsonObject = { certificate_chain: pem(server.chain), private_key: pem(server.key) }
const TRUSTED: JsonObject = { trusted_ca: pem(authority.pem) }
const CONNECTION: JsonObject = { interval: '5s', timeout: '3s' }

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
  return JSON.stringify({ static_resources: { listeners: [listener], clusters: [{ name: 'c', ...cluster }] } })
}

function socket(type: string, fields: JsonObject): JsonObject {
  return { transport_socket: { name: 'tls', typed_config: { '@type': `${TYPE}${SOCKETS}${type}`, ...fields } } }
}

const serverOf = (common: JsonObject, more: JsonObject = {}): Parts => ({
  chain: socket('DownstreamTlsContext', {
    common_tls_context: { tls_certificates: [CERTIFICATE], ...common },
    ...more,
  }),
})
const client = (common: JsonObject, more: JsonObject = {}): Parts => ({
  cluster: socket('UpstreamTlsContext', { common_tls_context: common, ...more }),
})
const protocol = (fields: JsonObject): Parts => ({
  cluster: {
    ...client({ validation_context: TRUSTED }, { sni: 'a.example' }).cluster,
    typed_extension_protocol_options: { o: { '@type': `${TYPE}${OPTIONS}`, ...fields } },
  },
})
const explicit = (http2: JsonObject): JsonObject => ({ explicit_http_config: { http2_protocol_options: http2 } })

/** A message: where it stands, what it has besides the field in question, and values that its fields understand. */
interface Subject {
  readonly type: string
  readonly place: (fields: JsonObject) => Parts
  readonly base: JsonObject
  /** Instead of made-up values; several where one setting needs another, all of which are set at once. */
  readonly values: { readonly [field: string]: Json }
}

const CERTIFICATE_VALUES = { certificate_chain: pem(other.chain), private_key: pem(other.key), password: pem('x') }
const VALIDATION_VALUES = {
  trusted_ca: pem(authority.pem + server.chain),
  crl: pem(await authority.revoke(other)),
  max_verify_depth: 5,
  custom_validator_config: { name: 'x', typed_config: { '@type': `${TYPE}${SOCKETS}UpstreamTlsContext` } },
  verify_certificate_spki: ['NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A='],
  verify_certificate_hash: ['ab'.repeat(32)],
  trust_chain_verification: 'ACCEPT_UNTRUSTED',
  match_typed_subject_alt_names: [{ san_type: 'DNS', matcher: { exact: 'a' } }],
  match_subject_alt_names: [{ exact: 'a' }],
}
const VALIDATOR = { name: 'x', typed_config: { '@type': `${TYPE}${SOCKETS}UpstreamTlsContext` } }
const EXTENSION_VALUES = {
  custom_tls_certificate_selector: VALIDATOR,
  custom_handshaker: VALIDATOR,
  tls_certificate_certificate_provider: VALIDATOR,
  validation_context_certificate_provider: VALIDATOR,
  combined_validation_context: {
    default_validation_context: {},
    validation_context_sds_secret_config: { name: 'x', sds_config: { ads: {} } },
  },
}
const COMMON_VALUES = { alpn_protocols: ['h2'], tls_params: { ecdh_curves: ['X25519'] }, validation_context: TRUSTED }
const PARAMETER_VALUES = {
  tls_minimum_protocol_version: 'TLSv1_3',
  tls_maximum_protocol_version: 'TLSv1_2',
  cipher_suites: ['ECDHE-RSA-AES128-GCM-SHA256'],
  ecdh_curves: ['P-256'],
}
const HTTP2_VALUES = {
  max_header_field_size_kb: 65,
  connection_keepalive: CONNECTION,
  custom_settings_parameters: [{ identifier: 99, value: 1 }],
  initial_stream_window_size: 70_000,
  initial_connection_window_size: 70_000,
}
const KEEPALIVE_VALUES = { interval_jitter: { value: 40 } }
const EXTENSION = { '@type': `${TYPE}${SOCKETS}UpstreamTlsContext` }

const SUBJECTS: readonly Subject[] = [
  {
    type: `${SOCKETS}DownstreamTlsContext`,
    place: (fields) => ({ chain: socket('DownstreamTlsContext', fields) }),
    base: { common_tls_context: { tls_certificates: [CERTIFICATE] } },
    values: {
      common_tls_context: { tls_certificates: [CERTIFICATE], alpn_protocols: ['h2'] },
      ocsp_staple_policy: 'MUST_STAPLE',
      session_ticket_keys: { keys: [pem('x'.repeat(80))] },
    },
  },
  {
    type: `${SOCKETS}UpstreamTlsContext`,
    place: (fields) => ({ cluster: socket('UpstreamTlsContext', fields) }),
    base: { sni: 'a.example', common_tls_context: { validation_context: TRUSTED } },
    values: { sni: 'b.example', common_tls_context: { validation_context: TRUSTED, alpn_protocols: ['h2'] } },
  },
  {
    type: `${SOCKETS}CommonTlsContext`,
    place: (fields) => serverOf(fields),
    base: {},
    values: { ...COMMON_VALUES, ...EXTENSION_VALUES, tls_certificates: [{ ...CERTIFICATE_VALUES, password: pem('') }] },
  },
  {
    type: `${SOCKETS}CommonTlsContext`,
    place: client,
    base: {},
    values: { ...COMMON_VALUES, ...EXTENSION_VALUES, tls_certificates: [CERTIFICATE] },
  },
  {
    type: `${SOCKETS}TlsParameters`,
    place: (tls_params) => serverOf({ tls_params }),
    base: {},
    values: PARAMETER_VALUES,
  },
  {
    type: `${SOCKETS}TlsCertificate`,
    place: (fields) => serverOf({ tls_certificates: [fields] }),
    base: CERTIFICATE,
    values: CERTIFICATE_VALUES,
  },
  {
    type: `${SOCKETS}CertificateValidationContext`,
    place: (validation_context) => serverOf({ validation_context }),
    base: TRUSTED,
    values: VALIDATION_VALUES,
  },
  {
    type: `${SOCKETS}CertificateValidationContext`,
    place: (validation_context) => client({ validation_context }),
    base: {},
    values: { ...VALIDATION_VALUES, crl: pem('x') },
  },
  {
    type: `${SOCKETS}SubjectAltNameMatcher`,
    place: (san) => serverOf({ validation_context: { ...TRUSTED, match_typed_subject_alt_names: [san] } }),
    base: { san_type: 'DNS', matcher: { exact: 'a' } },
    values: { san_type: 'URI', matcher: { exact: 'b' } },
  },
  {
    type: 'envoy.config.core.v3.Http2ProtocolOptions',
    place: (http2_protocol_options) => ({ http: { http2_protocol_options } }),
    base: {},
    values: HTTP2_VALUES,
  },
  {
    type: 'envoy.config.core.v3.Http2ProtocolOptions',
    place: (fields) => protocol(explicit(fields)),
    base: {},
    values: HTTP2_VALUES,
  },
  {
    type: 'envoy.config.core.v3.KeepaliveSettings',
    place: (fields) => protocol(explicit({ connection_keepalive: fields })),
    base: CONNECTION,
    values: KEEPALIVE_VALUES,
  },
  {
    type: 'envoy.config.core.v3.Http1ProtocolOptions',
    place: (http_protocol_options) => ({ http: { http_protocol_options } }),
    base: {},
    values: { allow_absolute_url: false, header_key_format: { proper_case_words: {} } },
  },
  {
    type: 'envoy.config.core.v3.Http1ProtocolOptions',
    place: (fields) => protocol({ explicit_http_config: { http_protocol_options: fields } }),
    base: {},
    values: { allow_absolute_url: false, header_key_format: { proper_case_words: {} } },
  },
  {
    type: 'envoy.config.core.v3.HttpProtocolOptions',
    place: (common_http_protocol_options) => ({ http: { common_http_protocol_options } }),
    base: {},
    values: {},
  },
  {
    type: 'envoy.config.core.v3.HttpProtocolOptions',
    place: (common_http_protocol_options) => protocol({ ...explicit({}), common_http_protocol_options }),
    base: {},
    values: {},
  },
  {
    type: 'envoy.config.core.v3.UpstreamHttpProtocolOptions',
    place: (upstream_http_protocol_options) => protocol({ ...explicit({}), upstream_http_protocol_options }),
    base: { auto_sni: true },
    values: { auto_sni: false },
  },
  {
    type: OPTIONS,
    place: protocol,
    base: explicit({}),
    values: {
      explicit_http_config: { http_protocol_options: {} },
      use_downstream_protocol_config: { http2_protocol_options: {} },
      auto_config: { http2_protocol_options: {} },
      common_http_protocol_options: { idle_timeout: '7s' },
      upstream_http_protocol_options: { auto_sni: true },
      http_filters: [{ name: 'x', typed_config: EXTENSION }],
      header_validation_config: { name: 'x', typed_config: EXTENSION },
      outlier_detection: { error_matcher: { any_match: true } },
    },
  },
  {
    type: 'envoy.config.core.v3.TransportSocket',
    place: (transport_socket) => ({ cluster: { transport_socket } }),
    base: { name: 'x', typed_config: { '@type': `${TYPE}${SOCKETS}UpstreamTlsContext`, sni: 'a' } },
    values: { typed_config: { '@type': `${TYPE}${SOCKETS}UpstreamTlsContext`, sni: 'b' } },
  },
]

/** Fields that rightly change nothing, with the reason. */
const WITHOUT_EFFECT: ReadonlyMap<string, string> = new Map([
  ['envoy.config.core.v3.TransportSocket.name', 'extensions are found by their type'],
  [`${SOCKETS}DownstreamTlsContext.disable_stateful_session_resumption`, 'there is no cache of sessions to switch off'],
  [`${SOCKETS}CertificateValidationContext.system_root_certs`, 'beside trusted_ca it means nothing (Envoy)'],
  [`${SOCKETS}CertificateValidationContext.trust_chain_verification`, 'where nobody is trusted, nothing is verified'],
])

/** Some value other than the default. */
function someValue(field: DescField, depth = 0): Json {
  switch (field.fieldKind) {
    case 'scalar':
      return someScalar(field.scalar)
    case 'enum':
      return field.enum.values[field.enum.values.length - 1].name
    case 'list': {
      if (field.listKind === 'scalar') return [someScalar(field.scalar)]
      if (field.listKind === 'enum') return [field.enum.values[field.enum.values.length - 1].name]
      return [someMessage(field.message, depth)]
    }
    case 'map':
      return { x: field.mapKind === 'scalar' ? someScalar(field.scalar) : field.mapKind === 'message' ? {} : 0 }
    case 'message':
      return someMessage(field.message, depth)
  }
}

function someScalar(type: ScalarType): Json {
  if (type === ScalarType.BOOL) return true
  if (type === ScalarType.STRING) return 'x'
  return type === ScalarType.BYTES ? 'eA==' : 17
}

function someMessage(desc: { readonly typeName: string; readonly fields: readonly DescField[] }, depth: number): Json {
  switch (desc.typeName) {
    case 'google.protobuf.BoolValue':
      return true
    case 'google.protobuf.UInt32Value':
    case 'google.protobuf.UInt64Value':
      return 17
    case 'google.protobuf.Duration':
      return '17s'
    case 'google.protobuf.Struct':
      return {}
    case 'google.protobuf.Any':
      return EXTENSION
  }
  const [first] = desc.fields
  return first === undefined || depth > 3 ? {} : { [first.name]: someValue(first, depth + 1) }
}

interface Answer {
  readonly ir: string
  readonly ignored: readonly string[]
  readonly errors: readonly string[]
}

function answer(parts: Parts): Answer {
  const parsed = parseConfigText(bootstrap(parts), 'config.json')
  try {
    const { source: _, ignored, ...ir } = loadBootstrap(parsed, context)
    return { ir: JSON.stringify(ir), ignored, errors: [] }
  } catch (error) {
    if (!(error instanceof ConfigRefused)) throw error
    return { ir: '', ignored: [], errors: error.errors.map(({ path, message }) => `${path}: ${message}`) }
  }
}

/** By the translation, and not by the schema and its rules, which only say that the value of the test is a bad one. */
function isRefusal(error: string): boolean {
  return !/: (?:value (?:is|must)|expected |unknown field)/.test(error)
}

/** What becomes of a field; undefined: it is taken in silence. */
function fate(subject: Subject, field: DescField, before: Answer): string | undefined {
  const own = Object.hasOwn(subject.values, field.name) ? subject.values[field.name] : undefined
  const siblings = new Set(field.oneof?.fields.map(({ name }) => name) ?? [])
  const kept = Object.fromEntries(Object.entries(subject.base).filter(([name]) => !siblings.has(name)))
  const set = own ?? someValue(field)
  for (const value of field.fieldKind === 'scalar' && set === true ? [true, false] : [set]) {
    const after = answer(subject.place({ ...kept, [field.name]: value }))
    if (after.errors.length > 0)
      return after.errors.some(isRefusal) ? 'refused' : `in error: ${after.errors.join(' | ')}`
    if (after.ir !== before.ir) return 'read'
    if (after.ignored.some((path) => path.includes(field.name))) return 'reported'
  }
  return undefined
}

t.test('no field of TLS or HTTP/2 is taken in silence', async (t) => {
  for (const subject of SUBJECTS) {
    const before = answer(subject.place(subject.base))
    t.same(before.errors, [], `${subject.type}: the base is in order`)
    for (const field of registry.expect(subject.type).fields) {
      const name = `${subject.type}.${field.name}`
      const expected = WITHOUT_EFFECT.has(name) ? /^(?:read|refused|reported|silence)$/ : /^(?:read|refused|reported)$/
      t.match(fate(subject, field, before) ?? 'silence', expected, name)
    }
  }
})

t.test('a further address of an endpoint is one', (t) => {
  const address = { socket_address: { address: '127.0.0.1', port_value: 80 } }
  const endpoints = [{ lb_endpoints: [{ endpoint: { address, additional_addresses: [{}] } }] }]
  const { errors } = answer({ cluster: { load_assignment: { cluster_name: 'c', endpoints } } })
  t.match(errors.join(), /additional_addresses\[0\]\.address: is required/)
  t.end()
})

t.test("TLVs for PROXY headers are the endpoint's, and of their own type", (t) => {
  const address = { socket_address: { address: '127.0.0.1', port_value: 80 } }
  const metadata = (type: string, value: JsonObject): JsonObject => ({
    metadata: {
      typed_filter_metadata: { 'envoy.transport_sockets.proxy_protocol': { '@type': TYPE + type, ...value } },
    },
  })
  const tlvs = metadata('envoy.config.core.v3.PerHostConfig', { added_tlvs: [{ type: 0xe1, value: 'YQ==' }] })
  const at = (group: JsonObject, one: JsonObject): Answer => {
    const endpoints = [{ ...group, lb_endpoints: [{ endpoint: { address }, ...one }] }]
    return answer({ cluster: { load_assignment: { cluster_name: 'c', endpoints } } })
  }
  t.match(at({}, tlvs).ir, '"addedTlvs":[{"type":225,"value":"YQ=="}]')
  t.same(at({}, tlvs).ignored, [])
  const group = at(tlvs, {})
  t.notMatch(group.ir, 'addedTlvs')
  t.match(group.ignored.join(), /endpoints\[0\]\.metadata\.typed_filter_metadata/)
  const other = metadata('google.protobuf.Struct', { value: {} })
  t.match(at({}, other).errors.join(), /must be "envoy.config.core.v3.PerHostConfig", is "google.protobuf.Struct"/)
  const large = metadata('envoy.config.core.v3.PerHostConfig', { added_tlvs: [{ type: 300, value: 'YQ==' }] })
  t.match(at({}, large).errors.join(), /type/)
  t.end()
})
