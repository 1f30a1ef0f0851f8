import { create, fromBinary, type Message, toBinary, toJson } from '@bufbuild/protobuf'
import fc from 'fast-check'
import t from 'tap'
import { parseConfigText } from '../../lib/config/parse.ts'
import { type AnyMessage, unpackAny } from '../../lib/proto/any.ts'
import { decodeChecked } from '../../lib/proto/decode-checked.ts'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import { encodeJson } from '../../lib/proto/encode-json.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { RuleChecker } from '../../lib/proto/rules.ts'

const registry = createProtoRegistry()
const CLUSTER = 'envoy.config.cluster.v3.Cluster'
const LISTENER = 'envoy.config.listener.v3.Listener'
const HCM = 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'

function errorsOf(type: string, json: unknown, path = ''): string[] {
  return decodeJson(registry, registry.expect(type), json, path).errors.map(String)
}

function decoded(type: string, json: unknown): Message & { [field: string]: unknown } {
  const { message, errors } = decodeJson(registry, registry.expect(type), json, '')
  t.same(errors.map(String), [])
  return message as Message & { [field: string]: unknown }
}

t.test('the descriptor set', async (t) => {
  t.test('holds the API that configuration uses, and no version 2 of it', async (t) => {
    for (const name of [
      'envoy.config.bootstrap.v3.Bootstrap',
      'envoy.service.discovery.v3.DiscoveryResponse',
      'envoy.admin.v3.ConfigDump',
      'envoy.extensions.filters.http.cors.v3.Cors',
      'envoy.extensions.clusters.dns.v3.DnsCluster',
      'envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth',
      'xds.type.v3.TypedStruct',
      'udpa.type.v1.TypedStruct',
      'xds.type.matcher.v3.Matcher',
      'google.protobuf.FieldMask',
      'google.rpc.Status',
      'google.protobuf.Empty',
    ]) {
      t.ok(registry.message(name), name)
    }
    t.equal(registry.message('envoy.api.v2.Cluster'), undefined)
    t.throws(() => registry.expect('envoy.api.v2.Cluster'), /no message type envoy.api.v2.Cluster/)
    t.ok(registry.files.getExtension('validate.rules'))
  })
})

t.test('what is right decodes', async (t) => {
  t.test('both spellings, durations, wrappers, enums, 64-bit numbers, masks and times', async (t) => {
    const cluster = decoded(CLUSTER, {
      name: 'web',
      connectTimeout: '0.25s',
      lb_policy: 'ROUND_ROBIN',
      dnsLookupFamily: 1,
      per_connection_buffer_limit_bytes: 32768,
      type: 'STRICT_DNS',
    })
    t.same(cluster.connectTimeout, { $typeName: 'google.protobuf.Duration', seconds: 0n, nanos: 250_000_000 })
    t.equal(cluster.perConnectionBufferLimitBytes, 32768)
    t.same(cluster.clusterDiscoveryType, { case: 'type', value: 1 })
    t.equal(cluster.dnsLookupFamily, 1)
    const duration = decoded('envoy.config.core.v3.TypedExtensionConfig', { name: 'x' })
    t.equal(duration.name, 'x')
    const rule = decoded('envoy.extensions.filters.http.ext_authz.v3.CheckSettings', { context_extensions: { a: 'b' } })
    t.same(rule.contextExtensions, { a: 'b' })
    const bytes = decoded('envoy.config.core.v3.DataSource', { inline_bytes: 'aGk=' })
    t.same(bytes.specifier, { case: 'inlineBytes', value: new Uint8Array([104, 105]) })
    t.equal(decoded('envoy.config.core.v3.RuntimeUInt32', { default_value: '7' }).defaultValue, 7)
    t.equal(decoded('envoy.type.v3.Int64Range', { start: '-9223372036854775808', end: 5 }).start, -(2n ** 63n))
    t.equal(decoded('envoy.type.v3.DoubleRange', { start: '-1.5e3', end: 'Infinity' }).end, Number.POSITIVE_INFINITY)
  })

  t.test('the well-known types agree with their definition, form by form', async (t) => {
    const cases: [string, unknown, unknown?][] = [
      ['google.protobuf.Duration', '-1.5s', '-1.500s'],
      ['google.protobuf.Duration', '0.000000001s'],
      ['google.protobuf.Timestamp', '2026-01-31T10:00:00.25Z', '2026-01-31T10:00:00.250Z'],
      ['google.protobuf.Timestamp', '2026-01-31T12:00:00+02:00', '2026-01-31T10:00:00Z'],
      ['google.protobuf.FieldMask', 'fooBar.baz,qux'],
      ['google.protobuf.Struct', { a: [1, 'x', null, { b: true }], 'c.d': {} }],
      ['google.protobuf.Value', [null, 1.5]],
      ['google.protobuf.ListValue', [{}, []]],
      ['google.protobuf.UInt64Value', '18446744073709551615'],
      ['google.protobuf.BytesValue', '_-8', '/+8='],
      ['google.protobuf.Empty', {}],
    ]
    for (const [type, json, canonical] of cases) {
      t.same(toJson(registry.expect(type), decoded(type, json)), canonical ?? json, `${type} ${JSON.stringify(json)}`)
    }
  })

  t.test('null is the same as absent', async (t) => {
    const desc = registry.expect(CLUSTER)
    const { message, errors } = decodeJson(registry, desc, { name: null, connect_timeout: null, endpoints: null }, '')
    t.same(errors.map(String), [`endpoints: unknown field of ${CLUSTER}`])
    t.same(toBinary(desc, message ?? create(desc)), new Uint8Array(0))
    t.same(errorsOf(CLUSTER, { type: 'STATIC', cluster_type: null }), [])
  })

  t.test('one message stands for a list of one, as in Envoy', async (t) => {
    const desc = registry.expect(LISTENER)
    const { message, errors } = decodeJson(registry, desc, { filter_chains: { name: 'c' } }, '')
    t.same(errors, [])
    t.same(encodeJson(registry, desc, message ?? create(desc)), { filter_chains: [{ name: 'c' }] })
    t.same(errorsOf(LISTENER, { filter_chains: { nmae: 'c' } }), [
      'filter_chains.nmae: unknown field of envoy.config.listener.v3.FilterChain, did you mean "name"?',
    ])
  })

  t.test('a key named __proto__ is a key like any other', async (t) => {
    const json = JSON.parse('{"filter_metadata": {"__proto__": {"__proto__": {"a": 1}}}}')
    const desc = registry.expect('envoy.config.core.v3.Metadata')
    const { message, errors } = decodeJson(registry, desc, json, '')
    t.same(errors, [])
    t.equal(JSON.stringify(encodeJson(registry, desc, message ?? create(desc))), JSON.stringify(json))
    t.equal(({} as { a?: number }).a, undefined)
  })
})

