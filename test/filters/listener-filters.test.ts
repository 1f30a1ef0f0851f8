import { create } from '@bufbuild/protobuf'
import t from 'tap'
import { httpInspector } from '../../filters/http-inspector/index.ts'
import { listenerLocalRateLimit } from '../../filters/local-ratelimit-listener/index.ts'
import { createOriginalDst } from '../../filters/original-dst/index.ts'
import { proxyProtocol } from '../../filters/proxy-protocol/index.ts'
import { tlsInspector } from '../../filters/tls-inspector/index.ts'
import type { ListenerFilter, ListenerFilterFactory } from '../../lib/chain/network.ts'
import { createFilterRegistry } from '../../lib/chain/registry.ts'
import { lowerFilters, standardListenerFilters } from '../../lib/cli/standard-filters.ts'
import { readNativeConfig } from '../../lib/config/native/read.ts'
import { Findings, type Json, type JsonObject } from '../../lib/core/errors.ts'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import { createMessageReader } from '../../lib/proto/message-reader.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { routerFactory } from '../../lib/router/router.ts'
import { parseJson, type TestScope, testScope } from '../support/chain-driver.ts'
import { fuzz } from '../support/fuzz.ts'
import { connection, inspect } from '../support/listener-filter.ts'
import { byteByByte, sameHoweverSplit } from '../support/splits.ts'

function counted(scope: TestScope): Record<string, number> {
  return Object.fromEntries([...scope.counters].filter(([, cell]) => cell.v > 0).map(([name, cell]) => [name, cell.v]))
}

function httpFilter(scope: TestScope = testScope()): ListenerFilter {
  return httpInspector.compile(parseJson({}, httpInspector.parse).value, scope)
}

const HTTP = httpFilter()

/** What was found, however the bytes came. */
function protocol(text: string): unknown {
  const { outcome, facts, rest } = sameHoweverSplit(Buffer.from(text, 'latin1'), (pieces) => inspect(HTTP, pieces))
  t.equal(rest, text, 'nothing is consumed')
  return outcome === 'passed' ? (facts.applicationProtocols ?? 'none') : outcome
}

t.test('http: versions are told by the first line', async (t) => {
  const lines: [string, unknown][] = [
    ['GET / HTTP/1.1\r\n', ['http/1.1']],
    ['GET / HTTP/1.1\nHost: a\n', ['http/1.1']],
    ['GET /a%20b?c=d HTTP/1.0\r\nHost: a\r\n\r\n', ['http/1.0']],
    ['GET / HTTP/1.2\r\n', ['http/1.0']],
    ['OPTIONS * HTTP/1.1\r\n', ['http/1.1']],
    ['CONNECT a:443 HTTP/1.1\r\n', ['http/1.1']],
    ['ANY-token!~ http://a/ HTTP/1.1\r\n', ['http/1.1']],
    ['P / HTTP/1.1\r\n', ['http/1.1']],
    ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', ['h2c']],
    ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', ['h2c']],
    ['PRI * HTTP/1.1\r\n', ['http/1.1']],
    ['GET / HTTP/1.1', 'more'],
    ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r', 'more'],
    ['G', 'more'],
    ['BASELINE-CONTROL', 'more'],
    [`${'A'.repeat(32)} / HTTP/1.1\r\n`, ['http/1.1']],
  ]
  for (const [text, expected] of lines) t.same(protocol(text), expected, JSON.stringify(text))
})

t.test('http: everything else passes without a protocol', async (t) => {
  const lines = [
    '\r\nGET / HTTP/1.1\r\n',
    '\nGET',
    ' GET / HTTP/1.1\r\n',
    '\x16\x03\x01\x02\x00\x01',
    'GET /\r\n',
    'GET  HTTP/1.1\r\n',
    'GET / HTTP/1.1 \r\n',
    'GET / HTTP/11\r\n',
    'GET / http/1.1\r\n',
    'GET / FOO HTTP/1.1\r\n',
    'GET /\0 HTTP/1.1\r\n',
    'GET /\r HTTP/1.1\r\n',
    'GET / HTTP/1.1\r\r\n',
    'G(T / HTTP/1.1\r\n',
    'PRI * HTTP/2.0\r\n\r\nSX',
    'SSH-2.0-OpenSSH_9.2\r\n',
    // Who waits for an answer to these would wait for the end of the inspection.
    'SSH-2.0-OpenSSH_9.2p1-Debian-2+deb12u3',
    'hello',
    '*3',
    '1',
    `${'A'.repeat(33)}`,
    'HTTP/1.1 200 OK\r\n',
    '\0',
  ]
  for (const text of lines) t.equal(protocol(text), 'none', JSON.stringify(text))
})

