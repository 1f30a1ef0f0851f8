import t from 'tap'
import { createLowerFilters } from '../../lib/chain/factories.ts'
import type { ListenerFilterFactory, NetworkFilterFactory } from '../../lib/chain/network.ts'
import { createFilterRegistry } from '../../lib/chain/registry.ts'
import type { ListenerConfig } from '../../lib/config/listener.ts'
import type { NativeConfig } from '../../lib/config/native/config.ts'
import { factoriesIn } from '../../lib/config/native/factories.ts'
import type { NativeListener } from '../../lib/config/native/listeners.ts'
import { readNativeConfig } from '../../lib/config/native/read.ts'
import { ConfigRefused, type Json } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { routerFactory } from '../../lib/router/router.ts'

const never = (): never => {
  throw new Error('not compiled here')
}

const forward: NetworkFilterFactory<Json> = {
  name: 'test.network.forward',
  typeUrls: ['test.Forward'],
  terminal: true,
  parse: (fields: FieldReader): Json => ({ cluster: fields.string('cluster') }),
  clusters: (config) => [(config as { readonly cluster: string }).cluster],
  compile: never,
}
const gate: NetworkFilterFactory<Json> = {
  name: 'test.network.gate',
  typeUrls: ['test.Gate'],
  parse: (fields: FieldReader): Json => ({ most: fields.number('most_connections') ?? 0 }),
  compile: never,
}
const tls: ListenerFilterFactory<Json> = {
  name: 'envoy.filters.listener.tls_inspector',
  typeUrls: ['envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector'],
  parse: (fields: FieldReader): Json => ({ ja3: fields.bool('enable_ja3_fingerprinting') }),
  compile: never,
}
const http: ListenerFilterFactory<Json> = {
  name: 'envoy.filters.listener.http_inspector',
  typeUrls: ['envoy.extensions.filters.listener.http_inspector.v3.HttpInspector'],
  parse: (): Json => ({}),
  compile: never,
}

const registry = createFilterRegistry([routerFactory])
const filters = createLowerFilters([forward, gate], [tls, http])
const TO_WEB = { name: 'forward', config: { cluster: 'web' } } as const
const BASE: NativeConfig = { listeners: [], clusters: [{ name: 'web', endpoints: ['127.0.0.1:1'] }] }
const address = '127.0.0.1:80'

function read(listener: NativeListener, more: Partial<NativeConfig> = {}): ListenerConfig {
  return readNativeConfig({ ...BASE, ...more, listeners: [listener] }, { registry, filters }).listeners[0]
}

/** What is wrong with a listener; takes anything. */
function mistakes(listener: unknown): string[] {
  try {
    readNativeConfig({ ...BASE, listeners: [listener] }, { registry, filters })
  } catch (error) {
    if (error instanceof ConfigRefused) return error.errors.map(String)
    throw error
  }
  return []
}

t.test('a chain of layer 4 in short: filters by name, by type, by factory', async (t) => {
  const listener = read({ address, networkFilters: [{ name: 'gate', config: { mostConnections: 5 } }, TO_WEB] })
  t.same(listener.filterChains, [
    {
      name: '',
      networkFilters: [
        { name: 'gate', typeUrl: 'test.Gate', config: { most: 5 } },
        { name: 'forward', typeUrl: 'test.Forward', config: { cluster: 'web' } },
      ],
      transportConnectTimeoutMs: 10_000,
    },
  ])
  const names = (networkFilters: NativeListener['networkFilters']): unknown =>
    read({ address, networkFilters }).filterChains[0].networkFilters.map(({ name, typeUrl }) => [name, typeUrl])
  t.same(
    names([
      { name: 'mine', type: 'test.network.gate' },
      { factory: forward, config: { cluster: 'web' } },
    ]),
    [
      ['mine', 'test.Gate'],
      ['test.network.forward', 'test.Forward'],
    ],
  )
  t.same(names([gate, { name: 'x', type: 'type.googleapis.com/test.Forward', config: { cluster: 'web' } }]), [
    ['test.network.gate', 'test.Gate'],
    ['x', 'test.Forward'],
  ])
})

