import t, { type Test } from 'tap'
import type { Json, JsonObject } from '../../lib/core/errors.ts'
import { Findings } from '../../lib/core/errors.ts'
import type { RequestHead } from '../../lib/core/head.ts'
import { Headers } from '../../lib/core/headers.ts'
import { decodeChecked } from '../../lib/proto/decode-checked.ts'
import { createMessageReader } from '../../lib/proto/message-reader.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { RuleChecker } from '../../lib/proto/rules.ts'
import { ConnectionAttributes, type RbacAttributes } from '../../lib/rbac/attributes.ts'
import type { RbacConfig } from '../../lib/rbac/config.ts'
import { compileRbac, type Verdict } from '../../lib/rbac/engine.ts'
import { parseRbacPair } from '../../lib/rbac/parse.ts'
import { denialDetails } from '../../lib/rbac/stats.ts'
import { parseJson } from '../support/chain-driver.ts'
import { connection, peer, tlsInfo } from '../support/peers.ts'

const registry = createProtoRegistry()
const checker = new RuleChecker(registry)
const desc = registry.expect('envoy.extensions.filters.network.rbac.v3.RBAC')
const TYPE = 'type.googleapis.com/'

/** Through the messages of Envoy, as a control plane's configuration comes. */
function parse(fields: JsonObject): { config: RbacConfig | undefined; errors: string[]; ignored: string[] } {
  const json = { stat_prefix: 'p', ...fields }
  const { message, errors } = decodeChecked(registry, checker, { desc, json, path: '' })
  if (message === undefined || errors.length > 0) return { config: undefined, errors: errors.map(String), ignored: [] }
  const findings = new Findings()
  const { reader, finish } = createMessageReader({ registry, findings, desc, message, path: '' })
  reader.string('stat_prefix')
  const config = parseRbacPair(reader, 'rules', 'matcher')
  finish()
  return { config, errors: findings.errors.map(String), ignored: findings.ignored }
}

function engine(fields: JsonObject): (attributes: RbacAttributes) => Verdict {
  const { config, errors } = parse(fields)
  if (config === undefined || errors.length > 0) throw new Error(`refused: ${errors.join('; ')}`)
  t.same(JSON.parse(JSON.stringify(config)), config, 'plain data')
  return compileRbac(config)
}

const ANY: JsonObject = Object.freeze({ any: true })

/** One policy, whose single permission and principal are these. */
function policy(permission: JsonObject, principal: JsonObject = ANY, action = 'ALLOW'): JsonObject {
  return { rules: { action, policies: { p: { permissions: [permission], principals: [principal] } } } }
}

interface Asked {
  readonly head?: Partial<RequestHead>
  readonly headers?: string[]
  readonly connection?: Parameters<typeof connection>[0]
  readonly clientAddress?: string
  readonly metadata?: Record<string, Json>
  readonly state?: Record<string, unknown>
  readonly route?: RbacAttributes['route']
}

/** An HTTP request. */
function request(asked: Asked = {}): RbacAttributes {
  const head = { method: 'GET', scheme: 'https', authority: 'a.example', path: '/', protocol: undefined, ...asked.head }
  return {
    head,
    request: new Headers(asked.headers ?? []),
    connection: connection(asked.connection),
    info: { clientAddress: asked.clientAddress ?? '' },
    metadata: { get: (namespace) => asked.metadata?.[namespace] },
    filterState: { get: (key) => asked.state?.[key] },
    route: asked.route,
  }
}

function permits(t: Test, permission: JsonObject, cases: readonly (readonly [Asked, boolean])[]): void {
  const judge = engine(policy(permission))
  for (const [asked, expected] of cases) {
    t.equal(judge(request(asked)).allowed, expected, `${JSON.stringify(permission)} ${JSON.stringify(asked)}`)
  }
}

function admits(t: Test, principal: JsonObject, cases: readonly (readonly [Asked, boolean])[]): void {
  const judge = engine(policy(ANY, principal))
  for (const [asked, expected] of cases) {
    t.equal(judge(request(asked)).allowed, expected, `${JSON.stringify(principal)} ${JSON.stringify(asked)}`)
  }
}

t.test('rules absent enforce nothing, rules without policies decide by their action alone', async (t) => {
  t.same(parse({}), { config: undefined, errors: [], ignored: [] })
  const verdict = (rules: JsonObject): Verdict => engine({ rules })(request())
  t.same(verdict({}), { allowed: false, policy: '', logHint: undefined })
  t.same(verdict({ action: 'ALLOW' }), { allowed: false, policy: '', logHint: undefined })
  t.same(verdict({ action: 'DENY' }), { allowed: true, policy: '', logHint: undefined })
  t.same(verdict({ action: 'LOG' }), { allowed: true, policy: '', logHint: false })
})

