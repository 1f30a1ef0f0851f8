import { create, type DescMessage, fromBinary, type Message, toBinary } from '@bufbuild/protobuf'
import t from 'tap'
import { Findings, type JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import { createJsonReader } from '../../lib/proto/json-reader.ts'
import { createMessageReader } from '../../lib/proto/message-reader.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'

const registry = createProtoRegistry()
const CLUSTER = 'envoy.config.cluster.v3.Cluster'
const LISTENER = 'envoy.config.listener.v3.Listener'
const HCM = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'
const url = (type: string): string => `type.googleapis.com/${type}`

interface Opened {
  readonly reader: FieldReader
  readonly findings: Findings
  finish(): void
}

function open(desc: DescMessage, message: Message, path = ''): Opened {
  const findings = new Findings()
  return { findings, ...createMessageReader({ registry, findings, desc, message, path }) }
}

function fromJsonText(type: string, json: unknown, path = ''): Opened {
  const desc = registry.expect(type)
  const { message, errors } = decodeJson(registry, desc, json, path)
  t.same(errors.map(String), [])
  return open(desc, message ?? create(desc), path)
}

/** The same message after a trip over the wire: nothing of what the JSON decoder remembers is left. */
function fromWire(type: string, json: unknown): Opened {
  const desc = registry.expect(type)
  const { message } = decodeJson(registry, desc, json, '')
  return open(desc, fromBinary(desc, toBinary(desc, message ?? create(desc))))
}

const cluster = {
  name: 'web',
  connect_timeout: '0.250s',
  type: 'STRICT_DNS',
  lb_policy: 'RING_HASH',
  ring_hash_lb_config: { minimum_ring_size: '1024' },
  per_connection_buffer_limit_bytes: 0,
  respect_dns_ttl: true,
  ignore_health_on_host_removal: false,
  metadata: { filter_metadata: { 'envoy.lb': { a: [1, { b: null }] } } },
  health_checks: [
    {
      timeout: '1s',
      interval: '2s',
      http_health_check: { path: '/h', expected_statuses: [{ start: '200', end: '300' }] },
    },
    { timeout: '3s', tcp_health_check: { receive: [{ binary: 'aGk=' }] } },
  ],
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': url('envoy.extensions.upstreams.http.v3.HttpProtocolOptions'),
      common_http_protocol_options: { idle_timeout: '1.500s', max_headers_count: 7 },
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
  transport_socket: {
    name: 'x',
    typed_config: { '@type': url('acme.Socket'), secret_name: 's', limit: 3, wait: '2s' },
  },
}

/** Reads a good part of the cluster, in every way there is, into plain data. */
function readCluster(reader: FieldReader): unknown {
  const options = reader
    .anyMap('typed_extension_protocol_options')
    .get('envoy.extensions.upstreams.http.v3.HttpProtocolOptions')
  const common = options?.fields.message('common_http_protocol_options')
  const socket = reader.message('transport_socket')
  const stranger = socket?.any('typed_config')
  return {
    name: reader.string('name'),
    alt: reader.string('alt_stat_name'),
    timeout: reader.durationMs('connect_timeout'),
    unsetTimeout: reader.durationMs('cleanup_interval'),
    kind: reader.which('cluster_discovery_type'),
    type: reader.enumName('type'),
    policy: reader.enumName('lb_policy'),
    family: reader.enumName('dns_lookup_family'),
    config: reader.which('lb_config'),
    ring: reader.message('ring_hash_lb_config')?.number('minimum_ring_size'),
    buffer: reader.number('per_connection_buffer_limit_bytes'),
    unsetNumber: reader.number('max_requests_per_connection'),
    ttl: reader.bool('respect_dns_ttl'),
    unsetBool: reader.bool('use_tcp_for_dns_lookups'),
    optional: reader.optionalBool('track_timeout_budgets'),
    has: [reader.has('name'), reader.has('alt_stat_name'), reader.has('health_checks'), reader.has('dns_resolvers')],
    metadata: reader.message('metadata')?.json('filter_metadata'),
    checks: reader.messages('health_checks').map((check) => [
      check.path,
      check.durationMs('timeout'),
      check.which('health_checker'),
      check
        .message('http_health_check')
        ?.messages('expected_statuses')
        .map((range) => range.number('end')),
      check
        .message('tcp_health_check')
        ?.messages('receive')
        .map((payload) => payload.bytes('binary')?.toString()),
    ]),
    options: [
      options?.typeUrl,
      options?.path,
      options?.empty,
      common?.durationMs('idle_timeout'),
      common?.number('max_headers_count'),
    ],
    http2: options?.fields.message('explicit_http_config')?.which('protocol_config'),
    socket: [
      socket?.string('name'),
      stranger?.typeUrl,
      stranger?.fields.string('secret_name'),
      stranger?.fields.number('limit'),
    ],
    wait: stranger?.fields.durationMs('wait'),
  }
}

t.test('a message reads the same from JSON and from the wire', async (t) => {
  const json = fromJsonText(CLUSTER, cluster)
  const wire = fromWire(CLUSTER, cluster)
  const value = readCluster(json.reader)
  t.same(readCluster(wire.reader), value)
  t.match(value, {
    name: 'web',
    alt: '',
    timeout: 250,
    unsetTimeout: undefined,
    kind: 'type',
    type: 'STRICT_DNS',
    policy: 'RING_HASH',
    family: 'AUTO',
    config: 'ring_hash_lb_config',
    ring: 1024,
    buffer: 0,
    unsetNumber: undefined,
    ttl: true,
    unsetBool: false,
    optional: undefined,
    has: [true, false, true, false],
    metadata: { 'envoy.lb': { a: [1, { b: null }] } },
    checks: [
      ['health_checks[0]', 1000, 'http_health_check', [300], undefined],
      ['health_checks[1]', 3000, 'tcp_health_check', undefined, ['hi']],
    ],
    options: [
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      'typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]',
      false,
      1500,
      7,
    ],
    http2: 'http2_protocol_options',
    socket: ['x', 'acme.Socket', 's', 3],
    wait: 2000,
  })
  for (const { findings, finish } of [json, wire]) {
    finish()
    t.same(findings.errors, [])
    t.same(findings.ignored, [
      'health_checks[0].interval',
      'health_checks[0].http_health_check.path',
      'health_checks[0].http_health_check.expected_statuses[0].start',
      'typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].explicit_http_config.http2_protocol_options',
    ])
  }
  const { ignore_health_on_host_removal: _, ...set } = cluster
  t.same(json.reader.toJson(), set, 'whole, as proto-JSON')
})

t.test('what nothing consumed is reported, by the policy that held when it was read', async (t) => {
  const listener = {
    name: 'l',
    stat_prefix: 'p',
    use_original_dst: true,
    listener_filters: [{ name: 'a', filter_disabled: { any_match: true } }],
    filter_chains: [
      {
        name: 'c',
        transport_socket: { name: 't' },
        filters: [
          {
            name: 'hcm',
            typed_config: { '@type': url(HCM), stat_prefix: 's', via: 'v', http_filters: [{ name: 'f' }] },
          },
        ],
      },
    ],
  }
  const { reader, findings, finish } = fromJsonText(LISTENER, listener, 'static_resources.listeners[0]')
  t.equal(reader.string('name'), 'l')
  reader.ignore('stat_prefix', 'traffic_direction')
  reader.refuse('use_original_dst', 'is not possible here')
  reader.refuse('freebind', 'is not possible here')
  const [filter] = reader.messages('listener_filters')
  reader.unread('refuse')
  const [chain] = reader.messages('filter_chains')
  const hcm = chain.messages('filters')[0].any('typed_config')?.fields
  t.equal(hcm?.typeName, HCM)
  t.equal(hcm?.string('stat_prefix'), 's')
  hcm?.messages('http_filters')[0].unread('report')
  t.equal(filter.string('name'), 'a')
  filter.error(undefined, 'is wrong as a whole')
  filter.error('name', 'is wrong')
  finish()
  const base = 'static_resources.listeners[0]'
  t.same(findings.errors.map(String), [
    `${base}.use_original_dst: is not possible here`,
    `${base}.listener_filters[0]: is wrong as a whole`,
    `${base}.listener_filters[0].name: is wrong`,
    `${base}.filter_chains[0].filters[0].name: is not supported here`,
    `${base}.filter_chains[0].filters[0].typed_config.via: is not supported here`,
    `${base}.filter_chains[0].transport_socket: is not supported here`,
    `${base}.filter_chains[0].name: is not supported here`,
  ])
  t.same(
    findings.ignored,
    [
      `${base}.stat_prefix`,
      `${base}.listener_filters[0].filter_disabled`,
      `${base}.filter_chains[0].filters[0].typed_config.http_filters[0].name`,
    ].sort((a, b) => findings.ignored.indexOf(a) - findings.ignored.indexOf(b)),
  )
  t.equal(findings.ignored.length, 3)
})

t.test('two readers of one field see what the other has read', async (t) => {
  const { reader, findings, finish } = fromJsonText(CLUSTER, cluster)
  reader.message('metadata')
  reader.message('metadata')?.json('filter_metadata')
  t.equal(reader.message('metadata'), reader.message('metadata'))
  t.equal(reader.messages('health_checks')[0], reader.messages('health_checks')[0])
  t.equal(
    reader.message('transport_socket')?.any('typed_config'),
    reader.message('transport_socket')?.any('typed_config'),
  )
  reader.json('health_checks')
  reader.toJson()
  finish()
  t.same([findings.errors, findings.ignored], [[], []], 'toJson consumes the whole')
})

t.test('a getter for what the schema does not have is a bug that names the message', async (t) => {
  const { reader } = fromJsonText(CLUSTER, cluster)
  t.throws(() => reader.string('nmae'), { message: `${CLUSTER} has no field "nmae"` })
  t.throws(() => reader.which('nothing'), { message: `${CLUSTER} has no oneof "nothing"` })
  t.throws(() => reader.number('name'), {
    message: `${CLUSTER}.name was read as singular number, but it is singular string`,
  })
  t.throws(() => reader.message('health_checks'), /was read as singular message, but it is list message/)
  t.throws(() => reader.message('connect_timeout'), /was read as singular message, but it is singular duration/)
  t.throws(() => reader.ignore('nmae'), /has no field "nmae"/)
})

t.test('what the wire allows and the schema does not is reported', async (t) => {
  const desc = registry.expect(CLUSTER)
  // name "x", lb_policy 99 (field 6), field 5000 with the value 1.
  const bytes = Buffer.from([0x0a, 1, 0x78, 0x30, 99, 0xc0, 0xb8, 0x02, 1])
  for (const policy of ['report', 'refuse'] as const) {
    const { reader, findings, finish } = open(desc, fromBinary(desc, bytes), 'c')
    reader.unread(policy)
    t.equal(reader.string('name'), 'x')
    t.equal(reader.enumName('lb_policy'), 'ROUND_ROBIN')
    finish()
    t.equal(findings.errors[0].toString(), `c.lb_policy: 99 is not a value of ${CLUSTER}.LbPolicy`)
    if (policy === 'refuse') t.equal(findings.errors[1].toString(), `c.#5000: unknown field number 5000 of ${CLUSTER}`)
    else t.same(findings.ignored, ['c.#5000'])
  }
  const range = registry.expect('envoy.type.v3.Int64Range')
  const wide = open(range, create(range, { start: 2n ** 60n, end: -5n } as never), 'r')
  t.equal(wide.reader.number('start'), undefined)
  t.equal(wide.reader.number('end'), -5)
  t.same(wide.findings.errors.map(String), ['r.start: is beyond 2^53: 1152921504606846976'])
  const odd = open(desc, create(desc, { connectTimeout: { seconds: 1n, nanos: -1 } } as never), '')
  t.equal(odd.reader.durationMs('connect_timeout'), undefined)
  t.same(odd.findings.errors.map(String), ['connect_timeout: is not a duration: 1 seconds and -1 nanoseconds'])
})

t.test('extensions', async (t) => {
  const FILTER = 'envoy.config.listener.v3.Filter'
  const anyDesc = registry.expect('google.protobuf.Any')
  const any = (json: unknown): { [key: string]: unknown } => ({ name: 'x', typed_config: json })

  t.test('a TypedStruct reads as what it holds', async (t) => {
    for (const [name, type] of [
      ['xds.type.v3.TypedStruct', HCM],
      ['udpa.type.v1.TypedStruct', HCM],
    ]) {
      const json = any({ '@type': url(name), type_url: url(type), value: { stat_prefix: 's', via: 'v' } })
      for (const { reader, findings, finish } of [fromJsonText(FILTER, json), fromWire(FILTER, json)]) {
        const extension = reader.any('typed_config')
        t.match(extension, { typeUrl: HCM, path: 'typed_config.value', empty: false })
        t.equal(extension?.fields.string('stat_prefix'), 's')
        reader.string('name')
        finish()
        t.same(findings.ignored, ['typed_config.value.via'])
      }
    }
  })

  t.test('a TypedStruct with a mistake is an error where it stands, also from the wire', async (t) => {
    const json = any({ '@type': url('xds.type.v3.TypedStruct'), type_url: url(HCM), value: { stat_prefix: 3 } })
    const { reader, findings } = fromWire(FILTER, json)
    t.equal(reader.any('typed_config'), undefined)
    t.same(findings.errors.map(String), ['typed_config.value.stat_prefix: expected a string, got 3'])
  })

  t.test('a stranger reads as JSON, and what nobody reads is an unknown field', async (t) => {
    const typed = { '@type': url('acme.Filter'), limit: 3, extra: { a: 1 }, 'odd.key': 1 }
    const json = fromJsonText(FILTER, any(typed))
    const fields = json.reader.any('typed_config')?.fields
    t.equal(fields?.typeName, 'acme.Filter')
    t.equal(fields?.number('limit'), 3)
    json.reader.string('name')
    json.finish()
    t.same(json.findings.errors.map(String), [
      'typed_config.extra: unknown field',
      'typed_config["odd.key"]: unknown field',
    ])
    const wire = fromWire(FILTER, any(typed))
    wire.reader.any('typed_config')?.fields.unread('report')
    wire.finish()
    t.same(wire.findings.errors, [])
    t.ok(wire.findings.ignored.includes('typed_config.value.extra'))
  })

  t.test('empty, missing, opaque and broken ones', async (t) => {
    t.match(fromJsonText(FILTER, any({ '@type': url(HCM) })).reader.any('typed_config'), { typeUrl: HCM, empty: true })
    t.match(fromJsonText(FILTER, any({ '@type': url('acme.F') })).reader.any('typed_config'), {
      typeUrl: 'acme.F',
      empty: true,
    })
    t.equal(fromJsonText(FILTER, { name: 'x' }).reader.any('typed_config'), undefined)
    const raw = (typeUrl: string, value: number[]): Opened => {
      const desc = registry.expect(FILTER)
      const typedConfig = Object.assign(create(anyDesc), { typeUrl, value: new Uint8Array(value) })
      return open(desc, create(desc, { configType: { case: 'typedConfig', value: typedConfig } } as never), 'f')
    }
    const opaque = raw('x/acme.Filter', [1, 2])
    t.match(opaque.reader.any('typed_config'), { typeUrl: 'acme.Filter', empty: false })
    opaque.finish()
    t.same(opaque.findings.errors.map(String), ['f.typed_config.value: unknown field'])
    const broken = raw(`x/${HCM}`, [0x12, 9])
    t.equal(broken.reader.any('typed_config'), undefined)
    t.match(broken.findings.errors.map(String), [/^f\.typed_config: cannot be decoded as envoy\.extensions/])
    const struct = fromJsonText(FILTER, any({ '@type': 'x/google.protobuf.Struct', value: { a: 1 } })).reader.any(
      'typed_config',
    )
    t.equal(struct?.fields.number('a'), 1)
    const text = fromJsonText(FILTER, any({ '@type': 'x/google.protobuf.StringValue', value: 'v' })).reader.any(
      'typed_config',
    )
    t.equal(text?.fields.string('value'), 'v')
  })
})

t.test('maps, lists of scalars and wrappers', async (t) => {
  const context = fromJsonText('envoy.extensions.filters.http.ext_authz.v3.CheckSettings', {
    context_extensions: { a: 'b', c: 'd' },
  })
  t.same(
    [...context.reader.scalarMap('context_extensions')],
    [
      ['a', 'b'],
      ['c', 'd'],
    ],
  )
  const host = fromJsonText('envoy.config.route.v3.VirtualHost', { domains: ['a', 'b'] })
  t.same(host.reader.strings('domains'), ['a', 'b'])
  t.same(host.reader.strings('request_headers_to_remove'), [])
  const retry = fromJsonText('envoy.config.route.v3.RetryPolicy', {
    retriable_status_codes: [500, 503],
    num_retries: 0,
  })
  t.same(retry.reader.numbers('retriable_status_codes'), [500, 503])
  t.equal(retry.reader.number('num_retries'), 0)
  const redirect = fromJsonText('envoy.config.route.v3.RedirectAction', { port_redirect: 0 })
  t.equal(redirect.reader.number('port_redirect'), undefined)
  const metadata = fromJsonText('envoy.config.core.v3.Metadata', { filter_metadata: { ns: { a: 1 } } })
  t.equal(metadata.reader.messageMap('filter_metadata').get('ns')?.number('a'), 1)
})

t.test('the JSON reader', async (t) => {
  const read = (value: JsonObject): Opened => {
    const findings = new Findings()
    return { findings, ...createJsonReader({ findings, value, path: 'c', typeName: 'acme.C', registry }) }
  }

  t.test('reads every kind of value in both spellings', async (t) => {
    const { reader, findings, finish } = read({
      someName: 'n',
      list: ['a', 'b'],
      flag: true,
      off: false,
      count: '12',
      ratio: 0.5,
      wait: '1.5s',
      seconds: 2,
      mode: 'FAST',
      modes: ['A'],
      blob: 'aGk=',
      sub: { x: 1 },
      subs: [{ x: 1 }, { x: 2 }],
      map: { k: { x: 3 } },
      labels: { a: 'b', n: 1 },
      free: [{ any: null }],
      nothing: null,
      empty: [],
      extension: { '@type': url(HCM), stat_prefix: 's' },
      extensions: { one: { '@type': url('acme.D'), y: 1 } },
    })
    t.equal(reader.string('some_name'), 'n')
    t.same(reader.strings('list'), ['a', 'b'])
    t.same([reader.bool('flag'), reader.optionalBool('off'), reader.optionalBool('unset')], [true, false, undefined])
    t.same([reader.number('count'), reader.number('ratio'), reader.number('unset')], [12, 0.5, undefined])
    t.same(
      [reader.durationMs('wait'), reader.durationMs('seconds'), reader.durationMs('unset')],
      [1500, 2000, undefined],
    )
    t.same([reader.enumName('mode'), reader.enumNames('modes')], ['FAST', ['A']])
    t.same(reader.bytes('blob'), Buffer.from('hi'))
    t.equal(reader.message('sub')?.number('x'), 1)
    t.equal(reader.message('sub'), reader.message('sub'))
    t.same(
      reader.messages('subs').map((sub) => [sub.path, sub.number('x')]),
      [
        ['c.subs[0]', 1],
        ['c.subs[1]', 2],
      ],
    )
    t.equal(reader.messageMap('map').get('k')?.number('x'), 3)
    t.same(
      [...reader.scalarMap('labels')],
      [
        ['a', 'b'],
        ['n', 1],
      ],
    )
    t.same(reader.json('free'), [{ any: null }])
    t.same(
      [reader.has('nothing'), reader.has('empty'), reader.has('off'), reader.has('unset')],
      [false, false, true, false],
    )
    t.same([reader.string('nothing'), reader.strings('empty')], ['', []])
    t.equal(reader.any('extension')?.fields.string('stat_prefix'), 's')
    const other = reader.anyMap('extensions').get('one')
    t.same([other?.typeUrl, other?.fields.number('y')], ['acme.D', 1])
    finish()
    t.same([findings.errors, findings.ignored], [[], []])
    t.throws(() => reader.which('x'), /no schema/)
  })

  t.test("reports wrong types once, with the author's spelling, and goes on", async (t) => {
    const { reader, findings, finish } = read({
      someName: 1,
      list: ['a', 2],
      flag: 'yes',
      count: 'x',
      wait: 'soon',
      sub: [],
      subs: [3],
      map: { k: 4 },
      labels: { a: {} },
      extension: { no: 'type' },
      deep: { zebra: 1 },
      left: 1,
    })
    t.equal(reader.string('some_name'), '')
    t.equal(reader.string('some_name'), '')
    t.same(reader.strings('list'), ['a'])
    t.equal(reader.bool('flag'), false)
    t.equal(reader.number('count'), undefined)
    t.equal(reader.durationMs('wait'), undefined)
    t.equal(reader.message('sub'), undefined)
    t.same(reader.messages('subs'), [])
    t.equal(reader.messageMap('map').size, 0)
    t.equal(reader.scalarMap('labels').size, 0)
    t.equal(reader.any('extension'), undefined)
    reader.message('deep')
    finish()
    t.same(findings.errors.map(String), [
      'c.someName: expected a string, got 1',
      'c.list[1]: expected a string, got 2',
      'c.flag: expected true or false, got "yes"',
      'c.count: expected a number, got "x"',
      'c.wait: expected a duration such as "1.5s", got "soon"',
      'c.sub: expected an object, got a list',
      'c.subs[0]: expected an object, got 3',
      'c.map["k"]: expected an object, got 4',
      'c.labels["a"]: expected a plain value, got an object',
      'c.extension: "@type" is missing',
      'c.deep.zebra: unknown field',
      'c.left: unknown field',
    ])
  })

  t.test('ignores, refuses and hands out the whole as the other reader does', async (t) => {
    const { reader, findings, finish } = read({ a: 1, b: 2, c: 3 })
    reader.ignore('a', 'unset')
    reader.refuse('b', 'is not possible')
    reader.error('c', 'is wrong')
    reader.error(undefined, 'as a whole')
    t.same(reader.unread('report').toJson(), { a: 1, b: 2, c: 3 })
    finish()
    t.same(findings.errors.map(String), ['c.b: is not possible', 'c.c: is wrong', 'c: as a whole'])
    t.same(findings.ignored, ['c.a'])
  })

  t.test('without a registry an Any is JSON with a name', async (t) => {
    const findings = new Findings()
    const value = {
      a: { '@type': url(HCM), nonsense: 1 },
      s: { '@type': url('xds.type.v3.TypedStruct'), type_url: url('acme.X'), value: { y: 2 } },
      bad: { y: 3 },
    }
    const { reader, finish } = createJsonReader({ findings, value, path: '', typeName: 'x' })
    t.equal(reader.any('a')?.fields.number('nonsense'), 1)
    t.match(reader.any('s'), { typeUrl: 'acme.X', path: 's.value' })
    t.equal(reader.any('s')?.fields.number('y'), 2)
    t.equal(reader.any('bad'), undefined)
    finish()
    t.same(findings.errors.map(String), ['bad: expected an object with "@type", got an object'])
  })
})
