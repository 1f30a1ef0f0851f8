import t from 'tap'
import { crc32c } from '../../filters/proxy-protocol/crc32c.ts'
import { proxyProtocol, trustedProxyProtocol } from '../../filters/proxy-protocol/index.ts'
import { proxyProtocol as native } from '../../filters/proxy-protocol/native.ts'
import { sanitizeUtf8 } from '../../filters/proxy-protocol/tlv-rules.ts'
import type { ListenerFilter } from '../../lib/chain/network.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { parseJson, type TestScope, testScope } from '../support/chain-driver.ts'
import { fuzz } from '../support/fuzz.ts'
import { connection, type Inspected, inspect } from '../support/listener-filter.ts'
import { byteByByte, sameHoweverSplit } from '../support/splits.ts'
import { addresses, ENDS4, ENDS6, header2, line, proxy2, SIGNATURE, tlv } from './proxy-headers.ts'

function make(config: JsonObject = {}, scope: TestScope = testScope()): ListenerFilter {
  const trusted = 'trusted_sources' in config
  const { value, errors } = parseJson(config, (trusted ? trustedProxyProtocol : proxyProtocol).parse)
  t.same(errors, [])
  return proxyProtocol.compile(value, scope)
}

const STRICT = make()
const OPTIONAL = make({ allow_requests_without_proxy_protocol: true })

function look(filter: ListenerFilter, bytes: Buffer, more: Partial<ConnectionInfo> = {}): Inspected {
  return sameHoweverSplit(bytes, (pieces) => inspect(filter, pieces, { facts: connection(more) }))
}

function counted(scope: TestScope): Record<string, number> {
  return Object.fromEntries([...scope.counters].filter(([, cell]) => cell.v > 0).map(([name, cell]) => [name, cell.v]))
}

const found4 = {
  kind: 'ip',
  remoteAddress: '203.0.113.9',
  remotePort: 51_000,
  localAddress: '198.51.100.2',
  localPort: 443,
}

t.test('both versions give the addresses of both ends, and what follows stays, however they are cut', async (t) => {
  const payload = 'GET / HTTP/1.1\r\n\r\n'
  const one = look(STRICT, Buffer.concat([line(ENDS4), Buffer.from(payload)]))
  t.same(
    [one.outcome, one.facts, one.rest],
    ['passed', { ...found4, proxyProtocol: { version: 1, tlvs: [] } }, payload],
  )
  const two = look(STRICT, Buffer.concat([proxy2(ENDS4), Buffer.from(payload)]))
  t.same(
    [two.outcome, two.facts, two.rest],
    ['passed', { ...found4, proxyProtocol: { version: 2, tlvs: [] } }, payload],
  )
  const udp = look(STRICT, header2(0x21, 0x12, addresses(ENDS4)))
  t.same(udp.facts.remoteAddress, '203.0.113.9', 'over UDP')
})

t.test('IPv6 addresses come in their one spelling, v4-mapped ones as IPv4', async (t) => {
  const source = (bytes: Buffer): unknown => look(STRICT, bytes).facts.remoteAddress
  t.equal(source(proxy2(ENDS6)), '2001:db8::9')
  t.equal(source(line(ENDS6, 'TCP6')), '2001:db8::9')
  t.equal(source(line({ ...ENDS6, source: '2001:0DB8:0:0:1:0:0:1' }, 'TCP6')), '2001:db8::1:0:0:1')
  t.equal(source(line({ ...ENDS6, source: '::ffff:192.0.2.3' }, 'TCP6')), '192.0.2.3')
  t.equal(source(line({ ...ENDS6, source: '::FFFF:C000:0203' }, 'TCP6')), '192.0.2.3')
  t.equal(source(header2(0x21, 0x21, addresses({ ...ENDS6, source: '::ffff:c000:203' }))), '192.0.2.3')
  t.equal(source(header2(0x21, 0x21, addresses({ ...ENDS6, source: '::1' }))), '::1')
})

