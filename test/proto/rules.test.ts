import {
  create,
  createFileRegistry,
  type DescExtension,
  type Message,
  setExtension,
  toBinary,
} from '@bufbuild/protobuf'
import {
  DescriptorProtoSchema,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FieldDescriptorProtoSchema,
  FieldOptionsSchema,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  MessageOptionsSchema,
} from '@bufbuild/protobuf/wkt'
import t from 'tap'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import { createProtoRegistry, ProtoRegistry } from '../../lib/proto/registry.ts'
import { RuleChecker } from '../../lib/proto/rules.ts'

const registry = createProtoRegistry()
const checker = new RuleChecker(registry)

function violations(type: string, json: unknown, path = ''): string[] {
  const desc = registry.expect(type)
  const { message, errors } = decodeJson(registry, desc, json, path)
  t.same(errors.map(String), [])
  return checker.check(desc, message ?? create(desc), path).map(String)
}

t.test('the rules of Envoy', async (t) => {
  const CLUSTER = 'envoy.config.cluster.v3.Cluster'
  t.same(violations(CLUSTER, {}), ['name: value length must be at least 1'])
  t.same(violations(CLUSTER, { name: 'x', connect_timeout: '-1s' }), [
    'connect_timeout: value must be greater than 0s, is -1s',
  ])
  t.same(violations('envoy.config.route.v3.DirectResponseAction', { status: 99 }, 'routes[0].direct_response'), [
    'routes[0].direct_response.status: value must be inside range [200, 600), is 99',
  ])
  t.same(violations('envoy.config.core.v3.Address', {}), [
    'address: value is required: one of socket_address, pipe, envoy_internal_address',
  ])
  t.same(violations('envoy.config.core.v3.SocketAddress', { address: 'x' }), [
    'port_specifier: value is required: one of port_value, named_port',
  ])
  t.same(violations('envoy.config.route.v3.Route', { redirect: {} }), ['match: value is required'])
  t.same(violations('envoy.config.route.v3.VirtualHost', { name: 'x', domains: [] }), [
    'domains: value must contain at least 1 item(s), has 0',
  ])
  t.same(violations('envoy.config.route.v3.VirtualHost', { name: 'x', domains: ['a b', 'bad\r\n'] }), [
    'domains[1]: value must be a header value, is "bad\\r\\n"',
  ])
  t.same(violations('envoy.config.route.v3.RouteMatch', { path_separated_prefix: '/a/' }), [
    'path_separated_prefix: value must match regex "^[^?#]+[^?#/]$", is "/a/"',
  ])
  t.same(
    violations('envoy.config.route.v3.WeightedCluster.ClusterWeight', { weight: 0 }),
    [],
    'a zero wrapper is a value',
  )
})

t.test('violations are found in Anys, maps and TypedStructs, all of them together', async (t) => {
  const hcm = 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'
  const filter = {
    typed_config: {
      '@type': hcm,
      stat_prefix: '',
      route_config: { max_direct_response_body_size_bytes: 1, virtual_hosts: [{ domains: ['*'] }] },
    },
  }
  const struct = {
    typed_config: { '@type': 'x/xds.type.v3.TypedStruct', type_url: hcm, value: { codec_type: 'AUTO', rds: {} } },
  }
  const plain = 'filters[0].typed_config'
  const typed = 'filters[1].typed_config.value'
  t.same(
    violations('envoy.config.listener.v3.FilterChain', { filters: [filter, struct] }).sort(),
    [
      'filters[0].name: value length must be at least 1',
      `${plain}.route_config.virtual_hosts[0].name: value length must be at least 1`,
      `${plain}.stat_prefix: value length must be at least 1`,
      'filters[1].name: value length must be at least 1',
      `${typed}.stat_prefix: value length must be at least 1`,
    ].sort(),
  )
  t.same(
    violations('envoy.config.core.v3.Metadata', {
      typed_filter_metadata: { '': { '@type': hcm, stat_prefix: 'x', rds: { config_source: { ads: {} } } } },
    }),
    ['typed_filter_metadata[""]: value length must be at least 1'],
  )
})

