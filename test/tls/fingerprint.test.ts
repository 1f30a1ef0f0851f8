import { createHash } from 'node:crypto'
import t from 'tap'
import { ClientHelloReader } from '../../lib/tls/client-hello.ts'
import { isGrease, ja3, ja4 } from '../../lib/tls/fingerprint.ts'
import { type HelloFacts, helloFacts } from '../../lib/tls/hello-facts.ts'
import { seeded } from '../support/random.ts'
import { alpn, clientHello, extension, type HelloParts, short, sized, sni, u16s } from './hellos.ts'
import { recordHello } from './rig.ts'

function factsOf(bytes: Buffer): HelloFacts {
  const reader = new ClientHelloReader(16_384, true)
  reader.feed(bytes)
  if (reader.message === undefined) throw new Error(`the hello is ${reader.status}`)
  return helloFacts(reader.message)
}

const groups = (...values: number[]): Buffer => extension(10, sized(u16s(...values)))
const formats = (...values: number[]): Buffer => extension(11, short(Buffer.from(values)))
const algorithms = (...values: number[]): Buffer => extension(13, sized(u16s(...values)))
const versions = (...values: number[]): Buffer => extension(43, short(u16s(...values)))

t.test('the fingerprints that their inventors publish', async (t) => {
  // github.com/salesforce/ja3, README.
  t.equal(
    ja3(
      factsOf(
        clientHello({
          version: 769,
          ciphers: [47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4],
          extensions: [sni('a.example'), groups(23, 24, 25), formats(0)],
        }),
      ),
    ),
    'ada70206e40642a3e4461f35503241d5',
  )
  t.equal(
    ja3(factsOf(clientHello({ version: 769, ciphers: [4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99] }))),
    'de350869b8c85de67a350c8d186f11e6',
  )
  // github.com/FoxIO-LLC/ja4, technical_details/JA4.md: Chrome, with its GREASE put in.
  const chrome = clientHello({
    ciphers: [
      0x8a8a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d,
      0x002f, 0x0035,
    ],
    extensions: [
      extension(0x1a1a),
      extension(0x001b),
      sni('a.example'),
      extension(0x0033),
      alpn('h2', 'http/1.1'),
      extension(0x4469),
      extension(0x0017),
      extension(0x002d),
      algorithms(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601),
      extension(0x0005),
      extension(0x0023),
      extension(0x0012),
      versions(0x2a2a, 0x0304, 0x0303),
      extension(0xff01),
      formats(0),
      groups(0x3a3a, 29, 23, 24),
      extension(0x0015),
      extension(0xfafa, Buffer.alloc(1)),
    ],
  })
  t.equal(ja4(factsOf(chrome)), 't13d1516h2_8daaf6152771_e5627efa2ab1')
})

t.test('GREASE is the sixteen values of RFC 8701', async (t) => {
  const found = Array.from({ length: 65_536 }, (_, value) => value).filter(isGrease)
  t.same(
    found,
    Array.from({ length: 16 }, (_, i) => 0x0a0a + i * 0x1010),
  )
})

t.test('JA4 tells versions, names, counts and protocols', async (t) => {
  const head = (parts: HelloParts): string => ja4(factsOf(clientHello(parts))).split('_')[0]
  t.equal(head({ version: 0x0303 }), 't12i010000', 'no extension at all')
  t.equal(head({ version: 0x0302, extensions: [] }), 't11i010000')
  t.equal(head({ version: 0x0301, extensions: [versions(0x3a3a)] }), 't10i010100', 'GREASE is no version')
  t.equal(head({ extensions: [versions(0x0302, 0x0304, 0x0303), sni('a')] }), 't13d010200', 'the highest one')
  t.equal(head({ version: 0x0300 }), 'ts3i010000')
  t.equal(head({ version: 0x0909 }), 't00i010000')
  t.equal(head({ ciphers: Array.from({ length: 120 }, (_, i) => i + 1) }), 't12i990000', 'more than 99')
  const first: [string, string][] = [
    ['h2', 'h2'],
    ['http/1.1', 'h1'],
    ['h', 'hh'],
    ['\xab', 'ab'],
    ['\xab\xcd', 'ad'],
    ['0\xab', '3b'],
    ['01\xab\xcd', '3d'],
    ['a/', '6f'],
  ]
  for (const [protocol, ends] of first) {
    t.equal(head({ extensions: [alpn(protocol, 'zz')] }), `t12i0101${ends}`, JSON.stringify(protocol))
  }
})