t.test('headers without addresses leave those of the socket', async (t) => {
  const cases: Record<string, Buffer> = {
    UNKNOWN: Buffer.from('PROXY UNKNOWN\r\n'),
    'UNKNOWN with addresses': Buffer.from('PROXY UNKNOWN ffff::1 ::2 x 99999\r\n'),
    LOCAL: header2(0x20, 0x00, Buffer.alloc(0)),
    'LOCAL with addresses, and what would be a broken TLV': header2(
      0x20,
      0x11,
      Buffer.concat([addresses(ENDS4), Buffer.from('x')]),
    ),
    UNSPEC: header2(0x21, 0x00, Buffer.alloc(0)),
  }
  for (const [name, bytes] of Object.entries(cases)) {
    const { outcome, facts, rest } = look(STRICT, Buffer.concat([bytes, Buffer.from('!')]))
    t.same([outcome, Object.keys(facts), rest], ['passed', ['proxyProtocol'], '!'], name)
  }
})

t.test('every cut of a header wants more, and nothing else', async (t) => {
  for (const bytes of [line(ENDS4), line(ENDS6, 'TCP6'), proxy2(ENDS4, tlv(1, 'h2')), proxy2(ENDS6)]) {
    for (let length = 1; length < bytes.length; length++) {
      t.equal(inspect(STRICT, [bytes.subarray(0, length)]).outcome, 'more')
      t.equal(inspect(OPTIONAL, [bytes.subarray(0, length)]).outcome, 'more')
    }
  }
})

t.test('of two headers the second is payload', async (t) => {
  t.equal(look(STRICT, Buffer.concat([line(ENDS4), line(ENDS4)])).rest, line(ENDS4).toString('latin1'))
  t.equal(look(STRICT, Buffer.concat([proxy2(), proxy2()])).rest, proxy2().toString('latin1'))
  t.equal(look(STRICT, Buffer.concat([line(ENDS4), proxy2()])).rest, proxy2().toString('latin1'))
})

t.test('lines that are not exactly as the protocol says are refused', async (t) => {
  const v6 = 'PROXY TCP6 ::1 ::2'
  const lines = [
    'PROXY \r\n',
    'PROXY TCP4\r\n',
    'PROXY UDP4 1.2.3.4 1.2.3.5 1 2\r\n',
    'PROXY tcp4 1.2.3.4 1.2.3.5 1 2\r\n',
    'PROXY UNKNOWNS\r\n',
    'PROXY  TCP4 1.2.3.4 1.2.3.5 1 2\r\n',
    'PROXY TCP4  1.2.3.4 1.2.3.5 1 2\r\n',
    'PROXY TCP4 1.2.3.4 1.2.3.5 1 2 \r\n',
    'PROXY TCP4 1.2.3.4 1.2.3.5 1\r\n',
    'PROXY TCP4 1.2.3.4 1.2.3.5 1 2 3\r\n',
    'PROXY TCP4 1.2.3.4\t1.2.3.5 1 2\r\n',
    'PROXY TCP4 1.2.3.4 1.2.3.5 01 2\r\n',
    'PROXY TCP4 1.2.3.4 1.2.3.5 +1 2\r\n',
    'PROXY TCP4 1.2.3.4 1.2.3.5 0x1 2\r\n',
    'PROXY TCP4 1.2.3.4 1.2.3.5 65536 2\r\n',
    'PROXY TCP4 1.2.3.4 1.2.3.5 1 100000\r\n',
    'PROXY TCP4 1.2.3.04 1.2.3.5 1 2\r\n',
    'PROXY TCP4 1.2.3 1.2.3.5 1 2\r\n',
    'PROXY TCP4 1.2.3.256 1.2.3.5 1 2\r\n',
    'PROXY TCP4 ::1 ::2 1 2\r\n',
    'PROXY TCP6 1.2.3.4 1.2.3.5 1 2\r\n',
    'PROXY TCP6 ::1%eth0 ::2 1 2\r\n',
    'PROXY TCP6 [::1] ::2 1 2\r\n',
    'PROXY TCP6 1::2::3 ::2 1 2\r\n',
    `${v6}\0 1 2\r\n`,
    `${v6} 1 2\n`,
    `${v6} 1 2\r\r\n`,
    `${v6}\r 1 2\r\n`,
    'PROXY TCP4 0.0.0.0 1.2.3.5 1 2\r\n',
    'PROXY TCP4 224.0.0.1 1.2.3.5 1 2\r\n',
    'PROXY TCP4 1.2.3.4 255.255.255.255 1 2\r\n',
    'PROXY TCP6 :: ::2 1 2\r\n',
    'PROXY TCP6 ::1 ff02::1 1 2\r\n',
  ]
  for (const filter of [STRICT, OPTIONAL]) {
    for (const text of lines) {
      const { outcome, why } = inspect(filter, [Buffer.from(text, 'latin1')])
      t.equal(outcome, 'refused', JSON.stringify(text))
      t.match(why, /^malformed PROXY header: /)
    }
  }
  t.equal(inspect(STRICT, [Buffer.from('PROXY TCP4 1.2.3.4 1.2.3.5 0 65535\r\n')]).outcome, 'passed')
})