t.test('every message type of the API has rules that are understood', async (t) => {
  let types = 0
  for (const desc of registry.files) {
    if (desc.kind !== 'message') continue
    types++
    checker.check(desc, create(desc), '')
  }
  t.ok(types > 1500, `${types} types`)
})

const T = FieldDescriptorProto_Type
type Shape = { type?: number; typeName?: string; list?: boolean; optional?: boolean }
const STRING: Shape = { type: T.STRING }
const BYTES: Shape = { type: T.BYTES }
const INT: Shape = { type: T.INT32 }
const DURATION: Shape = { type: T.MESSAGE, typeName: '.google.protobuf.Duration' }

/** A rules message whose nested messages are given as plain objects with their type. */
function rule(kind: string, fields: { [name: string]: unknown }): Message {
  return create(registry.expect(`validate.${kind}`), fields)
}

/** Compiles a message with one field `f` of that shape under those rules, and checks one value of it. */
function check(shape: Shape, rules: { [name: string]: unknown }, json: unknown, disabled = false): string[] {
  const options = create(FieldOptionsSchema)
  setExtension(
    options,
    registry.files.getExtension('validate.rules') as DescExtension,
    rule('FieldRules', rules) as never,
  )
  const messageOptions = create(MessageOptionsSchema)
  if (disabled)
    setExtension(messageOptions, registry.files.getExtension('validate.disabled') as DescExtension, true as never)
  const field = create(FieldDescriptorProtoSchema, {
    name: 'f',
    jsonName: 'f',
    number: 1,
    type: shape.type as FieldDescriptorProto_Type,
    typeName: shape.typeName,
    label: shape.list === true ? FieldDescriptorProto_Label.REPEATED : FieldDescriptorProto_Label.OPTIONAL,
    options,
  })
  if (shape.optional === true) Object.assign(field, { proto3Optional: true, oneofIndex: 0 })
  const file = create(FileDescriptorProtoSchema, {
    name: 'test.proto',
    package: 'test',
    syntax: 'proto3',
    dependency: ['google/protobuf/duration.proto', 'google/protobuf/any.proto', 'google/protobuf/timestamp.proto'],
    messageType: [
      create(DescriptorProtoSchema, {
        name: 'M',
        field: [field],
        options: messageOptions,
        oneofDecl: shape.optional === true ? [{ name: '_f' }] : [],
      }),
    ],
  })
  const imports = ['google/protobuf/descriptor', 'google/protobuf/duration', 'google/protobuf/timestamp']
  const needed = [...imports, 'google/protobuf/any', 'validate/validate'].map((name) => `${name}.proto`)
  const others = needed.map((name) => registry.files.getFile(name)?.proto).filter((proto) => proto !== undefined)
  const known = new ProtoRegistry(createFileRegistry(create(FileDescriptorSetSchema, { file: [...others, file] })))
  const desc = known.expect('test.M')
  const decoded = decodeJson(known, desc, json === undefined ? {} : { f: json }, '')
  t.same(decoded.errors.map(String), [])
  return new RuleChecker(known).check(desc, decoded.message ?? create(desc), '').map(String)
}

const of = (kind: string, fields: { [name: string]: unknown }): { [name: string]: unknown } => ({
  type: { case: kind.replace(/Rules$/, '').toLowerCase(), value: rule(kind, fields) },
})

