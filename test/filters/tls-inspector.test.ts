import t from 'tap'
import { tlsInspector } from '../../filters/tls-inspector/index.ts'
import type { FoundFacts, ListenerFilter } from '../../lib/chain/network.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { parseJson, type TestScope, testScope } from '../support/chain-driver.ts'
import { fuzz } from '../support/fuzz.ts'
import { type Inspected, inspect } from '../support/listener-filter.ts'
import { byteByByte, sameHoweverSplit } from '../support/splits.ts'
import { alpn, clientHello, extension, sized, sni } from '../tls/hellos.ts'
import { recordHello } from '../tls/rig.ts'

function make(config: JsonObject = {}, scope: TestScope = testScope()): ListenerFilter {
  const { value, errors } = parseJson(config, tlsInspector.parse)
  t.same(errors, [])
  return tlsInspector.compile(value, scope)
}

const PLAIN = make()

function look(bytes: Buffer, filter = PLAIN): Inspected {
  return sameHoweverSplit(bytes, (pieces) => inspect(filter, pieces))
}

function counted(scope: TestScope): Record<string, number> {
  return Object.fromEntries([...scope.counters].filter(([, cell]) => cell.v > 0).map(([name, cell]) => [name, cell.v]))
}

const NOT_DETECTED = { 'envoy.filters.listener.tls_inspector': { failure_reason: 'ClientHelloNotDetected' } }

t.test('a hello gives name and protocols, and nothing is consumed', async (t) => {
  const scope = testScope()
  const bytes = clientHello({ extensions: [sni('WWW.Example.com'), alpn('h2', 'http/1.1')] })
  const { outcome, facts, rest, metadata } = look(Buffer.concat([bytes, Buffer.from('early data')]))
  t.same([outcome, metadata], ['passed', {}])
  t.same(facts, {
    transportProtocol: 'tls',
    serverName: 'www.example.com',
    applicationProtocols: ['h2', 'http/1.1'],
  })
  t.equal(rest.length, bytes.length + 10)
  inspect(make({}, scope), [bytes])
  inspect(make({}, scope), [clientHello({})])
  t.same(counted(scope), {
    'tls_inspector.tls_found': 2,
    'tls_inspector.sni_found': 1,
    'tls_inspector.alpn_found': 1,
    'tls_inspector.sni_not_found': 1,
    'tls_inspector.alpn_not_found': 1,
  })
  t.same(scope.recorded[0], ['tls_inspector.bytes_processed', bytes.length])
})

t.test('a post-quantum hello, over several segments and over several records', async (t) => {
  const real = await recordHello({ servername: 'pq.example', ALPNProtocols: ['h2'], ecdhCurve: 'X25519MLKEM768' })
  t.ok(real.length > 1_460)
  t.same(look(real).facts.serverName, 'pq.example')
  const message = real.subarray(5)
  for (const recordBytes of [1, 3, 100, 1_000]) {
    const records: Buffer[] = []
    for (let at = 0; at < message.length; at += recordBytes) {
      records.push(Buffer.from([22, 3, 1]), sized(message.subarray(at, at + recordBytes)))
    }
    t.same(inspect(PLAIN, byteByByte(Buffer.concat(records))).facts, look(real).facts, `${recordBytes} bytes each`)
  }
})

t.test('what is not TLS is plaintext, or closed', async (t) => {
  const scope = testScope()
  for (const text of ['GET / HTTP/1.1\r\n', 'PRI * HTTP/2.0\r\n\r\n', 'PROXY TCP4', '\x16\x02\x01', '\0', '\xff']) {
    const bytes = Buffer.from(text, 'latin1')
    const { outcome, facts, rest, metadata } = look(bytes)
    t.same([outcome, facts, rest, metadata], ['passed', { transportProtocol: 'raw_buffer' }, text, NOT_DETECTED])
    const closing = inspect(make({ close_connection_on_client_hello_parsing_errors: true }, scope), [bytes])
    t.same([closing.outcome, closing.why], ['refused', 'this is not TLS'])
  }
  t.same(counted(scope), {})
  inspect(make({}, scope), [Buffer.from('GET')])
  t.same(counted(scope), { 'tls_inspector.tls_not_found': 1 })
})

