import t from 'tap'
import { type ConnectionInfo, ConnectionState } from '../../lib/core/connection.ts'
import type { Json } from '../../lib/core/errors.ts'
import { originalDestination } from '../../lib/upstream/choice/original-dst.ts'
import { admitted, compileAddressFilter } from '../../lib/upstream/discovery/address-filter.ts'
import type { OriginalDstConfig } from '../../lib/upstream/discovery/config.ts'
import { OriginalDstDiscovery } from '../../lib/upstream/discovery/original-dst.ts'
import { PUBLIC_ONLY } from '../../lib/upstream/discovery/private-ranges.ts'
import { parseAuthority, wantedHost } from '../../lib/upstream/discovery/wanted-host.ts'
import { HostSet } from '../../lib/upstream/host-set.ts'
import { TestClock } from '../support/clock.ts'
import { seeded } from '../support/random.ts'

/** Hosts that requests and connections name. */

t.test('an authority is a name or an address, with a port or without', (t) => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ['a.test', 'a.test 80'],
    ['a.test:8080', 'a.test 8080'],
    ['10.0.0.1', '10.0.0.1 80'],
    ['10.0.0.1:1', '10.0.0.1 1'],
    ['[::1]', '::1 80'],
    ['[::1]:65535', '::1 65535'],
    ['::1', '::1 80'],
    ['fd00::1:443', 'fd00::1:443 80'],
    ['', undefined],
    [':80', undefined],
    ['a.test:', undefined],
    ['a.test:0', undefined],
    ['a.test:65536', undefined],
    ['a.test:080x', undefined],
    ['a:b:c', undefined],
    ['[a.test]:80', undefined],
    ['[10.0.0.1]', undefined],
    ['[::1', undefined],
    ['[::1]x', undefined],
    ['::1]:80', undefined],
  ]
  for (const [text, expected] of cases) {
    const found = parseAuthority(text, undefined, false)
    t.equal(found && `${found.name} ${found.port}`, expected, JSON.stringify(text))
  }
  t.same(parseAuthority('a.test', undefined, true), { name: 'a.test', port: 443 })
  t.same(parseAuthority('a.test:80', 8443, true), { name: 'a.test', port: 8443 }, 'what filters say goes before')
  t.end()
})

t.test('an authority that is nonsense names nobody, whatever it is', (t) => {
  const random = seeded(7)
  let read = 0
  const letters = 'a1.:[]/%@ \r\n\u00e9-_'
  for (let i = 0; i < 3_000; i++) {
    const text = Array.from({ length: random.below(12) }, () => random.pick([...letters])).join('')
    const found = parseAuthority(text, undefined, false)
    if (found === undefined) continue
    if (found.name === '' || !(found.port > 0 && found.port < 65_536)) t.fail(JSON.stringify(text))
    read++
  }
  t.ok(read > 100, `${read} of them can be read`)
  t.end()
})

t.test('a request names the host of a forward proxy by its authority, unless a filter does', (t) => {
  const state = new ConnectionState()
  const downstream = { serverName: 'sni.test', state } as unknown as ConnectionInfo
  t.same(wantedHost({ downstream, authority: 'a.test:81' }, false), { name: 'a.test', port: 81 })
  const said = new Map<string, unknown>([['envoy.upstream.dynamic_host', 'b.test']])
  t.same(wantedHost({ downstream, authority: 'a.test:81', filterState: said }, false), { name: 'b.test', port: 80 })
  said.set('envoy.upstream.dynamic_port', '8443')
  t.same(wantedHost({ downstream, authority: 'a.test', filterState: said }, false), { name: 'b.test', port: 8443 })
  t.equal(wantedHost({ downstream, authority: '' }, false), undefined, 'a request without a host is for nobody')
  t.end()
})

t.test('nothing that is not public is let through, in no spelling', (t) => {
  const admits = compileAddressFilter(PUBLIC_ONLY)
  const denied = [
    ...['127.0.0.1', '127.255.255.254', '10.1.2.3', '172.16.0.1', '172.31.255.255', '192.168.0.1', '169.254.169.254'],
    ...['100.64.0.1', '100.100.100.200', '168.63.129.16', '0.0.0.0', '192.0.0.192', '198.18.0.1', '224.0.0.1'],
    ...['255.255.255.255', '::', '::1', '::127.0.0.1', '::ffff:127.0.0.1', '::ffff:7f00:1', '0:0:0:0:0:ffff:a9fe:a9fe'],
    ...['64:ff9b::7f00:1', '64:ff9b:1::1', '2002:7f00:1::', '2001:0:7f00:1::', 'fe80::1', 'fd00:ec2::254', 'fc00::1'],
    ...['ff02::1', '2001:db8::1', 'FE80::1', 'fec0::1', '100::1'],
  ]
  for (const ip of denied) t.equal(admits(ip), false, ip)
  const admittedOnes = ['1.1.1.1', '8.8.8.8', '172.15.255.255', '172.32.0.1', '100.63.255.255', '100.128.0.1']
  for (const ip of [...admittedOnes, '169.253.0.1', '2606:4700::1111', '2a00:1450::1', '::ffff:8.8.8.8']) {
    t.equal(admits(ip), true, ip)
  }
  const only = compileAddressFilter({ kind: 'allow', ranges: [{ address: '10.0.0.0', prefixLength: 8 }] })
  const answer = { ok: true, ttlMs: 1, addresses: ['10.0.0.1', '11.0.0.1'] } as const
  t.match(admitted(answer, only), { addresses: ['10.0.0.1'] })
  t.same(admitted({ ...answer, addresses: ['11.0.0.1'] }, only), { ok: false, reason: 'EDENIED' })
  t.end()
})