t.test('a line has at most 107 bytes', async (t) => {
  const long = (size: number): Buffer => Buffer.from(`PROXY UNKNOWN ${'x'.repeat(size - 16)}\r\n`)
  t.equal(look(STRICT, long(107)).outcome, 'passed')
  t.equal(look(STRICT, long(108)).outcome, 'refused')
  t.equal(look(STRICT, Buffer.from(`PROXY UNKNOWN ${'x'.repeat(200)}`)).outcome, 'refused')
  t.equal(inspect(STRICT, [long(108).subarray(0, 106)]).outcome, 'more')
  t.match(inspect(STRICT, [long(108).subarray(0, 107)]).why, /longer than 107 bytes/)
})

t.test('binary headers that do not hold together are refused', async (t) => {
  const cases: Record<string, Buffer> = {
    'version 1 in binary': header2(0x11, 0x11, addresses(ENDS4)),
    'version 3': header2(0x31, 0x11, addresses(ENDS4)),
    'a third command': header2(0x22, 0x11, addresses(ENDS4)),
    'an unknown family': header2(0x21, 0x41, addresses(ENDS4)),
    'IPv4 over nothing': header2(0x21, 0x10, addresses(ENDS4)),
    'no family over TCP': header2(0x21, 0x01, Buffer.alloc(0)),
    'Unix sockets': header2(0x21, 0x31, Buffer.alloc(216)),
    'Unix datagrams': header2(0x21, 0x32, Buffer.alloc(216)),
    'too short for IPv4': header2(0x21, 0x11, addresses(ENDS4).subarray(1)),
    'too short for IPv6': header2(0x21, 0x21, addresses(ENDS4)),
    'an empty source': proxy2({ ...ENDS4, source: '0.0.0.0' }),
    'a multicast destination': proxy2({ ...ENDS6, destination: 'ff02::1' }),
    'a TLV without length': proxy2(ENDS4, Buffer.from([1])),
    'a TLV with half a length': proxy2(ENDS4, Buffer.from([1, 0])),
    'a TLV that overruns': proxy2(ENDS4, Buffer.from([1, 0, 3, 0, 0])),
    'a second TLV that overruns': proxy2(ENDS4, tlv(1, 'h2'), Buffer.from([2, 255, 255])),
    'a TLV that overruns without addresses': header2(0x21, 0x00, Buffer.from([1, 0, 3, 0, 0])),
    'over 4 KiB': header2(0x21, 0x11, Buffer.concat([addresses(ENDS4), tlv(4, Buffer.alloc(4_096))])),
  }
  for (const [name, bytes] of Object.entries(cases)) {
    const scope = testScope()
    const { outcome, why } = inspect(make({}, scope), [Buffer.concat([bytes, Buffer.alloc(400, 1)])])
    t.equal(outcome, 'refused', name)
    t.match(why, /^malformed PROXY header: /, name)
    t.same(counted(scope), { 'proxy_proto.versions.v2.error': 1, downstream_cx_proxy_proto_error: 1 }, name)
    t.equal(look(OPTIONAL, Buffer.concat([bytes, Buffer.alloc(400, 1)])).outcome, 'refused', `${name}, optional`)
  }
  // Refused before it has come, not after.
  t.equal(inspect(STRICT, [header2(0x21, 0x11, Buffer.alloc(0), 65_535)]).outcome, 'refused')
  const largest = proxy2(ENDS4, tlv(4, Buffer.alloc(4_096 - 16 - 12 - 3)))
  t.same([largest.length, inspect(STRICT, [largest]).outcome], [4_096, 'passed'])
})