t.test('every kind of mistake has its path', async (t) => {
  const cases: [why: string, type: string, json: unknown, errors: string[]][] = [
    ['unknown field', CLUSTER, { nmae: 'x' }, [`nmae: unknown field of ${CLUSTER}, did you mean "name"?`]],
    ['unknown field far from all', CLUSTER, { zebra: 1 }, [`zebra: unknown field of ${CLUSTER}`]],
    ['unknown field with dots', CLUSTER, { 'a.b': 1 }, [`["a.b"]: unknown field of ${CLUSTER}`]],
    ['not an object', CLUSTER, [], ['expected an object, got a list']],
    ['text where a list is', LISTENER, { filterChains: 'x' }, ['filterChains: expected a list, got "x"']],
    [
      'object where a list of texts is',
      'envoy.config.route.v3.RouteConfiguration',
      { internalOnlyHeaders: {} },
      ['internalOnlyHeaders: expected a list, got an object'],
    ],
    ['string', CLUSTER, { name: 3 }, ['name: expected a string, got 3']],
    ['bool', CLUSTER, { respect_dns_ttl: 'yes' }, ['respect_dns_ttl: expected true or false, got "yes"']],
    ['half a surrogate pair', CLUSTER, { name: '\ud800' }, ['name: is not valid Unicode: half of a surrogate pair']],
    ['duration', CLUSTER, { connect_timeout: '5' }, ['connect_timeout: expected a duration such as "1.5s", got "5"']],
    [
      'duration as number',
      CLUSTER,
      { connect_timeout: 5 },
      ['connect_timeout: expected a duration such as "1.5s", got 5'],
    ],
    [
      'long duration',
      CLUSTER,
      { connect_timeout: '315576000001s' },
      ['connect_timeout: must be within 10000 years, is "315576000001s"'],
    ],
    [
      'enum',
      CLUSTER,
      { lb_policy: 'ROUNDROBIN', type: 99 },
      [
        `lb_policy: "ROUNDROBIN" is not a value of ${CLUSTER}.LbPolicy, did you mean "ROUND_ROBIN"?`,
        `type: 99 is not a value of ${CLUSTER}.DiscoveryType`,
      ],
    ],
    [
      'enum with its choices',
      'envoy.config.core.v3.SocketAddress',
      { protocol: 'SCTP', port_value: -1 },
      [
        'protocol: "SCTP" is not a value of envoy.config.core.v3.SocketAddress.Protocol: expected TCP, UDP',
        'port_value: must be between 0 and 4294967295, is -1',
      ],
    ],
    [
      'fraction',
      'envoy.config.core.v3.SocketAddress',
      { port_value: 1.5 },
      ['port_value: expected an integer, got 1.5'],
    ],
    [
      'int64',
      'envoy.type.v3.Int64Range',
      { start: 2 ** 60, end: 'x' },
      [
        'start: is beyond 2^53 and must be written as a string in quotes, is 1152921504606847000',
        'end: expected an integer, got "x"',
      ],
    ],
    [
      'int64 range',
      'envoy.type.v3.Int64Range',
      { end: '9223372036854775808' },
      ['end: must be between -9223372036854775808 and 9223372036854775807, is 9223372036854775808'],
    ],
    [
      'double',
      'envoy.type.v3.DoubleRange',
      { start: true, end: '1e999' },
      ['start: expected a number, got true', 'end: is out of range: "1e999"'],
    ],
    ['bytes', 'envoy.config.core.v3.DataSource', { inline_bytes: 'a*b' }, ['inline_bytes: is not base64: "a*b"']],
    [
      'bytes cut short',
      'envoy.config.core.v3.DataSource',
      { inline_bytes: 'abcde' },
      ['inline_bytes: is not base64: "abcde"'],
    ],
    [
      'both members of a oneof',
      CLUSTER,
      { type: 'EDS', cluster_type: { name: 'x' } },
      ['cluster_type: only one of "type" and "cluster_type" may be set'],
    ],
    [
      'both members, one of them wrong',
      CLUSTER,
      { type: 'EDSS', clusterType: { name: 'x' } },
      [
        `type: "EDSS" is not a value of ${CLUSTER}.DiscoveryType, did you mean "EDS"?`,
        'clusterType: only one of "type" and "cluster_type" may be set',
      ],
    ],
    [
      'both spellings',
      CLUSTER,
      { connectTimeout: '1s', connect_timeout: '1s' },
      ['connectTimeout: is set twice: "connectTimeout" and "connect_timeout" are one field'],
    ],
    ['null in a list', LISTENER, { filter_chains: [null] }, ['filter_chains[0]: must not be null']],
    [
      'null in a map',
      'envoy.config.core.v3.Metadata',
      { filter_metadata: { 'a.b': null } },
      ['filter_metadata["a.b"]: must not be null'],
    ],
    [
      'a Struct that is none',
      'envoy.config.core.v3.Metadata',
      { filter_metadata: { a: 3, b: { c: Number.NaN } } },
      ['filter_metadata["a"]: expected an object, got 3', 'filter_metadata["b"].c: must be a finite number, is NaN'],
    ],
    [
      'time',
      'google.protobuf.Timestamp',
      '2026-02-31',
      ['expected a time such as "2030-01-31T10:00:00Z", got "2026-02-31"'],
    ],
    [
      'an Any without a type',
      LISTENER,
      { listener_filters: [{ name: 'x', typed_config: { a: 1 } }] },
      ['listener_filters[0].typed_config: "@type" is missing'],
    ],
    [
      'an Any with a bad type',
      LISTENER,
      { listener_filters: [{ typed_config: { '@type': 'Foo' } }] },
      ['listener_filters[0].typed_config.@type: expected "type.googleapis.com/" and the name of a message, got "Foo"'],
    ],
    [
      'an Any that is a list',
      LISTENER,
      { listener_filters: [{ typed_config: [] }] },
      ['listener_filters[0].typed_config: expected an object with "@type", got a list'],
    ],
    [
      'a wrapper in an Any',
      LISTENER,
      { listener_filters: [{ typed_config: { '@type': 'x/google.protobuf.BoolValue', value: 1 } }] },
      ['listener_filters[0].typed_config.value: expected true or false, got 1'],
    ],
    [
      'a wrapper in an Any without value',
      LISTENER,
      { listener_filters: [{ typed_config: { '@type': 'x/google.protobuf.BoolValue' } }] },
      ['listener_filters[0].typed_config: "value" is missing for google.protobuf.BoolValue'],
    ],
  ]
  for (const [why, type, json, errors] of cases) t.same(errorsOf(type, json), errors, why)
})