t.test('each kind of rule, kept and broken', async (t) => {
  const strings = (fields: { [name: string]: unknown }): { [name: string]: unknown } => of('StringRules', fields)
  const ints = (fields: { [name: string]: unknown }): { [name: string]: unknown } => of('Int32Rules', fields)
  const bytes = (fields: { [name: string]: unknown }): { [name: string]: unknown } => of('BytesRules', fields)
  const durations = (fields: { [name: string]: unknown }): { [name: string]: unknown } => of('DurationRules', fields)
  const known = (name: string, value: unknown = true): { [name: string]: unknown } => ({
    wellKnown: { case: name, value },
  })
  const seconds = (n: number): Message =>
    create(registry.expect('google.protobuf.Duration'), { seconds: BigInt(n), nanos: 0 } as never)
  const b64 = (text: string): string => Buffer.from(text).toString('base64')
  const table: [
    shape: Shape,
    rules: { [name: string]: unknown },
    good: unknown[],
    bad: [value: unknown, message: string][],
  ][] = [
    [STRING, strings({ const: 'a' }), ['a'], [['b', 'f: value must equal "a", is "b"']]],
    [STRING, strings({ len: 2n }), ['ab', '\u{1f600}a'], [['a', 'f: value length must be 2 characters, is 1']]],
    [
      STRING,
      strings({ minLen: 2n }),
      ['ab'],
      [
        ['', 'f: value length must be at least 2'],
        ['\u{1f600}', 'f: value length must be at least 2 characters, is 1'],
      ],
    ],
    [STRING, strings({ maxLen: 2n }), ['', 'äö'], [['abc', 'f: value length must be at most 2 characters, is 3']]],
    [STRING, strings({ lenBytes: 2n }), ['ä'], [['a', 'f: value length must be 2 bytes, is 1']]],
    [STRING, strings({ minBytes: 2n }), ['ä'], [['a', 'f: value length must be at least 2 bytes, is 1']]],
    [STRING, strings({ maxBytes: 1n }), ['a'], [['ä', 'f: value length must be at most 1 bytes, is 2']]],
    [STRING, strings({ pattern: '^(?i)a+$' }), ['aA'], [['b', 'f: value must match regex "^(?i)a+$", is "b"']]],
    [
      STRING,
      strings({ prefix: 'a', suffix: 'b' }),
      ['ab'],
      [['ba', 'f: value must have prefix "a", is "ba"|f: value must have suffix "b", is "ba"']],
    ],
    [
      STRING,
      strings({ contains: 'a', notContains: 'b' }),
      ['a'],
      [['b', 'f: value must contain "a", is "b"|f: value must not contain "b", is "b"']],
    ],
    [STRING, strings({ in: ['a', 'b'] }), ['a', 'b'], [['c', 'f: value must be in list ["a", "b"], is "c"']]],
    [STRING, strings({ notIn: ['a'] }), ['b'], [['a', 'f: value must not be in list ["a"], is "a"']]],
    [
      STRING,
      strings({ minLen: 2n, ignoreEmpty: true }),
      ['', 'ab', undefined],
      [['a', 'f: value length must be at least 2 characters, is 1']],
    ],
    [
      STRING,
      strings(known('email')),
      ['a.b@example.com'],
      [
        ['a@', 'f: value must be an email address, is "a@"'],
        ['@b', 'f: value must be an email address, is "@b"'],
      ],
    ],
    [
      STRING,
      strings(known('hostname')),
      ['a-b.example.', '1.x'],
      [
        ['-a', 'f: value must be a hostname, is "-a"'],
        ['a..b', 'f: value must be a hostname, is "a..b"'],
      ],
    ],
    [STRING, strings(known('ip')), ['1.2.3.4', '::1'], [['1.2.3', 'f: value must be an IP address, is "1.2.3"']]],
    [STRING, strings(known('ipv4')), ['1.2.3.4'], [['::1', 'f: value must be an IPv4 address, is "::1"']]],
    [STRING, strings(known('ipv6')), ['::1'], [['1.2.3.4', 'f: value must be an IPv6 address, is "1.2.3.4"']]],
    [
      STRING,
      strings(known('uri')),
      ['https://a/b?c#d', 'urn:x'],
      [
        ['/a', 'f: value must be an absolute URI, is "/a"'],
        ['a:%zz', 'f: value must be an absolute URI, is "a:%zz"'],
      ],
    ],
    [STRING, strings(known('uriRef')), ['/a', '?b'], [['a b', 'f: value must be a URI, is "a b"']]],
    [
      STRING,
      strings(known('address')),
      ['example.com', '::1'],
      [['a_b', 'f: value must be a hostname or an IP address, is "a_b"']],
    ],
    [
      STRING,
      strings(known('uuid')),
      ['123e4567-e89b-12d3-a456-426614174000'],
      [['123', 'f: value must be a UUID, is "123"']],
    ],
    [
      STRING,
      strings(known('wellKnownRegex', 1)),
      [':path', 'x-a'],
      [['a b', 'f: value must be a header name, is "a b"']],
    ],
    [
      STRING,
      strings(known('wellKnownRegex', 2)),
      ['a\tb'],
      [['a\u0001', 'f: value must be a header value, is "a\\u0001"']],
    ],
    [
      STRING,
      strings({ ...known('wellKnownRegex', 1), strict: false }),
      ['a b'],
      [['a\nb', 'f: value must be a header name, is "a\\nb"']],
    ],
    [
      STRING,
      strings({ ...known('wellKnownRegex', 2), strict: false }),
      ['a\u0001'],
      [['a\rb', 'f: value must be a header value, is "a\\rb"']],
    ],
    [INT, ints({ const: 3 }), [3], [[4, 'f: value must equal 3, is 4']]],
    [INT, ints({ lt: 3 }), [2], [[3, 'f: value must be less than 3, is 3']]],
    [INT, ints({ lte: 3 }), [3], [[4, 'f: value must be less than or equal to 3, is 4']]],
    [INT, ints({ gt: 3 }), [4], [[3, 'f: value must be greater than 3, is 3']]],
    [INT, ints({ gte: 3 }), [3], [[undefined, 'f: value must be greater than or equal to 3, is 0']]],
    [
      INT,
      ints({ gte: 3, ignoreEmpty: true }),
      [undefined, 3],
      [[2, 'f: value must be greater than or equal to 3, is 2']],
    ],
    [
      INT,
      ints({ gt: 1, lte: 3 }),
      [2, 3],
      [
        [1, 'f: value must be inside range (1, 3], is 1'],
        [4, 'f: value must be inside range (1, 3], is 4'],
      ],
    ],
    [
      INT,
      ints({ gte: 3, lt: 1 }),
      [0, 3],
      [
        [1, 'f: value must be outside range [1, 3), is 1'],
        [2, 'f: value must be outside range [1, 3), is 2'],
      ],
    ],
    [INT, ints({ in: [1, 2] }), [1], [[3, 'f: value must be in list [1, 2], is 3']]],
    [INT, ints({ notIn: [1, 2] }), [3], [[2, 'f: value must not be in list [1, 2], is 2']]],
    [
      { ...INT, optional: true },
      ints({ gte: 3 }),
      [undefined, 3],
      [[0, 'f: value must be greater than or equal to 3, is 0']],
    ],
    [
      { type: T.DOUBLE },
      of('DoubleRules', { gte: 0, lte: 1 }),
      [0.5],
      [['NaN', 'f: value must be inside range [0, 1], is NaN']],
    ],
    [
      { type: T.DOUBLE },
      of('DoubleRules', { gte: 0 }),
      ['Infinity'],
      [['NaN', 'f: value must be greater than or equal to 0, is NaN']],
    ],
    [
      { type: T.UINT64 },
      of('UInt64Rules', { lte: 5n }),
      ['5'],
      [['18446744073709551615', 'f: value must be less than or equal to 5, is 18446744073709551615']],
    ],
    [{ type: T.BOOL }, of('BoolRules', { const: true }), [true], [[undefined, 'f: value must equal true, is false']]],
    [
      BYTES,
      bytes({ len: 2n, prefix: Buffer.from('a') }),
      [b64('ab')],
      [[b64('b'), 'f: value length must be 2 bytes, is 1|f: value must have prefix "a", is "b"']],
    ],
    [BYTES, bytes({ in: [Buffer.from('a')] }), [b64('a')], [[b64('b'), 'f: value must be in list ["a"], is "b"']]],
    [BYTES, bytes({ pattern: '^a$' }), [b64('a')], [[b64('b'), 'f: value must match regex "^a$", is "b"']]],
    [BYTES, bytes(known('ipv4')), [b64('abcd')], [[b64('a'), 'f: value must be an IP address of 4 bytes']]],
    [DURATION, durations({ required: true }), ['0s'], [[undefined, 'f: value is required']]],
    [
      DURATION,
      durations({ gt: seconds(1), lt: seconds(3) }),
      [undefined, '1.5s'],
      [['1s', 'f: value must be inside range (1s, 3s), is 1s']],
    ],
    [
      DURATION,
      durations({ gte: seconds(1) }),
      ['1s'],
      [['0.999999999s', 'f: value must be greater than or equal to 1s, is 0.999999999s']],
    ],
    [DURATION, durations({ in: [seconds(1)] }), ['1s'], [['-1.5s', 'f: value must be in list [1s], is -1.5s']]],
    [
      { type: T.MESSAGE, typeName: '.google.protobuf.Any' },
      of('AnyRules', { in: ['x/google.protobuf.Any'] }),
      [undefined],
      [[{}, 'f: value must be in list [x/google.protobuf.Any], is ']],
    ],
    [
      { ...INT, list: true },
      of('RepeatedRules', { minItems: 1n, maxItems: 2n }),
      [[1], [1, 2]],
      [
        [[], 'f: value must contain at least 1 item(s), has 0'],
        [[1, 2, 3], 'f: value must contain no more than 2 item(s), has 3'],
      ],
    ],
    [
      { ...INT, list: true },
      of('RepeatedRules', { minItems: 2n, ignoreEmpty: true }),
      [[], [1, 2]],
      [[[1], 'f: value must contain at least 2 item(s), has 1']],
    ],
    [
      { ...INT, list: true },
      of('RepeatedRules', { unique: true, items: rule('FieldRules', ints({ gt: 0 })) }),
      [[1, 2]],
      [[[3, 0, 3], 'f: items must be unique, 3 is repeated|f[1]: value must be greater than 0, is 0']],
    ],
    [DURATION, { message: rule('MessageRules', { required: true }) }, ['1s'], [[undefined, 'f: value is required']]],
  ]
  for (const [shape, rules, good, bad] of table) {
    const name = JSON.stringify(rules, (_, value) => (typeof value === 'bigint' ? Number(value) : value))
    for (const value of good) t.same(check(shape, rules, value), [], `${name} allows ${JSON.stringify(value)}`)
    for (const [value, message] of bad)
      t.equal(check(shape, rules, value).join('|'), message, `${name} refuses ${JSON.stringify(value)}`)
  }
  t.same(check(STRING, strings({ minLen: 2n }), '', true), [], 'validate.disabled switches rules off')
})

t.test('a rule that is not known is a bug, not something to skip', async (t) => {
  const rules = of('TimestampRules', { ltNow: true })
  t.throws(
    () => check({ type: T.MESSAGE, typeName: '.google.protobuf.Timestamp' }, rules, undefined),
    /unknown validation rule "ltNow"/,
  )
})

t.test('Anys nested without end are an error', async (t) => {
  const desc = registry.expect('google.protobuf.Any')
  const holder = registry.expect('envoy.config.core.v3.TypedExtensionConfig')
  let message = create(holder, { name: 'x' } as never)
  for (let i = 0; i < 2000; i++) {
    const typedConfig = Object.assign(create(desc), {
      typeUrl: `x/${holder.typeName}`,
      value: toBinary(holder, message),
    })
    message = Object.assign(create(holder), { name: 'x', typedConfig })
  }
  const errors = checker.check(holder, message, '')
  t.equal(errors.length, 1)
  t.match(errors[0].message, /nested too deeply/)
})