t.test('the first policy by name that matches is the one that is told', async (t) => {
  const rules = (action: string): JsonObject => ({
    rules: {
      action,
      policies: {
        z: { permissions: [ANY], principals: [ANY] },
        b: {
          permissions: [{ header: { name: 'x', string_match: { exact: '1' } } }, { destination_port: 1 }],
          principals: [ANY],
        },
      },
    },
  })
  const allow = engine(rules('ALLOW'))
  t.same(allow(request({ headers: ['x', '1'] })), { allowed: true, policy: 'b', logHint: undefined })
  t.same(allow(request({ connection: { localPort: 1 } })).policy, 'b', 'one permission of several is enough')
  t.same(allow(request()).policy, 'z')
  t.same(engine(rules('DENY'))(request({ headers: ['x', '1'] })), { allowed: false, policy: 'b', logHint: undefined })
  t.same(engine(rules('LOG'))(request()), { allowed: true, policy: 'z', logHint: true })
  t.equal(denialDetails('my policy\t1'), 'rbac_access_denied_matched_policy[my_policy_1]')
  t.equal(denialDetails(''), 'rbac_access_denied_matched_policy[none]')
})

t.test('a policy wants both a permission and a principal', async (t) => {
  const judge = engine(policy({ destination_port: 443 }, { remote_ip: { address_prefix: '10.0.0.0', prefix_len: 8 } }))
  t.equal(judge(request({ clientAddress: '10.1.2.3' })).allowed, true)
  t.equal(judge(request({ clientAddress: '11.1.2.3' })).allowed, false)
  t.equal(judge(request({ clientAddress: '10.1.2.3', connection: { localPort: 80 } })).allowed, false)
})

t.test('permissions ask about headers, paths, destinations and server names', async (t) => {
  permits(t, { header: { name: 'X-A', string_match: { prefix: 'b' } } }, [
    [{ headers: ['x-a', 'bc'] }, true],
    [{ headers: ['x-a', 'c', 'x-a', 'b'] }, true],
    [{ headers: ['x-a', 'c'] }, false],
    [{}, false],
  ])
  permits(t, { header: { name: ':method', string_match: { exact: 'GET' } } }, [
    [{}, true],
    [{ head: { method: 'POST' } }, false],
  ])
  permits(t, { url_path: { path: { exact: '/a' } } }, [
    [{ head: { path: '/a' } }, true],
    [{ head: { path: '/a?b=/a' } }, true],
    [{ head: { path: '/a#b' } }, true],
    [{ head: { path: '/b?/a' } }, false],
  ])
  const template = {
    '@type': `${TYPE}envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig`,
    path_template: '/v1/{id}/**',
  }
  permits(t, { uri_template: { name: 't', typed_config: template } }, [
    [{ head: { path: '/v1/7/x/y?q' } }, true],
    [{ head: { path: '/v2/7/x' } }, false],
  ])
  permits(t, { destination_ip: { address_prefix: '192.0.2.0', prefix_len: 24 } }, [
    [{}, true],
    [{ connection: { localAddress: '::ffff:192.0.2.9' } }, true],
    [{ connection: { localAddress: '192.0.3.1' } }, false],
    [{ connection: { localAddress: '/run/x.sock', kind: 'pipe' } }, false],
  ])
  permits(t, { destination_port: 443 }, [
    [{}, true],
    [{ connection: { localPort: 444 } }, false],
    [{ connection: { kind: 'pipe' } }, false],
  ])
  permits(t, { destination_port_range: { start: 400, end: 443 } }, [
    [{ connection: { localPort: 400 } }, true],
    [{ connection: { localPort: 442 } }, true],
    [{ connection: { localPort: 443 } }, false],
    [{ connection: { localPort: 399 } }, false],
  ])
  permits(t, { requested_server_name: { suffix: '.example' } }, [
    [{ connection: { serverName: 'a.example' } }, true],
    [{ connection: { serverName: 'example' } }, false],
    [{}, false],
  ])
  permits(t, { requested_server_name: { exact: '' } }, [
    [{}, true],
    [{ connection: { serverName: 'a' } }, false],
  ])
})