t.test('http: what is found is counted, TLS is left alone, and a line is bounded', async (t) => {
  const scope = testScope()
  const filter = httpFilter(scope)
  for (const text of ['GET / HTTP/1.1\r\n', 'GET / HTTP/1.0\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', '\0']) {
    inspect(filter, [Buffer.from(text)])
  }
  const found = { http11_found: 1, http10_found: 1, http2_found: 1, http_not_found: 1 }
  const names = (cells: object): object =>
    Object.fromEntries(Object.entries(cells).map(([n, v]) => [`http_inspector.${n}`, v]))
  t.same(counted(scope), names(found))
  const tls = inspect(filter, [Buffer.from('GET / HTTP/1.1\r\n')], { facts: connection({ transportProtocol: 'tls' }) })
  t.same([tls.outcome, tls.facts], ['passed', {}])
  const plain = inspect(filter, [Buffer.from('\0')], { facts: connection({ transportProtocol: 'raw_buffer' }) })
  t.equal(plain.outcome, 'passed')
  t.same(counted(scope), names({ ...found, http_not_found: 2 }))
  const endless = Buffer.concat([Buffer.from('GET /'), Buffer.alloc(70_000, 97)])
  t.equal(inspect(filter, [endless.subarray(0, 65_535)]).outcome, 'more')
  t.match(inspect(filter, [endless]).why, /no HTTP request line within 65536 bytes/)
  t.equal(scope.counters.get('http_inspector.read_error')?.v, 1)
})

t.test('http: hostile bytes never throw, and are judged alike however they are cut', async (t) => {
  const { runs, findings } = fuzz({
    target: 'http-inspector',
    seed: 3,
    runs: 3_000,
    inputs: ['GET /a HTTP/1.1\r\nHost: a\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'].map((text) => Buffer.from(text)),
    check(bytes) {
      const whole = JSON.stringify(inspect(HTTP, [bytes]))
      if (JSON.stringify(inspect(HTTP, byteByByte(bytes))) !== whole) throw new Error('by bytes')
    },
  })
  t.ok(runs >= 3_000)
  t.same(
    findings.map(({ error, trail }) => `${error.message} ${trail.join(', ')}`),
    [],
  )
})

const RATE = { stat_prefix: 'edge', token_bucket: { max_tokens: 2, fill_interval: '1s' } }

t.test('rate limit: connections beyond the bucket are refused', async (t) => {
  const scope = testScope()
  const { value, errors } = parseJson(RATE, listenerLocalRateLimit.parse)
  t.same(errors, [])
  const filter = listenerLocalRateLimit.compile(value, scope)
  const outcomes = (): string[] => Array.from({ length: 3 }, () => inspect(filter, []).outcome)
  t.same(outcomes(), ['passed', 'passed', 'refused'])
  scope.clock.advance(1_000)
  t.same(outcomes(), ['passed', 'refused', 'refused'])
  t.same(counted(scope), { 'listener_local_ratelimit.edge.rate_limited': 3 })
  t.match(inspect(filter, []).why, /rate limit/)
  t.equal(filter.inspect, undefined, 'nothing is read')
})

t.test('rate limit: it can be switched off, by a runtime key too', async (t) => {
  const outcome = (flag: JsonObject, runtime: JsonObject = {}): string => {
    const { value, errors } = parseJson({ ...RATE, runtime_enabled: flag }, listenerLocalRateLimit.parse)
    t.same(errors, [])
    const filter = listenerLocalRateLimit.compile(value, testScope({ runtime }))
    return Array.from({ length: 3 }, () => inspect(filter, []).outcome)[2]
  }
  t.equal(outcome({ default_value: false }), 'passed')
  t.equal(outcome({ default_value: true, runtime_key: 'limit' }), 'refused')
  t.equal(outcome({ default_value: true, runtime_key: 'limit' }, { limit: false }), 'passed')
  t.equal(outcome({ default_value: false, runtime_key: 'limit' }, { limit: 'true' }), 'refused')
  t.equal(outcome({ default_value: true, runtime_key: 'limit' }, { limit: 7 }), 'refused')
  t.same(parseJson({}, listenerLocalRateLimit.parse).errors, [
    'stat_prefix: must not be empty',
    'token_bucket: is required',
  ])
})

t.test('original destination: only internal listeners have it where sockets do not tell', async (t) => {
  t.equal(
    createOriginalDst('there is no such option here').internalOnly,
    'original destinations are not available: there is no such option here',
  )
  t.equal(createOriginalDst().internalOnly, undefined)
  const native = (listener: object): unknown =>
    readNativeConfig(
      { listeners: [{ ...listener, listenerFilters: [{ name: 'original_dst' }], http: { routes: [] } }], clusters: [] },
      { registry: createFilterRegistry([routerFactory]), filters: lowerFilters() },
    ).listeners[0].listenerFilters.map(({ name }) => name)
  t.same(native({ name: 'inside', internal: true }), ['original_dst'])
  t.throws(() => native({ address: '127.0.0.1:0' }), {
    message: /^listeners\[0\]\.listenerFilters\[0\]: original destinations are not available: .*SO_ORIGINAL_DST/,
  })
})

