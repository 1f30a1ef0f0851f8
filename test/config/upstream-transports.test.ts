import t from 'tap'
import { createFilterRegistry } from '../../lib/chain/registry.ts'
import { readNativeConfig } from '../../lib/config/native/read.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import { routerFactory } from '../../lib/router/router.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'

const registry = createFilterRegistry([routerFactory])

function read(cluster: object): ClusterConfig {
  const config = { listeners: [], clusters: [{ name: 'web', endpoints: ['127.0.0.1:80'], ...cluster }] }
  return readNativeConfig(config, { registry }).clusters[0]
}

function mistakes(cluster: object): string[] {
  try {
    read(cluster)
    return []
  } catch (error) {
    if (!(error instanceof ConfigRefused)) throw error
    return error.errors.map(String)
  }
}

t.test('a transport is written with few words, and becomes layers in the order of the wire', (t) => {
  t.same(read({ proxyProtocol: 2, connectProxy: '127.0.0.1:3128' }).layers, [
    {
      kind: 'http-connect',
      proxyAddress: { kind: 'ip', host: '127.0.0.1', port: 3128 },
      target: 'hostname',
    },
    { kind: 'proxy-protocol', version: 2, passTlvs: 'none', addedTlvs: [] },
  ])
  t.same(
    read({
      connectProxy: { address: '/run/proxy.sock', target: 'address' },
      proxyProtocol: {
        version: 2,
        passTlvs: [0xe0],
        addedTlvs: [
          { type: 0xe1, value: 'a' },
          { type: 0xe2, value: new Uint8Array([0, 255]) },
          { type: 0xe3, format: '%DOWNSTREAM_PEER_URI_SAN%' },
        ],
      },
    }).layers,
    [
      { kind: 'http-connect', proxyAddress: { kind: 'pipe', path: '/run/proxy.sock' }, target: 'address' },
      {
        kind: 'proxy-protocol',
        version: 2,
        passTlvs: [0xe0],
        addedTlvs: [
          { type: 0xe1, value: 'YQ==' },
          { type: 0xe2, value: 'AP8=' },
          { type: 0xe3, value: '', format: { kind: 'text', text: '%DOWNSTREAM_PEER_URI_SAN%' } },
        ],
      },
    ],
  )
  t.equal(read({}).layers, undefined)
  t.end()
})

t.test('an endpoint without an address of the network cannot be behind a proxy', (t) => {
  const endpoints = ['127.0.0.1:1', '/run/app.sock', { address: { listener: 'inner' } }]
  t.same(mistakes({ connectProxy: '127.0.0.1:3128', endpoints }), [
    'clusters[0].endpoints[1]: cannot be reached through http-connect',
    'clusters[0].endpoints[2].address: cannot be reached through http-connect',
  ])
  t.end()
})

t.test('endpoints name their transport, and have several addresses or none', (t) => {
  const cluster = read({
    transports: { front: { proxyProtocol: 1 }, bare: {} },
    endpoints: [
      { address: '127.0.0.1:1', transport: 'front', additionalAddresses: ['[::1]:1'], metadata: { a: { b: 1 } } },
      { address: { listener: 'inner', endpointId: 'x' } },
    ],
    keepalive: { idleS: 10, intervalS: 5, probes: 2 },
    bindAddress: '127.0.0.2',
    extraBindAddresses: ['::1'],
    addressOrder: { firstFamily: 'v6' },
  })
  t.same(cluster.transportMatches, [
    {
      name: 'front',
      labels: { transport: 'front' },
      transport: { layers: [{ kind: 'proxy-protocol', version: 1, passTlvs: 'none', addedTlvs: [] }] },
    },
    { name: 'bare', labels: { transport: 'bare' }, transport: {} },
  ])
  t.same(cluster.localities[0].endpoints, [
    {
      address: { kind: 'ip', host: '127.0.0.1', port: 1 },
      weight: 1,
      health: 'healthy',
      metadata: { a: { b: 1 }, 'envoy.transport_socket_match': { transport: 'front' } },
      additionalAddresses: [{ kind: 'ip', host: '::1', port: 1 }],
    },
    { address: { kind: 'internal', listener: 'inner', endpointId: 'x' }, weight: 1, health: 'healthy' },
  ])
  t.match(cluster, {
    keepalive: { idleS: 10, intervalS: 5, probes: 2 },
    extraBindAddresses: ['::1'],
    addressOrder: { firstFamily: 'v6', firstFamilyCount: 1 },
  })
  t.end()
})

t.test('mistakes are named where they were made', (t) => {
  const cases: readonly (readonly [cluster: object, expected: RegExp])[] = [
    [{ proxyProtocol: 3 }, /clusters\[0\]\.proxyProtocol/],
    [
      { proxyProtocol: { version: 1, passTlvs: 'all' } },
      /clusters\[0\]\.proxyProtocol\.passTlvs: version 1 has no TLVs/,
    ],
    [
      { proxyProtocol: { version: 1, addedTlvs: [{ type: 1, value: 'a' }] } },
      /clusters\[0\]\.proxyProtocol\.addedTlvs\[0\]: version 1 has no TLVs/,
    ],
    [{ proxyProtocol: { version: 2, addedTlvs: [{ type: 256, value: 'a' }] } }, /addedTlvs\[0\]\.type/],
    [{ proxyProtocol: { version: 2, addedTlvs: [{ type: 1 }] } }, /one of value and format is required/],
    [{ proxyProtocol: { version: 2, addedTlvs: [{ type: 1, format: '%NO_SUCH%' }] } }, /addedTlvs\[0\].*NO_SUCH/],
    [
      { proxyProtocol: { version: 2, addedTlvs: [{ type: 1, value: 'a'.repeat(65_500) }] } },
      /addedTlvs\[0\]\.value: is 65500 bytes long, a header has room for 65496/,
    ],
    [{ connectProxy: 'nowhere' }, /clusters\[0\]\.connectProxy: "nowhere" is not an address/],
    [{ connectProxy: 'proxy.example:3128' }, /clusters\[0\]\.connectProxy.*malformed IP address "proxy.example"/],
    [{ connectProxy: '127.0.0.1:0' }, /clusters\[0\]\.connectProxy.*port 0 cannot be connected to/],
    [{ extraBindAddresses: ['::1'] }, /extraBindAddresses\[0\]: needs bindAddress/],
    [{ bindAddress: '::1', extraBindAddresses: ['x'] }, /extraBindAddresses\[0\]: malformed IP address "x"/],
    [
      { endpoints: [{ address: '/run/a.sock', additionalAddresses: ['127.0.0.1:1'] }] },
      /additionalAddresses\[0\].*only IP addresses can stand beside each other/,
    ],
    [
      { endpoints: [{ address: 'a.example:1', additionalAddresses: ['127.0.0.1:1'] }] },
      /additionalAddresses\[0\].*get their addresses from DNS/,
    ],
    [{ transports: { a: { proxyProtocol: 7 } } }, /clusters\[0\]\.transports.*a.*proxyProtocol/],
    [{ protocol: 'auto', transports: { a: {} } }, /clusters\[0\]\.protocol: auto needs tls/],
    [{ endpoints: [{ address: '127.0.0.1:1', transport: 'missing' }] }, /transport: unknown transport "missing"/],
  ]
  for (const [cluster, expected] of cases)
    t.match(mistakes(cluster).join('\n'), expected, JSON.stringify(cluster).slice(0, 80))
  t.same(mistakes({ protocol: 'auto', transports: { a: { tls: { validation: { acceptUntrusted: true } } } } }), [])
  t.end()
})