t.test('conditions are combined and turned round', async (t) => {
  const one = { destination_port: 443 }
  const other = { header: { name: 'x', present_match: true } }
  permits(t, { and_rules: { rules: [one, other] } }, [
    [{ headers: ['x', ''] }, true],
    [{}, false],
  ])
  permits(t, { or_rules: { rules: [{ destination_port: 1 }, other] } }, [
    [{ headers: ['x', ''] }, true],
    [{ connection: { localPort: 1 } }, true],
    [{}, false],
  ])
  permits(t, { not_rule: other }, [
    [{ headers: ['x', ''] }, false],
    [{}, true],
  ])
  const near = { direct_remote_ip: { address_prefix: '203.0.113.0', prefix_len: 24 } }
  admits(t, { and_ids: { ids: [near, { not_id: { url_path: { path: { prefix: '/x' } } } }] } }, [
    [{}, true],
    [{ head: { path: '/x' } }, false],
  ])
  admits(t, { or_ids: { ids: [{ header: { name: 'x', present_match: true } }, near] } }, [
    [{ connection: { directRemoteAddress: '1.1.1.1' } }, false],
    [{ connection: { directRemoteAddress: '1.1.1.1' }, headers: ['x', '1'] }, true],
  ])
})

t.test('the three addresses of a client are told apart', async (t) => {
  const range = { address_prefix: '10.0.0.0', prefix_len: 8 }
  const by = {
    header: '10.0.0.1',
    connection: { remoteAddress: '10.0.0.2' },
    direct: { directRemoteAddress: '10.0.0.3' },
  }
  admits(t, { remote_ip: range }, [
    [{ clientAddress: by.header }, true],
    [{ connection: by.connection }, true],
    [{ connection: by.connection, clientAddress: '1.1.1.1' }, false],
    [{ connection: by.direct }, false],
  ])
  admits(t, { source_ip: range }, [
    [{ clientAddress: by.header }, false],
    [{ connection: by.connection, clientAddress: '1.1.1.1' }, true],
    [{ connection: by.direct }, false],
  ])
  admits(t, { direct_remote_ip: range }, [
    [{ clientAddress: by.header, connection: by.connection }, false],
    [{ connection: by.direct }, true],
  ])
  admits(t, { remote_ip: { address_prefix: '2001:db8::', prefix_len: 32 } }, [
    [{ clientAddress: '2001:DB8:1::1' }, true],
    [{ clientAddress: '10.0.0.1' }, false],
  ])
})

t.test('a principal is a verified certificate, by one of its URIs or DNS names or its subject', async (t) => {
  const tls = (known: Parameters<typeof peer>[0]): Asked => ({ connection: { tls: tlsInfo({ peer: peer(known) }) } })
  const named = (text: string): JsonObject => ({ authenticated: { principal_name: { exact: text } } })
  const spiffe = 'spiffe://cluster.local/ns/a/sa/b'
  admits(t, named(spiffe), [
    [tls({ uriSans: ['spiffe://x', spiffe] }), true],
    [tls({ dnsSans: [spiffe] }), true],
    [tls({ subject: spiffe }), true],
    [tls({ emailSans: [spiffe], issuer: spiffe }), false],
    [tls({ uriSans: [`${spiffe}/`] }), false],
  ])
  admits(t, { authenticated: {} }, [
    [tls({}), true],
    // Envoy's answer is yes here; nobody has been authenticated.
    [{ connection: { tls: tlsInfo() } }, false],
    [{ connection: { tls: tlsInfo({ peerUnverified: true }) } }, false],
    [{}, false],
  ])
  admits(t, { authenticated: { principal_name: { safe_regex: { regex: '.*' } } } }, [
    [tls({ subject: '' }), true],
    [{ connection: { tls: tlsInfo() } }, false],
    [{}, false],
  ])
  const mtls = (rest: JsonObject): JsonObject => ({
    custom: {
      name: 'm',
      typed_config: { '@type': `${TYPE}envoy.extensions.rbac.principals.mtls_authenticated.v3.Config`, ...rest },
    },
  })
  admits(t, mtls({ any_validated_client_certificate: true }), [
    [tls({}), true],
    [{ connection: { tls: tlsInfo() } }, false],
  ])
  for (const [type, field] of [
    ['URI', 'uriSans'],
    ['DNS', 'dnsSans'],
    ['EMAIL', 'emailSans'],
    ['IP_ADDRESS', 'ipSans'],
  ]) {
    admits(t, mtls({ san_matcher: { san_type: type, matcher: { exact: 'x' } } }), [
      [tls({ [field]: ['y', 'x'] }), true],
      [tls({ subject: 'x', [field]: ['y'] }), false],
      [{}, false],
    ])
  }
})