t.test('without a header connections pass or not', async (t) => {
  const payloads = [
    'GET / HTTP/1.1\r\n',
    '\x16\x03\x01',
    '\r\n\r\nGET',
    'PROXX',
    'PRI * HTTP/2.0\r\n\r\n',
    'proxy TCP4',
    'P',
    '\r',
  ]
  for (const text of payloads) {
    const bytes = Buffer.from(text, 'latin1')
    const isStart = text.length === 1
    const strict = look(STRICT, bytes)
    t.same([strict.outcome, strict.why], isStart ? ['more', ''] : ['refused', 'no PROXY header'], JSON.stringify(text))
    const optional = look(OPTIONAL, bytes)
    t.same([optional.outcome, optional.facts, optional.rest], [isStart ? 'more' : 'passed', {}, text])
  }
})

t.test('a header of a version that is not allowed closes, where headers are optional too', async (t) => {
  for (const optional of [true, false]) {
    const scope = testScope()
    const filter = make(
      { allow_requests_without_proxy_protocol: optional, disallowed_versions: ['V1'], stat_prefix: 'edge' },
      scope,
    )
    t.same([inspect(filter, [line(ENDS4)]).outcome, inspect(filter, [proxy2()]).outcome], ['refused', 'passed'])
    t.match(inspect(filter, [Buffer.from('PROXY ')]).why, /version 1 are not allowed/)
    t.same(counted(scope), {
      'proxy_proto.edge.versions.v1.found': 2,
      'proxy_proto.edge.versions.v1.disallowed': 2,
      'proxy_proto.edge.versions.v2.found': 1,
      downstream_cx_proxy_proto_error: 2,
    })
  }
})

t.test('what passes and what is refused is counted', async (t) => {
  const strict = testScope()
  const filter = make({}, strict)
  for (const bytes of [line(ENDS4), proxy2(), Buffer.from('GET'), Buffer.from('PROXY x\r\n')]) inspect(filter, [bytes])
  t.same(counted(strict), {
    'proxy_proto.versions.v1.found': 1,
    'proxy_proto.versions.v1.error': 1,
    'proxy_proto.versions.v2.found': 1,
    'proxy_proto.not_found_disallowed': 1,
    downstream_cx_proxy_proto_error: 2,
  })
  const optional = testScope()
  inspect(make({ allow_requests_without_proxy_protocol: true }, optional), [Buffer.from('GET')])
  t.same(counted(optional), { 'proxy_proto.not_found_allowed': 1 })
})