t.test('several chains with their matches, one for the rest, and the inspector that they need', async (t) => {
  const listener = read({
    address,
    filterChains: [
      {
        name: 'web',
        match: {
          destinationPort: 80,
          destinations: ['10.0.0.0/8'],
          serverNames: ['A.test', '*.test'],
          transportProtocol: 'tls',
          applicationProtocols: ['h2'],
          directSources: ['::1'],
          sourceType: 'external',
          sources: [{ address: '192.0.2.0', prefixLength: 24 }],
          sourcePorts: [7],
        },
        networkFilters: [TO_WEB],
      },
      { http: { routes: [] } },
    ],
    defaultFilterChain: { name: 'rest' },
    listenerFilters: [{ name: 'http_inspector', disabledFor: { kind: 'destination-ports', start: 1, end: 2 } }],
    listenerFiltersTimeoutMs: 100,
    continueOnListenerFiltersTimeout: true,
    keepalive: { idleS: 5 },
    maxConnections: 1,
    maxConnectionsPerSource: 2,
    ignoreGlobalLimit: true,
    trafficDirection: 'inbound',
    drainType: 'modify-only',
    accessLogs: [{ sink: 'stdout' }],
  })
  t.same(listener.filterChains[0].match, {
    destinationPort: 80,
    destinations: [{ address: '10.0.0.0', prefixLength: 8 }],
    serverNames: ['a.test', '*.test'],
    transportProtocol: 'tls',
    applicationProtocols: ['h2'],
    directSources: [{ address: '::1', prefixLength: 128 }],
    sourceType: 'external',
    sources: [{ address: '192.0.2.0', prefixLength: 24 }],
    sourcePorts: [7],
  })
  t.equal(listener.filterChains[1].match, undefined)
  t.equal(listener.filterChains[1].http?.statPrefix, address)
  t.same(listener.defaultFilterChain, { name: 'rest', networkFilters: [], transportConnectTimeoutMs: 10_000 })
  t.same(
    listener.listenerFilters.map(({ name, disabledFor }) => [name, disabledFor]),
    [
      ['envoy.filters.listener.tls_inspector', undefined],
      ['http_inspector', { kind: 'destination-ports', start: 1, end: 2 }],
    ],
  )
  t.match(listener, {
    listenerFiltersTimeoutMs: 100,
    continueOnListenerFiltersTimeout: true,
    keepalive: { idleS: 5 },
    maxConnections: 1,
    maxConnectionsPerSource: 2,
    ignoreGlobalLimit: true,
    trafficDirection: 'inbound',
    drainType: 'modify-only',
    accessLogs: [{ sink: { kind: 'stdout' } }],
  })
})

t.test('the TLS inspector is added only where it is needed and not there', async (t) => {
  const added = (match: object, listenerFilters: NativeListener['listenerFilters'] = []): unknown =>
    read({ address, filterChains: [{ match }], listenerFilters }).listenerFilters.map(({ name }) => name)
  const name = 'envoy.filters.listener.tls_inspector'
  t.same(added({ serverNames: ['a'] }), [name])
  t.same(added({ transportProtocol: 'tls' }), [name])
  t.same(added({ applicationProtocols: ['http/1.1'] }), [name])
  t.same(added({ applicationProtocols: ['http/1.1'] }, [http]), [http.name])
  t.same(added({ applicationProtocols: ['h2'] }, [http]), [name, http.name])
  t.same(added({ transportProtocol: 'raw_buffer' }), [])
  t.same(added({ destinationPort: 80 }), [])
  t.same(added({ serverNames: ['a'] }, [{ name: 'mine', type: 'tls_inspector' }]), ['mine'])
  const byName = {
    list: [
      {
        predicate: { kind: 'single', input: { kind: 'server-name' }, string: { kind: 'exact', value: 'a' } },
        onMatch: { action: 'a' },
      },
    ],
  } as const
  const chosen = { address, filterChains: [{ name: 'a' }], chainMatcher: byName }
  t.same(
    read(chosen).listenerFilters.map((filter) => filter.name),
    [name],
    'a matcher that asks for the name',
  )
  t.equal(read({ ...chosen, listenerFilters: [tls] }).listenerFilters.length, 1)
  const bare = { registry, filters: createLowerFilters([], []) }
  const listeners = [{ address, filterChains: [{ match: { serverNames: ['a'] } }] }]
  t.throws(() => readNativeConfig({ listeners }, bare), /no filter is called "tls_inspector"/)
})

t.test('internal listeners have a name and no address', async (t) => {
  const listener = read({ name: 'inside', internal: true, networkFilters: [TO_WEB] })
  t.match(listener, { name: 'inside', statPrefix: 'inside', internal: true, addresses: [] })
  t.same(mistakes({ internal: true, address, networkFilters: [TO_WEB] }), [
    'listeners[0].address: an internal listener has no address',
    'listeners[0].name: is required: internal listeners are reached by name',
  ])
})

t.test('the gateway has a limit of its own', async (t) => {
  const config = readNativeConfig({ ...BASE, maxConnections: 7 }, { registry, filters })
  t.equal(config.maxConnections, 7)
  t.notOk('maxConnections' in readNativeConfig(BASE, { registry, filters }))
})

t.test('a matcher chooses between chains by name', async (t) => {
  const chainMatcher = {
    tree: { input: { kind: 'destination-ip' }, kind: 'range', map: [['10.0.0.0/8', { action: 'a' }]] },
  } as const
  const chain = { name: 'a', networkFilters: [TO_WEB] }
  t.same(read({ address, chainMatcher, filterChains: [chain] }).chainMatcher, chainMatcher)
  t.same(
    mistakes({
      address,
      chainMatcher,
      filterChains: [{ ...chain, name: 'b', match: {} }, { ...chain, name: 'b' }, {}],
    }),
    [
      'listeners[0].filterChains[0].match: has no effect: the listener has a chain matcher',
      'listeners[0].filterChains[1].name: a second filter chain "b"',
      'listeners[0].filterChains[2].name: is required: the chain matcher chooses by name',
      'listeners[0].chainMatcher: unknown filter chain "a"',
    ],
  )
  const wrong = {
    tree: { input: { kind: 'request-header', name: 'x' }, kind: 'range', map: [['10/8', { action: 'a' }]] },
  }
  t.same(mistakes({ address, chainMatcher: wrong, filterChains: [chain] }), [
    'listeners[0].chainMatcher: input "request-header": a connection has none',
    'listeners[0].chainMatcher: "10/8" is not an IP address range',
  ])
})