t.test('an error inside Anys, lists and maps has the whole path, in the words of the author', async (t) => {
  const json = {
    static_resources: {
      listeners: [
        {
          filter_chains: [
            {
              filters: [
                {
                  typed_config: {
                    '@type': HCM,
                    httpFilters: [{}, { name: 4 }],
                    route_config: {
                      virtual_hosts: [
                        {
                          typed_per_filter_config: {
                            'envoy.filters.http.cors': {
                              '@type': 'type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy',
                              allow_method: 'GET',
                            },
                          },
                        },
                      ],
                    },
                  },
                },
              ],
            },
          ],
        },
      ],
    },
  }
  const filter = 'static_resources.listeners[0].filter_chains[0].filters[0].typed_config'
  const host = `${filter}.route_config.virtual_hosts[0]`
  t.same(errorsOf('envoy.config.bootstrap.v3.Bootstrap', json), [
    `${filter}.httpFilters[1].name: expected a string, got 4`,
    `${host}.typed_per_filter_config["envoy.filters.http.cors"].allow_method: unknown field of ` +
      'envoy.extensions.filters.http.cors.v3.CorsPolicy, did you mean "allow_methods"?',
  ])
  const text = JSON.stringify(json, null, 1)
  const parsed = parseConfigText(text, 'boot.json')
  const lines = text.split('\n')
  const line = lines.findIndex((each) => each.includes('"name": 4'))
  const place = { file: 'boot.json', line: line + 1, column: lines[line].indexOf('"name"') + 1 }
  t.same(parsed.place(`${filter}.http_filters[1].name`), place, 'the other spelling leads there, too')
})