t.test('metadata and filter state are asked, of requests and of connections', async (t) => {
  const metadata = { filter: 'ns', path: [{ key: 'a' }, { key: 'b' }], value: { string_match: { exact: 'x' } } }
  for (const condition of [{ metadata }, { sourced_metadata: { metadata_matcher: metadata } }] as JsonObject[]) {
    permits(t, condition, [
      [{ metadata: { ns: { a: { b: 'x' } } } }, true],
      [{ metadata: { ns: { a: { b: 'y' } } } }, false],
      [{ route: { metadata: { ns: { a: { b: 'x' } } } } }, false],
      [{}, false],
    ])
  }
  const routed = { sourced_metadata: { metadata_source: 'ROUTE', metadata_matcher: metadata } }
  admits(t, routed, [
    [{ route: { metadata: { ns: { a: { b: 'x' } } } } }, true],
    [{ route: { metadata: undefined } }, false],
    [{ metadata: { ns: { a: { b: 'x' } } } }, false],
  ])
  const absent = { ...routed.sourced_metadata, metadata_matcher: { ...metadata, invert: true } }
  admits(t, { sourced_metadata: absent }, [
    [{ route: { metadata: undefined } }, true],
    // Without a route nothing is said of its metadata, not even that it is missing.
    [{}, false],
  ])
  for (const [value, json, expected] of [
    [{ null_match: {} }, null, true],
    [{ double_match: { exact: 3 } }, 3, true],
    [{ double_match: { range: { start: 1, end: 3 } } }, 3, false],
    [{ bool_match: false }, false, true],
    [{ present_match: true }, 'x', true],
    [{ list_match: { one_of: { string_match: { exact: 'x' } } } }, ['y', 'x'], true],
    [{ or_match: { value_matchers: [{ bool_match: true }, { null_match: {} }] } }, true, true],
  ] as [JsonObject, Json, boolean][]) {
    permits(t, { metadata: { ...metadata, value } }, [[{ metadata: { ns: { a: { b: json } } } }, expected]])
  }
  admits(t, { filter_state: { key: 'k', string_match: { exact: 'v' } } }, [
    [{ state: { k: 'v' } }, true],
    [{ state: { k: 'w' } }, false],
    [{ state: { k: { v: 1 } } }, false],
    [{}, false],
  ])
  const range = { address_prefix: '10.0.0.0', prefix_len: 8 }
  admits(t, { filter_state: { key: 'k', address_match: { ranges: [range] } } }, [
    [{ state: { k: '10.0.0.1' } }, true],
    [{ state: { k: '11.0.0.1' } }, false],
  ])
  admits(t, { filter_state: { key: 'k', address_match: { ranges: [range], invert_match: true } } }, [
    [{ state: { k: '11.0.0.1' } }, true],
    [{}, false],
  ])
})

t.test('of a connection, conditions on headers and paths do not hold, and their opposites do', async (t) => {
  const plain = connection({ serverName: 'a.example' })
  plain.state.mergeMetadata('ns', { a: 'x' })
  plain.state.setObject('k', 'v')
  const attributes = new ConnectionAttributes(plain)
  const allowed = (permission: JsonObject): boolean => engine(policy(permission))(attributes).allowed
  const absent = { header: { name: 'x', present_match: false } }
  t.equal(allowed(absent), false)
  t.equal(allowed({ url_path: { path: { safe_regex: { regex: '.*' } } } }), false)
  t.equal(allowed({ not_rule: absent }), true)
  t.equal(allowed({ requested_server_name: { exact: 'a.example' } }), true)
  t.equal(allowed({ metadata: { filter: 'ns', path: [{ key: 'a' }], value: { string_match: { exact: 'x' } } } }), true)
  t.equal(engine(policy(ANY, { filter_state: { key: 'k', string_match: { exact: 'v' } } }))(attributes).allowed, true)
  t.equal(
    engine(policy(ANY, { remote_ip: { address_prefix: '203.0.113.7', prefix_len: 32 } }))(attributes).allowed,
    true,
  )
})