t.test('mistakes name the field and the value', async (t) => {
  t.same(mistakes({ address }), [
    'listeners[0]: one of http, networkFilters, filterChains and defaultFilterChain is required',
  ])
  t.same(mistakes({ http: { routes: [] } }), ['listeners[0].address: is required'])
  t.same(mistakes({ address, filterChains: [{}], http: { routes: [] }, tls: { certificates: [] } }).slice(0, 2), [
    'listeners[0].tls.certificates: must not be empty',
    'listeners[0].http: excludes filterChains',
  ])
  t.same(mistakes({ address, filterChains: [] }), ['listeners[0].filterChains: a listener needs a filter chain'])
  const chains = (...filterChains: unknown[]): string[] => mistakes({ address, filterChains })
  t.same(chains({ name: 'a' }, { match: { serverNames: ['x'] } }, { name: 'c', match: { serverNames: ['y', 'X'] } }), [
    'listeners[0].filterChains[2]: filter chains [1] and "c" match the same connections',
  ])
  t.same(chains({ match: { serverNames: ['*', 'a.*'], sources: ['10.0.0.0/33', 'x'] } }), [
    'listeners[0].filterChains[0].match.serverNames[0]: "*" is not allowed: leave the list empty to match every name',
    'listeners[0].filterChains[0].match.serverNames[1]: "a.*": a wildcard must be the whole first label, such as *.example.com',
    'listeners[0].filterChains[0].match.sources[0]: "10.0.0.0/33" is not an IP address range',
    'listeners[0].filterChains[0].match.sources[1]: "x/32" is not an IP address range',
  ])
  t.same(chains({ match: { destinationPort: 0, sourceType: 'local' } }).sort(), [
    'listeners[0].filterChains[0].match.destinationPort: must be at least 1, is 0',
    'listeners[0].filterChains[0].match.sourceType: must be "any", "same-ip-or-loopback" or "external", is "local"',
  ])
  const layer4 = (...networkFilters: unknown[]): string[] => mistakes({ address, networkFilters })
  t.same(layer4(TO_WEB, TO_WEB), [
    'listeners[0].networkFilters[0]: "forward" ends the chain and must be the last filter',
  ])
  t.same(layer4({ name: 'gate' }), [
    'listeners[0].networkFilters[0]: nothing ends the chain: "gate" passes on what it reads',
  ])
  t.same(layer4({ name: 'forward', config: { cluster: 'wep' } }), [
    'listeners[0].networkFilters[0]: unknown cluster "wep"',
  ])
  t.same(layer4({ name: 'froward' }), [
    'listeners[0].networkFilters[0]: no filter is called "froward", did you mean "forward"?; this gateway has forward, gate',
  ])
  t.same(layer4({ name: 'gate', config: { least: 1 } }, TO_WEB), [
    'listeners[0].networkFilters[0].config.least: unknown field',
  ])
  t.same(layer4({ ...TO_WEB, disabled: true }), ['listeners[0].networkFilters[0].disabled: unknown field "disabled"'])
  const stranger = { ...gate, name: 'stranger', typeUrls: ['test.Stranger'] }
  t.same(layer4(stranger, TO_WEB), [
    'listeners[0].networkFilters[0]: the factory "stranger" is not one that this gateway was created with',
  ])
  t.same(mistakes({ address, http: { routes: [] }, networkFilters: [TO_WEB] }), [
    'listeners[0].networkFilters[0]: "forward" ends the chain and must be the last filter',
  ])
  t.same(mistakes({ address, networkFilters: [TO_WEB], listenerFilters: [{ name: 'sni' }, 5] }), [
    'listeners[0].listenerFilters[1]: must be a filter: an object with name and config; or a factory, is 5',
  ])
})

t.test('factories that stand in a configuration are found wherever they stand', async (t) => {
  const config = {
    listeners: [
      { networkFilters: [gate], listenerFilters: [{ factory: tls }] },
      {
        filterChains: [{ networkFilters: [{ factory: forward }, gate] }],
        defaultFilterChain: { http: { filters: [routerFactory] } },
      },
      5,
    ],
  }
  const found = factoriesIn(config)
  t.same(
    [found.http, found.network, found.listener].map((list) => list.map(({ name }) => name)),
    [[routerFactory.name], [gate.name, forward.name], [tls.name]],
  )
  t.same(factoriesIn('nothing'), { http: [], network: [], listener: [] })
})