interface Facts {
  readonly header?: string
  readonly noted?: Json
  readonly state?: string
  readonly local?: readonly [string, number]
}

function destination(config: Partial<OriginalDstConfig>, { header, noted, state, local = ['10.0.0.9', 80] }: Facts) {
  const invalid = { v: 0 }
  const find = originalDestination({ cleanupMs: 5_000, ...config }, () => invalid)
  const connection = new ConnectionState()
  const [localAddress, localPort] = local
  const downstream = {
    kind: 'ip',
    state: connection,
    localAddress,
    localPort,
    directLocalAddress: '10.0.0.9',
    directLocalPort: 80,
  } as unknown as ConnectionInfo
  if (noted !== undefined) connection.mergeMetadata('dst', noted)
  if (state !== undefined) connection.setObject('envoy.network.transport_socket.original_dst_address', state)
  const found = find({ downstream, header: (name) => (name === 'x-to' ? header : undefined) })
  return { found: found && `${found.name} ${found.port}`, invalid: invalid.v }
}

t.test('an original destination is what is said first: filter state, metadata, header, PROXY header', (t) => {
  const config = { header: 'x-to', metadata: { namespace: 'dst', path: ['to', 'address'] } }
  const all: Facts = {
    state: '10.0.0.1:1',
    noted: { to: { address: '10.0.0.2:2' } },
    header: '10.0.0.3:3',
    local: ['10.0.0.4', 4],
  }
  t.equal(destination(config, all).found, '10.0.0.1 1')
  t.equal(destination(config, { ...all, state: undefined }).found, '10.0.0.2 2')
  t.equal(destination(config, { ...all, state: undefined, noted: { to: 1 } }).found, '10.0.0.3 3')
  t.equal(destination({}, { ...all, state: undefined }).found, '10.0.0.4 4', 'nothing else is asked for')
  t.equal(destination(config, {}).found, undefined, 'the address of the listener itself leads nowhere')
  t.equal(destination({ ...config, port: 443 }, all).found, '10.0.0.1 443')
  t.same(destination(config, { header: 'a.test:80' }), { found: undefined, invalid: 1 })
  t.same(destination(config, { header: '[::ffff:10.0.0.3]:3' }), { found: '10.0.0.3 3', invalid: 0 })
  t.same(destination(config, { noted: { to: { address: { a: 1 } } } }), { found: undefined, invalid: 0 })
  t.end()
})

t.test('original destinations are forgotten when nobody goes there, and there are only so many', (t) => {
  const clock = new TestClock()
  const config = { originalDst: { cleanupMs: 1_000 } } as ConstructorParameters<typeof OriginalDstDiscovery>[0]
  const discovery = new OriginalDstDiscovery(config, { clock })
  const hosts = new HostSet()
  void discovery.start(
    (localities) => hosts.update(localities),
    (endpoint) => hosts.add(endpoint),
  )
  t.equal(discovery.demand('10.0.0.1', 80), '10.0.0.1:80')
  t.equal(discovery.demand('10.0.0.2', 80), '10.0.0.2:80')
  const kept = hosts.find('10.0.0.1:80@0')
  clock.advance(1_000)
  t.equal(hosts.size, 2, 'both have been used since the last look')
  discovery.demand('10.0.0.1', 80)
  clock.advance(1_000)
  t.same(
    hosts.all.map(({ key }) => key),
    ['10.0.0.1:80@0'],
  )
  t.equal(hosts.find('10.0.0.1:80@0'), kept)
  clock.advance(2_000)
  t.equal(hosts.size, 0)
  t.equal(clock.pending, 0, 'nothing is looked at where there is nothing')
  for (let i = 0; i < 4_096; i++) discovery.demand(`10.1.${i >> 8}.${i & 255}`, 80)
  t.match(discovery.demand('10.2.0.0', 80), { code: 'overflow' })
  t.equal(discovery.demand('10.1.0.0', 80), '10.1.0.0:80', 'those that are known go on')
  discovery.close()
  t.match(discovery.demand('10.3.0.0', 80), { code: 'no-healthy-host' })
  t.equal(discovery.demand('10.1.0.0', 80), '10.1.0.0:80', 'those who have got it may go on')
  t.equal(clock.pending, 0)
  t.end()
})