t.test('only trusted sources are believed', async (t) => {
  const scope = testScope()
  const sources = { trusted_sources: ['10.0.0.0/8', '2001:db8::/32', '192.0.2.8'] }
  const strict = make(sources, scope)
  const from = (directRemoteAddress: string): { facts: ConnectionInfo } => ({
    facts: connection({ directRemoteAddress }),
  })
  for (const address of ['10.1.2.3', '2001:db8:1::1', '192.0.2.8', '::ffff:10.0.0.1']) {
    t.equal(inspect(strict, [line(ENDS4)], from(address)).outcome, 'passed', address)
  }
  t.equal(scope.counters.get('proxy_proto.untrusted_source')?.v, 0)
  for (const bytes of [line(ENDS4), proxy2(), Buffer.from('GET /')]) {
    t.match(inspect(strict, [bytes], from('192.0.2.7')).why, /PROXY headers of 192\.0\.2\.7 are not trusted/)
  }
  t.equal(scope.counters.get('proxy_proto.untrusted_source')?.v, 3)

  const optional = make({ ...sources, allow_requests_without_proxy_protocol: true })
  for (const bytes of [line(ENDS4), proxy2(), Buffer.from('PROXY nonsense'), SIGNATURE]) {
    t.equal(look(optional, bytes, { directRemoteAddress: '192.0.2.7' }).outcome, 'refused')
    t.not(look(optional, bytes, { directRemoteAddress: '10.0.0.9' }).why, /not trusted/)
  }
  const plain = look(optional, Buffer.from('GET /'), { directRemoteAddress: '192.0.2.7' })
  t.same([plain.outcome, plain.facts], ['passed', {}], 'without a header it is nobody else')

  const onUnix = { directRemoteAddress: '', kind: 'pipe' } as const
  t.match(inspect(strict, [line(ENDS4)], { facts: connection(onUnix) }).why, /of Unix sockets are not trusted/)
  const unix = make({ trusted_sources: ['unix'] })
  const passed = inspect(unix, [line(ENDS4)], { facts: connection(onUnix) })
  t.same([passed.outcome, passed.facts.kind], ['passed', 'ip'])
  t.equal(inspect(unix, [line(ENDS4)]).outcome, 'refused')
})

t.test('a checksum that is there must hold', async (t) => {
  t.equal(crc32c(Buffer.from('123456789')), 0xe3069283, "the polynomial's check value")
  t.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa, 'RFC 3720 B.4')
  const summed = (...before: Buffer[]): Buffer => {
    const bytes = proxy2(ENDS4, ...before, tlv(3, Buffer.alloc(4)), tlv(4, 'padding'))
    bytes.writeUInt32BE(crc32c(bytes), bytes.length - 14)
    return bytes
  }
  t.equal(look(STRICT, summed()).outcome, 'passed')
  t.equal(look(STRICT, summed(tlv(2, 'a.example'))).outcome, 'passed')
  const bytes = summed()
  for (let at = 16; at < bytes.length; at++) {
    // The type of the checksum itself: without it there is none.
    if (at === 28) continue
    const broken = Buffer.from(bytes)
    broken[at] ^= 1
    t.equal(inspect(STRICT, [broken]).outcome, 'refused', `byte ${at}`)
  }
  for (const wrong of [tlv(3, 'abc'), tlv(3, ''), Buffer.concat([tlv(3, 'abcd'), tlv(3, 'abcd')])]) {
    t.match(inspect(STRICT, [proxy2(ENDS4, wrong)]).why, /checksum/)
  }
})

const RULES: JsonObject[] = [
  { tlv_type: 0xea, on_tlv_present: { key: 'vpce' } },
  { tlv_type: 0x02, on_tlv_present: { metadata_namespace: 'lb', key: 'authority' } },
  { tlv_type: 0xe0, on_tlv_present: { metadata_namespace: 'lb', key: 'id', value_string_encoding: 'BASE64' } },
]
const TLVS = [
  tlv(4, ''),
  tlv(2, 'a.example'),
  tlv(2, 'second'),
  tlv(0xea, Buffer.from('vpc\xff-1', 'latin1')),
  tlv(0xe0, Buffer.from([0, 255])),
]

