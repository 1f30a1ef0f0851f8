import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import t from 'tap'
import { readHeader } from '../../filters/proxy-protocol/header.ts'
import { canonicalIp } from '../../lib/core/address.ts'
import { type ConnectionInfo, type ProxyTlv, plainConnection } from '../../lib/core/connection.ts'
import { HttpConnect } from '../../lib/upstream/http-connect.ts'
import { ProxyHeaderWriter } from '../../lib/upstream/proxy-protocol.ts'
import { settle } from '../support/clock.ts'
import { type Random, seeded } from '../support/random.ts'

/** What transports write and read, byte for byte. */

function address(random: Random): string {
  const groups = Array.from({ length: 8 }, () => random.pick(['0', '0', random.below(65_536).toString(16)]))
  return random.pick([
    Array.from({ length: 4 }, () => 1 + random.below(222)).join('.'),
    ['2001', ...groups.slice(1)].join(':'),
    `2001:db8::${random.below(65_536).toString(16)}`,
    `fe80::${groups[1]}:1`,
    '::1',
  ])
}

/** As `::` is written in its one spelling. */
function spelt(text: string): string {
  return text.includes(':') ? new URL(`http://[${text}]/`).hostname.slice(1, -1) : text
}

t.test('what is written in front of a connection is what the other side reads', (t) => {
  const random = seeded(20_261_121)
  for (let i = 0; i < 300; i++) {
    const tlvs: ProxyTlv[] = Array.from({ length: random.below(4) }, () => ({
      type: 0xe0 + random.below(16),
      value: random.bytes(random.below(200)),
    }))
    const facts = {
      id: i,
      remoteAddress: spelt(address(random)),
      remotePort: random.below(65_536),
      localAddress: spelt(address(random)),
      localPort: random.below(65_536),
      kind: 'ip',
      listenerName: 'in',
    } as const
    const client: ConnectionInfo = { ...plainConnection(facts), proxyProtocol: { version: 2, tlvs } }
    for (const version of [1, 2] as const) {
      const writer = new ProxyHeaderWriter({ kind: 'proxy-protocol', version, passTlvs: 'all', addedTlvs: [] })
      const bytes = writer.header(client)
      const read = readHeader(`version-${version}`, bytes, 0)
      if (read === undefined || 'malformed' in read) throw new Error(`header ${i}: ${bytes.toString('latin1')}`)
      const same =
        read.bytes === bytes.length &&
        read.addresses?.source === canonicalIp(facts.remoteAddress) &&
        read.addresses.destination === canonicalIp(facts.localAddress) &&
        read.addresses.sourcePort === facts.remotePort &&
        read.addresses.destinationPort === facts.localPort &&
        (version === 1 || read.tlvs.length === tlvs.length)
      if (!same) t.same(read, facts, `header ${i} of version ${version}`)
      for (const [n, { type, value }] of (version === 1 ? [] : tlvs).entries()) {
        if (read.tlvs[n].type !== type || !Buffer.from(read.tlvs[n].value).equals(value))
          t.fail(`TLV ${n} of header ${i}`)
      }
    }
  }
  const layer = { kind: 'proxy-protocol', version: 2, passTlvs: 'none', addedTlvs: [] } as const
  t.same(readHeader('version-2', new ProxyHeaderWriter(layer).header(undefined), 0), {
    version: 2,
    bytes: 16,
    addresses: undefined,
    tlvs: [],
  })
  t.end()
})

t.test('TLVs that a header has no room for are left out', (t) => {
  const value = (size: number): string => Buffer.alloc(size).toString('base64')
  const addedTlvs = [
    { type: 0xe0, value: value(40_000) },
    { type: 0xe1, value: value(40_000) },
    { type: 0xe2, value: value(10) },
  ]
  const writer = new ProxyHeaderWriter({ kind: 'proxy-protocol', version: 2, passTlvs: 'none', addedTlvs })
  const facts = { id: 1, remoteAddress: '::1', remotePort: 1, localAddress: '::1', localPort: 2 }
  const bytes = writer.header(plainConnection({ ...facts, kind: 'ip', listenerName: 'in' }))
  t.equal(bytes.length, 16 + 36 + 40_003 + 13)
  t.equal(bytes.readUInt16BE(14), bytes.length - 16)
  t.equal(bytes[16 + 36 + 40_003], 0xe2)
  t.end()
})

t.test('the answer of an HTTP proxy is understood however it is cut', async (t) => {
  const answer = 'HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 Connection established\r\nvia: p\r\n\r\n'
  const bytes = Buffer.from(`${answer}\x16\x03\x01behind`, 'latin1')
  for (let cut = 0; cut <= bytes.length; cut++) {
    const written: string[] = []
    const socket = new Duplex({
      read: () => {},
      write(chunk: Buffer, _, done) {
        written.push(String(chunk))
        done()
      },
    })
    const told: (string | undefined)[] = []
    new HttpConnect(socket as unknown as Socket, 'a.example:443', (problem) => told.push(problem))
    for (const part of [bytes.subarray(0, cut), bytes.subarray(cut)]) {
      if (part.length > 0) socket.push(part)
      await settle(1)
    }
    const rest: Buffer[] = []
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) rest.push(chunk as Buffer)
    const kept = Buffer.concat(rest).toString('latin1')
    if (told.length !== 1 || told[0] !== undefined || kept !== '\x16\x03\x01behind') {
      t.fail(`cut at ${cut}: ${told.length} ${told[0]} ${JSON.stringify(kept)}`)
    }
    if (cut === 0) t.same(written, ['CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n'])
    t.equal(socket.listenerCount('data') + socket.listenerCount('end'), 0, `cut at ${cut}`)
  }
})