t.test('empty lists have a hash of zeros, and no signature algorithms no underscore', async (t) => {
  const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12)
  const none = '000000000000'
  t.equal(ja4(factsOf(clientHello({ ciphers: [0x0a0a] }))), `t12i000000_${none}_${none}`)
  t.equal(ja4(factsOf(clientHello({ extensions: [sni('a'), alpn('h2')] }))), `t12d0102h2_${hash('1301')}_${none}`)
  t.equal(ja4(factsOf(clientHello({ extensions: [groups(29)] }))), `t12i010100_${hash('1301')}_${hash('000a')}`)
})

t.test('lists inside extensions that do not fit their lengths end where the bytes do', async (t) => {
  const facts = factsOf(
    clientHello({
      extensions: [
        extension(10, Buffer.from([0, 200, 0, 29, 0])),
        extension(11),
        extension(13, Buffer.from([0])),
        extension(43, Buffer.from([9, 3, 4])),
      ],
    }),
  )
  t.same(
    [facts.groups, facts.pointFormats, facts.signatureAlgorithms, facts.supportedVersions],
    [[29], [], [], [0x0304]],
  )
})

/** The same fingerprints by another way: from the lists that the hello was made of, as strings. */
function oracle(ciphers: number[], types: number[], lists: { groups: number[]; algorithms: number[] }): string[] {
  const real = (values: number[]): number[] => values.filter((v) => !/^(.)a\1a$/.test(v.toString(16).padStart(4, '0')))
  const md5 = createHash('md5').update(
    `771,${real(ciphers).join('-')},${real(types).join('-')},${real(lists.groups).join('-')},0`,
  )
  const hex = (values: number[]): string[] => real(values).map((v) => Buffer.from([v >> 8, v & 255]).toString('hex'))
  const sha = (text: string): string => createHash('sha256').update(text).digest('hex').substring(0, 12)
  const rest = hex(types.filter((type) => type !== 0 && type !== 16)).sort()
  const count = (values: number[]): string => `0${real(values).length}`.slice(-2)
  return [
    md5.digest('hex'),
    `t12d${count(ciphers)}${count(types)}h2_${sha(hex(ciphers).sort().join(','))}_${sha(`${rest.join(',')}_${hex(lists.algorithms).join(',')}`)}`,
  ]
}

t.test('random hellos have the fingerprints that their parts give', async (t) => {
  const random = seeded(11)
  for (let run = 0; run < 200; run++) {
    const some = (most: number): number[] =>
      Array.from({ length: 1 + random.below(most) }, () =>
        random.below(8) === 0 ? 0x1010 * random.below(16) + 0x0a0a : random.below(65_536),
      )
    const ciphers = [0x1301, ...some(30)]
    const lists = { groups: some(6), algorithms: [0x0403, ...some(10)] }
    const others = [...new Set(some(20))].filter((type) => ![0, 10, 11, 13, 16, 43].includes(type))
    const parts = [
      sni('a'),
      alpn('h2'),
      groups(...lists.groups),
      formats(0),
      algorithms(...lists.algorithms),
      ...others.map((type) => extension(type, random.bytes(random.below(5)))),
    ]
    // Shuffled.
    for (let i = parts.length - 1; i > 0; i--) {
      const other = random.below(i + 1)
      ;[parts[i], parts[other]] = [parts[other], parts[i]]
    }
    const types = parts.map((part) => part.readUInt16BE(0))
    const facts = factsOf(clientHello({ ciphers, extensions: parts }))
    t.same([ja3(facts), ja4(facts)], oracle(ciphers, types, lists))
  }
})

t.test('the hello of this runtime: post-quantum, over 1,600 bytes', async (t) => {
  const bytes = await recordHello({
    servername: 'a.example',
    ALPNProtocols: ['h2'],
    ecdhCurve: 'X25519MLKEM768:X25519',
  })
  t.ok(bytes.length > 1_460, `${bytes.length} bytes: more than a segment`)
  const facts = factsOf(bytes)
  t.equal(facts.groups[0], 0x11ec, 'X25519MLKEM768')
  t.match(ja4(facts), /^t13d\d{4}h2_[0-9a-f]{12}_[0-9a-f]{12}$/)
  t.match(ja3(facts), /^[0-9a-f]{32}$/)
})