t.test('TLVs become metadata, as text and typed', async (t) => {
  const { metadata, typed } = look(make({ rules: RULES }), proxy2(ENDS4, ...TLVS))
  t.same(metadata, {
    'envoy.filters.listener.proxy_protocol': { vpce: 'vpc!-1' },
    lb: { authority: 'a.example', id: 'AP8=' },
  })
  const type = { '@type': 'type.googleapis.com/envoy.data.core.v3.TlvsMetadata' }
  t.same(typed, {
    'envoy.filters.listener.proxy_protocol': { ...type, typed_metadata: { vpce: 'dnBj/y0x' } },
    lb: { ...type, typed_metadata: { authority: 'YS5leGFtcGxl', id: 'AP8=' } },
  })
  t.same(look(make({ rules: RULES }), line(ENDS4)).metadata, {})
  t.same(look(make({ rules: RULES }), header2(0x21, 0, tlv(0xea, 'x'))).metadata, {
    'envoy.filters.listener.proxy_protocol': { vpce: 'x' },
  })
  const refused = look(make({ rules: RULES }), proxy2(ENDS4, tlv(2, 'a'), Buffer.from([1, 9])))
  t.same([refused.outcome, refused.metadata], ['refused', {}], 'a refused header leaves nothing')
})

t.test('TLVs become filter state instead', async (t) => {
  const facts = connection()
  const result = inspect(make({ rules: RULES, tlv_location: 'FILTER_STATE' }), [proxy2(ENDS4, ...TLVS)], { facts })
  t.same(result.metadata, {})
  t.same(facts.state.object('envoy.network.proxy_protocol.tlv'), { vpce: 'vpc!-1', authority: 'a.example', id: 'AP8=' })
})

t.test('text of TLVs is made UTF-8, byte by byte', async (t) => {
  const cases: [string, string][] = [
    ['', ''],
    ['61c3a9f09f9880', 'aé😀'],
    ['c3', '!'],
    ['c361', '!a'],
    ['f09f98', '!!!'],
    ['eda080', '!!!'],
    ['c0afff', '!!!'],
    ['80c3a9', '!é'],
  ]
  for (const [bytes, text] of cases) t.equal(sanitizeUtf8(Buffer.from(bytes, 'hex')), text, bytes)
})

t.test('TLVs are passed on where the configuration says so', async (t) => {
  const passed = (pass?: JsonObject): unknown =>
    look(
      make(pass === undefined ? {} : { pass_through_tlvs: pass }),
      proxy2(ENDS4, ...TLVS),
    ).facts.proxyProtocol?.tlvs.map(({ type, value }) => [type, Buffer.from(value).toString('latin1')])
  t.same(passed(), [])
  t.same(passed({ match_type: 'INCLUDE', tlv_type: [2] }), [
    [2, 'a.example'],
    [2, 'second'],
  ])
  t.same(passed({}), [
    [2, 'a.example'],
    [2, 'second'],
    [0xea, 'vpc\xff-1'],
    [0xe0, '\0\xff'],
  ])
  const bytes = proxy2(ENDS4, tlv(3, Buffer.alloc(4)))
  bytes.writeUInt32BE(crc32c(bytes), bytes.length - 4)
  t.same(
    look(make({ pass_through_tlvs: {} }), bytes).facts.proxyProtocol?.tlvs,
    [],
    'a checksum says nothing elsewhere',
  )
})

t.test('values do not keep the packet', async (t) => {
  const bytes = proxy2(ENDS4, tlv(2, 'a.example'))
  const { facts } = inspect(make({ pass_through_tlvs: {} }), [bytes])
  const value = facts.proxyProtocol?.tlvs[0].value
  t.equal(value?.buffer.byteLength, 9)
})