t.test('depth is an error and never a stack overflow', async (t) => {
  let list: unknown = 1
  let matcher: unknown = {}
  for (let i = 0; i < 100_000; i++) list = [list]
  for (let i = 0; i < 100_000; i++) matcher = { and_match: { rules: [matcher] } }
  const metadata = errorsOf('envoy.config.core.v3.Metadata', { filter_metadata: { a: { b: list } } })
  t.equal(metadata.length, 1)
  t.match(metadata[0], /^filter_metadata\["a"\]\.b(\[0\])+: is nested too deeply: more than 64 levels$/)
  t.match(errorsOf('envoy.config.tap.v3.MatchPredicate', matcher), [/is nested too deeply/])
})

t.test('Any', async (t) => {
  const anyDesc = registry.expect('google.protobuf.Any')
  const any = (json: unknown): AnyMessage => decoded('google.protobuf.Any', json) as unknown as AnyMessage

  t.test('a known type is packed as its message', async (t) => {
    const message = any({ '@type': HCM, stat_prefix: 'x' })
    t.equal(message.typeUrl, HCM)
    t.same(toJson(anyDesc, message, { registry: registry.files }), { '@type': HCM, statPrefix: 'x' })
    const empty = any({ '@type': HCM })
    t.equal(empty.value.length, 0)
    t.match(unpackAny(registry, empty), { kind: 'message', empty: true })
    t.same(any({}).typeUrl, '')
  })

  t.test('an unknown type becomes a TypedStruct and comes out as it went in', async (t) => {
    const json = { '@type': 'type.googleapis.com/acme.Filter', limit: 3, names: ['a'], nested: { on: true, off: null } }
    const message = any(json)
    t.equal(message.typeUrl, 'type.googleapis.com/xds.type.v3.TypedStruct')
    t.match(unpackAny(registry, message), { kind: 'json', typeName: 'acme.Filter', value: { limit: 3 }, suffix: '' })
    t.same(encodeJson(registry, anyDesc, message), json)
    const copy = fromBinary(anyDesc, toBinary(anyDesc, message)) as unknown as AnyMessage
    t.match(unpackAny(registry, copy), { kind: 'json', typeName: 'acme.Filter', suffix: 'value' })
  })

  t.test('a TypedStruct of a known type is decoded strictly as that type', async (t) => {
    const typed = {
      '@type': 'type.googleapis.com/udpa.type.v1.TypedStruct',
      type_url: HCM,
      value: { stat_prefixx: 'x', codec_type: 'HTTP1' },
    }
    const found = errorsOf('google.protobuf.Any', typed, 'typed_config')
    t.same(found, [
      'typed_config.value.stat_prefixx: unknown field of ' +
        'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, did you mean "stat_prefix"?',
    ])
    const good = any({ ...typed, value: { stat_prefix: 'x' } })
    const copy = fromBinary(anyDesc, toBinary(anyDesc, good)) as unknown as AnyMessage
    for (const message of [good, copy]) {
      t.match(unpackAny(registry, message), {
        kind: 'message',
        suffix: 'value',
        empty: false,
        message: { statPrefix: 'x' },
      })
      t.same(encodeJson(registry, anyDesc, message), { ...typed, value: { stat_prefix: 'x' } })
    }
  })

  t.test('bytes that do not decode, and types that are not known, are told apart', async (t) => {
    const raw = (typeUrl: string, value: number[]): AnyMessage =>
      Object.assign(create(anyDesc), { typeUrl, value: new Uint8Array(value) }) as unknown as AnyMessage
    const broken = unpackAny(registry, raw(HCM, [0x0a, 0xff]))
    t.equal(broken.kind, 'broken')
    t.match(broken, { errors: [{ path: '', message: /^cannot be decoded as envoy\.extensions/ }] })
    t.match(unpackAny(registry, raw('x/acme.Filter', [1])), { kind: 'opaque', typeName: 'acme.Filter', empty: false })
    t.same(encodeJson(registry, anyDesc, raw('x/acme.Filter', [1])), { '@type': 'x/acme.Filter', value: 'AQ==' })
  })
})