t.test('hostile hellos are none, and a strange name is left as it is', async (t) => {
  const hostile: Record<string, readonly Buffer[]> = {
    'two names': [sni('a.example'), sni('b.example')],
    'two names in one list': [
      extension(
        0,
        sized(Buffer.concat([Buffer.from([0]), sized(Buffer.from('a')), Buffer.from([0]), sized(Buffer.from('b'))])),
      ),
    ],
    'an empty name': [sni('')],
    NUL: [sni('a.example\0.b.example')],
    Unicode: [sni('b\xc3\xbccher.example')],
    'a space': [sni('a b')],
    '256 bytes': [sni('a'.repeat(256))],
    'an empty list of protocols': [alpn()],
    'an empty protocol': [alpn('h2', '')],
    'a list that overruns': [extension(0, Buffer.from([0, 99, 0, 0, 1, 97]))],
    'an extension that overruns': [Buffer.from([0, 23, 0, 9])],
  }
  for (const [name, extensions] of Object.entries(hostile)) {
    const bytes = clientHello({ extensions })
    t.same(look(bytes).facts, { transportProtocol: 'raw_buffer' }, name)
    const closing = make({ close_connection_on_client_hello_parsing_errors: true })
    t.equal(inspect(closing, [bytes]).why, 'the ClientHello cannot be read', name)
  }
  const found = (...extensions: Buffer[]): FoundFacts => look(clientHello({ extensions })).facts
  t.same(found(), { transportProtocol: 'tls' }, 'no name')
  t.same(found(sni('a.example.')).serverName, 'a.example.', 'a trailing dot is another name')
  t.same(found(sni('xn--BCHER-kva.example')).serverName, 'xn--bcher-kva.example')
  t.same(found(sni('192.0.2.1')).serverName, '192.0.2.1')
  t.same(found(extension(0x0a0a), alpn('\x0a\x0a', 'h2'), extension(0xfafa, Buffer.alloc(1))).applicationProtocols, [
    '\n\n',
    'h2',
  ])
  t.same(look(clientHello({ ciphers: [0x3a3a, 0x1301], extensions: [] })).facts.transportProtocol, 'tls')
})

t.test('a hello is no larger than it may be', async (t) => {
  const padded = (size: number): Buffer => clientHello({ extensions: [extension(21, Buffer.alloc(size - 9 - 43 - 4))] })
  const scope = testScope()
  const filter = make({ max_client_hello_size: 1_000 }, scope)
  t.equal(padded(1_000).length, 1_000)
  t.equal(look(padded(1_000), filter).facts.transportProtocol, 'tls')
  const large = inspect(filter, [padded(1_001)])
  t.same([large.outcome, large.why], ['refused', 'the ClientHello is larger than 1000 bytes'])
  t.same(large.metadata, { 'envoy.filters.listener.tls_inspector': { failure_reason: 'ClientHelloTooLarge' } })
  t.equal(inspect(filter, [padded(1_001).subarray(0, 9)]).outcome, 'refused', 'as soon as its length is known')
  // Small records cost, too.
  const spread = clientHello({ extensions: [extension(21, Buffer.alloc(500))], recordBytes: 1 })
  t.equal(inspect(filter, byteByByte(spread)).outcome, 'refused')
  t.equal(scope.counters.get('tls_inspector.client_hello_too_large')?.v, 3)
  t.equal(look(padded(16_384)).facts.transportProtocol, 'tls', 'by default 16 KiB')
  t.equal(inspect(PLAIN, [padded(16_384 + 1)]).outcome, 'refused')
  t.equal(
    inspect(PLAIN, [Buffer.concat([Buffer.from('GET /'), Buffer.alloc(20_000, 97)])]).outcome,
    'passed',
    'plaintext may have more',
  )
})

t.test('fingerprints are made on request', async (t) => {
  const bytes = clientHello({ extensions: [sni('a.example')] })
  t.same(Object.keys(look(bytes).facts), ['transportProtocol', 'serverName'])
  const both = look(bytes, make({ enable_ja3_fingerprinting: true, enable_ja4_fingerprinting: true })).facts
  t.match(both, { ja3: /^[0-9a-f]{32}$/, ja4: /^t12d010100_[0-9a-f]{12}_0{12}$/ })
  t.equal(look(bytes, make({ enable_ja4_fingerprinting: true })).facts.ja3, undefined)
})

t.test('its configuration is checked', async (t) => {
  const errors = (config: JsonObject): string[] => parseJson(config, tlsInspector.parse).errors
  t.same(errors({ initial_read_buffer_size: 512 }), [])
  t.same(errors({ max_client_hello_size: 255, initial_read_buffer_size: 65_537 }), [
    'initial_read_buffer_size: must be from 256 to 65536, not 65537',
    'max_client_hello_size: must be from 256 to 16384, not 255',
  ])
  t.same(errors({ max_client_hello_size: 16_385 }).length, 1)
})

t.test('hostile bytes never throw, and are judged alike however they are cut', async (t) => {
  const filter = make({
    enable_ja3_fingerprinting: true,
    enable_ja4_fingerprinting: true,
    max_client_hello_size: 2_000,
  })
  const inputs = [
    clientHello({ extensions: [sni('a.example'), alpn('h2')] }),
    clientHello({ extensions: [sni('a.example'), extension(10, Buffer.from([0, 2, 0, 29]))], recordBytes: 9 }),
    await recordHello({ servername: 'a.example', maxVersion: 'TLSv1.2' }),
  ]
  const { runs, findings } = fuzz({
    target: 'tls-inspector',
    seed: 5,
    runs: 3_000,
    inputs,
    check(bytes) {
      const whole = inspect(filter, [bytes])
      if (JSON.stringify(inspect(filter, byteByByte(bytes))) !== JSON.stringify(whole)) throw new Error('by bytes')
      if (whole.outcome === 'passed' && whole.rest.length !== bytes.length) throw new Error('bytes are lost')
    },
  })
  t.ok(runs >= 3_000)
  t.same(
    findings.map(({ error, trail }) => `${error.message} ${trail.join(', ')}`),
    [],
  )
})