t.test('configurations are checked', async (t) => {
  const errors = (config: JsonObject): string[] => parseJson(config, proxyProtocol.parse).errors
  t.same(errors({ disallowed_versions: ['V1', 'V2'] }), ['disallowed_versions: must leave one version'])
  t.same(errors({ disallowed_versions: ['V3'] }), ['disallowed_versions: "V3" is neither V1 nor V2'])
  t.same(errors({ trusted_sources: ['10.0.0.0/8'] }), ['trusted_sources: unknown field'], 'in the dialect of Envoy')
  t.same(errors({ rules: [{ tlv_type: 256, on_tlv_present: { key: '' } }, { tlv_type: 1 }] }), [
    'rules[0].tlv_type: must be from 0 to 255, not 256',
    'rules[0].on_tlv_present.key: must not be empty',
    'rules[1].on_tlv_present: is required',
  ])
  t.same(errors({ rules: [{ on_tlv_present: { key: 'a', value_string_encoding: 'HEX' } }], tlv_location: 'COOKIE' }), [
    'rules[0].on_tlv_present.value_string_encoding: "HEX" is none of SANITIZED_UTF8 and BASE64',
    'tlv_location: "COOKIE" is neither DYNAMIC_METADATA nor FILTER_STATE',
  ])
  t.same(errors({ pass_through_tlvs: { match_type: 'SOME' } }), [
    'pass_through_tlvs.match_type: "SOME" is neither INCLUDE_ALL nor INCLUDE',
  ])
  t.same(errors({ pass_through_tlvs: { tlv_type: [1] } }), [
    'pass_through_tlvs.tlv_type: has no effect with INCLUDE_ALL',
  ])
  const trusted = (config: JsonObject): string[] => parseJson(config, trustedProxyProtocol.parse).errors
  t.same(trusted({}), ['trusted_sources: must name at least one address range'])
  t.same(trusted({ trusted_sources: ['10.0.0.0/33', 'lb.example', '10.0.0.0/8'] }), [
    'trusted_sources[0]: "10.0.0.0/33" is neither an IP address, a range of them nor unix',
    'trusted_sources[1]: "lb.example" is neither an IP address, a range of them nor unix',
  ])
})

t.test('the function for native listeners says the same', async (t) => {
  const { factory, config } = native({
    trustedSources: ['10.0.0.0/8', 'unix'],
    optional: true,
    versions: [2],
    tlvs: [{ type: 0xea, key: 'vpce', base64: true }],
    passThrough: [2],
    statPrefix: 'edge',
  })
  t.equal(factory, trustedProxyProtocol)
  t.same(parseJson(config, factory.parse), {
    value: {
      optional: true,
      disallowedVersions: [1],
      rules: [{ type: 0xea, namespace: 'envoy.filters.listener.proxy_protocol', key: 'vpce', base64: true }],
      passThrough: [2],
      location: 'metadata',
      statPrefix: 'edge.',
      trustedSources: [{ address: '10.0.0.0', prefixLength: 8 }],
      trustsUnix: true,
    },
    errors: [],
  })
  const short = native({ trustedSources: ['10.0.0.1'], passThrough: 'all' })
  t.same(parseJson(short.config, factory.parse).errors, [])
  t.same(parseJson(native({ trustedSources: [] }).config, factory.parse).errors.length, 1)
})

t.test('hostile bytes never throw, and are judged alike however they are cut', async (t) => {
  const rules = make({ rules: RULES, pass_through_tlvs: {}, allow_requests_without_proxy_protocol: true })
  const check = (bytes: Buffer): void => {
    for (const filter of [STRICT, rules]) {
      const whole = inspect(filter, [bytes])
      if (bytes.length > 4_096) continue
      const bytewise = inspect(filter, byteByByte(bytes))
      if (JSON.stringify(whole) !== JSON.stringify(bytewise))
        throw new Error(`${JSON.stringify(whole)} ${JSON.stringify(bytewise)}`)
      if (whole.outcome === 'passed' && !bytes.toString('latin1').endsWith(whole.rest))
        throw new Error('bytes are lost')
    }
  }
  const seeds = [
    line(ENDS4),
    line(ENDS6, 'TCP6'),
    proxy2(ENDS4, ...TLVS),
    proxy2(ENDS6, tlv(3, 'abcd')),
    header2(0x20, 0, Buffer.alloc(0)),
  ]
  const { runs, findings } = fuzz({ target: 'proxy-protocol', seed: 7, runs: 4_000, inputs: seeds, check })
  t.ok(runs >= 4_000)
  t.same(
    findings.map(({ error, trail }) => `${error.message} ${trail.join(', ')}`),
    [],
  )
})