t.test('original destination: within the gateway it is what came along', async (t) => {
  const filter = createOriginalDst('no').compile({}, testScope())
  const key = 'envoy.filters.listener.original_dst'
  const found = (metadata: Json | undefined, objects: Record<string, unknown> = {}): unknown => {
    const facts = connection({ kind: 'internal' })
    if (metadata !== undefined) facts.state.mergeMetadata(key, metadata)
    for (const [name, value] of Object.entries(objects)) facts.state.setObject(`${key}.${name}`, value)
    return inspect(filter, [], { facts }).facts
  }
  t.same(found(undefined), {})
  t.same(found({ local: '198.51.100.9:80' }), { localAddress: '198.51.100.9', localPort: 80 })
  t.same(found({ local: '[2001:DB8::1]:8080' }), { localAddress: '2001:db8::1', localPort: 8080 })
  t.same(found({ local: '[::ffff:10.0.0.1]:1' }), { localAddress: '10.0.0.1', localPort: 1 })
  const both = { local_ip: '10.0.0.2:2', remote_ip: '10.0.0.3:3' }
  const remote = { remoteAddress: '10.0.0.3', remotePort: 3 }
  t.same(found(undefined, both), { localAddress: '10.0.0.2', localPort: 2, ...remote })
  t.same(found({ local: '10.0.0.1:1' }, both), { localAddress: '10.0.0.1', localPort: 1, ...remote }, 'metadata wins')
  for (const local of ['a.example:80', '10.0.0.1', '10.0.0.1:65536', '[10.0.0.1]:80', '::1:80', ':80', '', 7]) {
    t.same(found({ local }), {}, `${local} is no address`)
  }
  t.same(found('text'), {})
})

t.test('original destination: it becomes the local address', async (t) => {
  const factory = createOriginalDst()
  const { value, errors } = parseJson({}, factory.parse)
  t.same(errors, [])
  const filter = factory.compile(value, testScope())
  const told = { originalDestination: () => ({ kind: 'ip', host: '198.51.100.9', port: 80 }) as const }
  t.same(inspect(filter, [], { socket: told }).facts, { localAddress: '198.51.100.9', localPort: 80 })
  t.same(inspect(filter, []).facts, {}, 'it was not redirected')
  t.same(inspect(filter, [], { socket: told, facts: connection({ kind: 'pipe' }) }).facts, {}, 'Unix sockets have none')
  const failing = {
    originalDestination: () => {
      throw new Error('ENOPROTOOPT')
    },
  }
  t.match(inspect(filter, [], { socket: failing }).why, /the original destination is not known: ENOPROTOOPT/)
})

const registry = createProtoRegistry()

/** As `parseJson`, but with the schema of the message. */
function parseMessage<C>(factory: ListenerFilterFactory<C>, json: JsonObject): { value: C; reports: string[] } {
  const desc = registry.expect(factory.typeUrls[0])
  const findings = new Findings()
  const { message, errors } = decodeJson(registry, desc, json, '')
  t.same(errors.map(String), [])
  const open = createMessageReader({ registry, findings, desc, message: message ?? create(desc), path: '' })
  const value = factory.parse(open.reader)
  open.finish()
  return { value, reports: [...findings.errors.map(String), ...findings.ignored] }
}

t.test("each reads Envoy's message as it reads JSON, every field of it", async (t) => {
  const cases: [ListenerFilterFactory<never> | ListenerFilterFactory<unknown>, JsonObject][] = [
    [httpInspector, {}],
    [createOriginalDst(), {}],
    [
      listenerLocalRateLimit,
      {
        ...RATE,
        runtime_enabled: { default_value: false, runtime_key: 'k' },
        token_bucket: { max_tokens: 3, tokens_per_fill: 2, fill_interval: '0.250s' },
      },
    ],
    [
      proxyProtocol,
      {
        rules: [
          { tlv_type: 2, on_tlv_present: { metadata_namespace: 'n', key: 'k', value_string_encoding: 'BASE64' } },
        ],
        allow_requests_without_proxy_protocol: true,
        pass_through_tlvs: { match_type: 'INCLUDE', tlv_type: [2, 5] },
        disallowed_versions: ['V1'],
        stat_prefix: 'p',
        tlv_location: 'FILTER_STATE',
      },
    ],
    [proxyProtocol, { pass_through_tlvs: {} }],
    [
      tlsInspector,
      {
        enable_ja3_fingerprinting: true,
        enable_ja4_fingerprinting: true,
        max_client_hello_size: 1_000,
        close_connection_on_client_hello_parsing_errors: true,
      },
    ],
  ]
  for (const [factory, json] of cases) {
    const { value, reports } = parseMessage(factory as ListenerFilterFactory, json)
    t.same(reports, [], factory.name)
    t.same(value, parseJson(json, (factory as ListenerFilterFactory).parse).value, factory.name)
  }
  const sized = parseMessage(tlsInspector, { initial_read_buffer_size: 512 })
  t.same(sized.reports, ['initial_read_buffer_size'], 'without effect, and said so')
})

t.test('the reference binary has them all', async (t) => {
  const names = standardListenerFilters().map(({ name }) => name)
  t.same(names.sort(), [
    'envoy.filters.listener.http_inspector',
    'envoy.filters.listener.local_ratelimit',
    'envoy.filters.listener.original_dst',
    'envoy.filters.listener.proxy_protocol',
    'envoy.filters.listener.tls_inspector',
    'headgate.filters.listener.trusted_proxy_protocol',
  ])
})