t.test('decoding and rules together name each mistake once', async (t) => {
  const desc = registry.expect(CLUSTER)
  const checker = new RuleChecker(registry)
  const all = (json: unknown): string[] => decodeChecked(registry, checker, { desc, json, path: '' }).errors.map(String)
  t.same(
    all({ nmae: 'x' }),
    [`nmae: unknown field of ${CLUSTER}, did you mean "name"?`],
    'not that name is required, too',
  )
  t.same(all({ name: 3, connectTimeout: '0s' }), [
    'name: expected a string, got 3',
    'connect_timeout: value must be greater than 0s, is 0s',
  ])
  t.same(all({ name: 'x' }), [])
  t.same(all(3), ['expected an object, got 3'])
})

t.test('a configuration of 10,000 clusters decodes and checks, and one mistake in it is found', async (t) => {
  const clusters = Array.from({ length: 10_000 }, (_, i) => ({
    name: `cluster_${i}`,
    connect_timeout: '0.25s',
    type: 'STATIC',
    load_assignment: {
      cluster_name: `cluster_${i}`,
      endpoints: [
        { lb_endpoints: [{ endpoint: { address: { socket_address: { address: '10.0.0.1', port_value: 80 } } } }] },
      ],
    },
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: { http_protocol_options: {} },
      },
    },
  }))
  clusters[9_999].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value = 70_000
  const desc = registry.expect('envoy.config.bootstrap.v3.Bootstrap')
  const json = { static_resources: { clusters } }
  const start = performance.now()
  const { message, errors } = decodeJson(registry, desc, json, '')
  t.same(errors, [])
  const violations = new RuleChecker(registry).check(desc, message ?? create(desc), '')
  const address = 'load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address'
  t.same(violations.map(String), [
    `static_resources.clusters[9999].${address}.port_value: value must be less than or equal to 65535, is 70000`,
  ])
  t.ok(performance.now() - start < 10_000, 'in no more than ten times the time it needs')
})

t.test('whatever JSON says, decoding and checking do not throw, and what decodes can be encoded', async (t) => {
  const names = [
    ...registry.shape(registry.expect(CLUSTER)).bySpelling.keys(),
    ...registry.shape(registry.expect(LISTENER)).bySpelling.keys(),
  ]
  const keys = fc.oneof(fc.constantFrom(...names, '@type', 'value', 'type_url', '__proto__', 'a.b'), fc.string())
  const leaves = fc.oneof(
    fc.constantFrom<unknown>(null, true, 0, -1, 1e300, Number.NaN, '', '1s', '\ud800', HCM, 'x/acme.Filter'),
    fc.constantFrom<unknown>('type.googleapis.com/xds.type.v3.TypedStruct', 'type.googleapis.com/google.protobuf.Any'),
    fc.string(),
    fc.double(),
  )
  const { json } = fc.letrec((tie) => ({
    json: fc.oneof(
      { depthSize: 'medium' },
      leaves,
      fc.array(tie('json'), { maxLength: 3 }),
      fc.dictionary(keys, tie('json'), { maxKeys: 6 }),
    ),
  }))
  const checker = new RuleChecker(registry)
  let clean = 0
  fc.assert(
    fc.property(
      fc.constantFrom(CLUSTER, LISTENER, 'google.protobuf.Any', 'google.protobuf.Struct'),
      json,
      (type, value) => {
        const desc = registry.expect(type)
        const { message, errors } = decodeJson(registry, desc, value, '')
        if (message === undefined) return errors.length > 0
        checker.check(desc, message, '')
        encodeJson(registry, desc, message)
        toBinary(desc, message)
        if (errors.length === 0) clean++
        return true
      },
    ),
    { numRuns: 2000, seed: 1 },
  )
  t.ok(clean > 0, 'some of it was right')
})