t.test('a matcher tree names its leaves, denies what none of them takes, and wins over rules', async (t) => {
  const input = (type: string): JsonObject => ({ name: 'i', typed_config: { '@type': `${TYPE}${type}` } })
  const act = (name: string, action: string): JsonObject => ({
    action: { name: 'a', typed_config: { '@type': `${TYPE}envoy.config.rbac.v3.Action`, name, action } },
  })
  const single = (type: string, value: string): JsonObject => ({
    single_predicate: { input: input(type), value_match: { exact: value } },
  })
  const NETWORK = 'envoy.extensions.matching.common_inputs.network.v3.'
  const SSL = 'envoy.extensions.matching.common_inputs.ssl.v3.'
  const judge = engine({
    rules: {},
    matcher: {
      matcher_list: {
        matchers: [
          { predicate: single(`${NETWORK}DirectSourceIPInput`, '10.0.0.1'), on_match: act('near', 'ALLOW') },
          { predicate: single(`${SSL}UriSanInput`, 'spiffe://a'), on_match: act('san', 'ALLOW') },
          { predicate: single(`${SSL}SubjectInput`, 'CN=x'), on_match: act('subject', 'DENY') },
          {
            predicate: {
              and_matcher: {
                predicate: [
                  single(`${NETWORK}TransportProtocolInput`, 'tls'),
                  { not_matcher: single(`${NETWORK}ServerNameInput`, 'b') },
                ],
              },
            },
            on_match: act('watched', 'LOG'),
          },
        ],
      },
    },
  })
  const of = (known: Parameters<typeof connection>[0]): Verdict => judge(new ConnectionAttributes(connection(known)))
  t.same(of({ directRemoteAddress: '10.0.0.1' }), { allowed: true, policy: 'near', logHint: false })
  t.same(of({ tls: tlsInfo({ peer: peer({ uriSans: ['spiffe://a'] }) }) }).policy, 'san')
  t.same(of({ tls: tlsInfo({ peer: peer({ subject: 'CN=x' }) }) }), {
    allowed: false,
    policy: 'subject',
    logHint: false,
  })
  t.same(of({ transportProtocol: 'tls', serverName: 'a' }), { allowed: true, policy: 'watched', logHint: true })
  t.same(of({ transportProtocol: 'tls', serverName: 'b' }), { allowed: false, policy: '', logHint: undefined })
  t.match(parse({ rules: {}, matcher: { on_no_match: act('x', 'ALLOW') } }).ignored, ['rules'])
  t.same(engine({ matcher: { on_no_match: act('rest', 'ALLOW') } })(request()), {
    allowed: true,
    policy: 'rest',
    logHint: undefined,
  })
})

t.test('what the client of a tunnel asks for has a port', async (t) => {
  const deny = engine(policy({ destination_port: 443 }, ANY, 'DENY'))
  const allowed = (kind: 'ip' | 'internal' | 'pipe', localPort: number): boolean =>
    deny(new ConnectionAttributes(connection({ kind, localPort }))).allowed
  t.equal(allowed('internal', 443), false)
  t.equal(allowed('internal', 80), true)
  t.equal(allowed('ip', 443), false)
  t.equal(allowed('pipe', 443), true, 'a path has none')
})

t.test('a matcher that asks nothing is refused: it would hold for everybody', async (t) => {
  const read = (matcher: JsonObject): string[] =>
    parseJson({ matcher }, (fields) => parseRbacPair(fields.unread('refuse'), 'rules', 'matcher')).errors
  const on_match = {
    action: { name: 'a', typed_config: { '@type': `${TYPE}envoy.config.rbac.v3.Action`, name: 'a' } },
  }
  const ip = 'envoy.extensions.matching.common_inputs.network.v3.SourceIPInput'
  const input = { name: 'i', typed_config: { '@type': `${TYPE}${ip}` } }
  const list = (predicate: JsonObject): JsonObject => ({ matcher_list: { matchers: [{ predicate, on_match }] } })
  t.match(read(list({ and_matcher: { predicate: [] } })), [/and_matcher.predicate: must not be empty/])
  t.match(read(list({ not_matcher: { or_matcher: { predicate: [] } } })), [/or_matcher.predicate: must not be empty/])
  t.match(read({ matcher_list: { matchers: [] }, on_no_match: on_match }), [/matchers: must not be empty/])
  t.match(read({ matcher_tree: { input }, on_no_match: on_match }), [/one of exact_match_map, prefix_match_map/])
  t.match(read({ matcher_tree: { input, exact_match_map: { map: {} } } }), [/exact_match_map.map: must not be empty/])
  const nothing = { filter: 'f', path: [{ key: 'k' }], value: { or_match: { value_matchers: [] } }, invert: true }
  const rules = { policies: { p: { permissions: [ANY], principals: [{ metadata: nothing }] } } }
  const { errors } = parseJson({ rules }, (fields) => parseRbacPair(fields.unread('refuse'), 'rules', 'matcher'))
  t.match(errors, [/or_match.value_matchers: must not be empty/])
  const custom_match = { name: 'ip', typed_config: { '@type': `${TYPE}xds.type.matcher.v3.IPMatcher` } }
  t.match(read({ matcher_tree: { input, custom_match } }), [/range_matchers: must not be empty/])
})

t.test('what cannot be judged is refused by name', async (t) => {
  const errors = (permission: JsonObject, principal: JsonObject = ANY): string[] =>
    parse(policy(permission, principal)).errors
  const conditions = { permissions: [ANY], principals: [ANY], condition: { id: 1, const_expr: { bool_value: true } } }
  t.match(parse({ rules: { policies: { p: conditions } } }).errors, [/condition: CEL conditions are not available yet/])
  t.match(errors({ destination_ip: { address_prefix: 'x' } }), [
    /destination_ip.address_prefix: malformed IP address "x"/,
  ])
  t.match(errors({ destination_ip: { address_prefix: '10.0.0.0', prefix_len: 33 } }), [/prefix_len: 33 is longer/])
  t.match(errors({ destination_port_range: { start: 5, end: 5 } }), [/end: 5 is not behind the start, 5/])
  t.match(errors({ header: { name: 'x', string_match: { safe_regex: { regex: '(?=x)' } } } }), [/regex: .*/])
  const custom = { name: 'c', typed_config: { '@type': `${TYPE}envoy.config.rbac.v3.Action`, name: 'n' } }
  t.match(errors({ matcher: custom }), [/permission matcher "envoy.config.rbac.v3.Action" is not available/])
  t.match(errors({ uri_template: custom }), [/path matcher "envoy.config.rbac.v3.Action" is not available/])
  t.match(errors(ANY, { custom }), [/principal "envoy.config.rbac.v3.Action" is not available/])
  t.match(errors(ANY, { filter_state: { key: 'k', string_match: { safe_regex: { regex: '[' } } } }), [/regex/])
  const logger = (type: string): JsonObject => ({
    audit_logger: { name: 'l', typed_config: { '@type': `${TYPE}${type}` } },
  })
  const audited = (...loggers: JsonObject[]): ReturnType<typeof parse> =>
    parse({ rules: { audit_logging_options: { audit_condition: 'ON_DENY', logger_configs: loggers } } })
  const stdout = logger('envoy.extensions.rbac.audit_loggers.stream.v3.StdoutAuditLog')
  t.same(audited(stdout).config, {
    kind: 'rules',
    effect: 'allow',
    policies: [],
    audit: { when: 'deny', loggers: ['stdout'] },
  })
  const unknown = logger('envoy.extensions.access_loggers.stream.v3.StdoutAccessLog')
  t.match(audited(unknown).errors, [
    /audit logger "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" is not available/,
  ])
  t.same(audited({ ...unknown, is_optional: true }).ignored, [
    'rules.audit_logging_options.logger_configs[0].audit_logger',
  ])
  const other = { action: { name: 'a', typed_config: { '@type': `${TYPE}envoy.config.rbac.v3.RBAC` } } }
  t.match(parse({ matcher: { on_no_match: other } }).errors, [/"envoy.config.rbac.v3.RBAC" is no action of RBAC/])
})

t.test('plain JSON is read by the same rules', async (t) => {
  const read = (value: JsonObject): string[] =>
    parseJson(value, (fields) => parseRbacPair(fields.unread('refuse'), 'rules', 'matcher')).errors
  t.same(read({ rules: { policies: { p: { permissions: [{ any: true }], principals: [{ any: true }] } } } }), [])
  t.match(read({ rules: { policies: { p: { permissions: [{ any: false }], principals: [] } } } }), [
    /permissions\[0\]/,
    /principals: must not be empty/,
  ])
  t.match(read({ rules: { policies: { p: { permissions: [{}], principals: [{ and_ids: { ids: [] } }] } } } }), [
    /one of and_rules/,
    /ids: must not be empty/,
  ])
  t.match(read({ rules: { action: 'MAYBE' } }), [/action/])
  t.match(
    read({
      rules: { policies: { p: { permissions: [{ any: true, header: { name: 'x' } }], principals: [{ any: true }] } } },
    }),
    [/header/],
  )
})
