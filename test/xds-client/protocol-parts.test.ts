import { create, fromBinary, type Message, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import t from 'tap'
import { ConfigError, ConfigRefused } from '../../lib/core/errors.ts'
import { ENVOY_HTTP2 } from '../../lib/http2/config.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import { describeNode, encodeNode } from '../../xds-client/node.ts'
import { describeRejections } from '../../xds-client/protocol/rejection.ts'
import { canonicalName, globOf, isGlob, parseXdstp } from '../../xds-client/protocol/resource-name.ts'
import { methodPath, RESOURCE_TYPES } from '../../xds-client/protocol/types.ts'
import { versionNumber } from '../../xds-client/protocol/update-stats.ts'
import {
  encodeDeltaRequest,
  encodeWholeRequest,
  readDeltaResponse,
  readWholeResponse,
} from '../../xds-client/protocol/wire.ts'
import { Backoff } from '../../xds-client/transport/backoff.ts'
import { withLiveness } from '../../xds-client/transport/liveness.ts'
import { seeded } from '../support/random.ts'

const registry = createProtoRegistry()
const PREFIX = 'type.googleapis.com/'
const CLUSTER = 'envoy.config.cluster.v3.Cluster'
const expect = (name: string) => registry.expect(`envoy.service.discovery.v3.${name}`)

function make(typeName: string, fields: Record<string, unknown>): Message {
  return create(registry.expect(typeName), fields)
}

function anyOf(typeName: string, value: Uint8Array): Message {
  return make('google.protobuf.Any', { typeUrl: PREFIX + typeName, value })
}

t.test(
  'the name of every type of resource is its first field, and every method is one that its service has',
  async (t) => {
    for (const { typeName, service, stream, delta } of RESOURCE_TYPES) {
      const field = registry.expect(typeName).fields.find(({ number }) => number === 1)
      if (typeName.endsWith('LbEndpoint'))
        t.equal(field?.fieldKind, 'message', 'but that of a locality, which has none')
      else t.match(field?.name, /^(?:cluster_)?name$/)
      const methods = registry.files.getService(service)?.methods.map(({ name }) => name) ?? []
      t.ok(methods.includes(delta), `${service}/${delta}`)
      if (stream !== '') t.ok(methods.includes(stream), `${service}/${stream}`)
    }
    t.equal(
      methodPath(undefined, 'delta'),
      '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
    )
    t.equal(methodPath('envoy.config.route.v3.VirtualHost', 'sotw'), undefined)
  },
)

t.test('responses are read as the descriptors say', async (t) => {
  const value = toBinary(registry.expect(CLUSTER), make(CLUSTER, { name: 'c' }))
  const wrapper = make('envoy.service.discovery.v3.Resource', {
    name: 'w',
    version: 'v',
    aliases: ['x', 'y'],
    resource: anyOf(CLUSTER, value),
    ttl: make('google.protobuf.Duration', { seconds: 2n, nanos: 500_000_000 }),
  })
  const wrapperType = 'envoy.service.discovery.v3.Resource'
  const errors = [
    make('envoy.service.discovery.v3.ResourceError', {
      resourceName: make('envoy.service.discovery.v3.ResourceName', { name: 'e' }),
      errorDetail: make('google.rpc.Status', { code: 5, message: 'gone' }),
    }),
  ]
  const controlPlane = make('envoy.config.core.v3.ControlPlane', { identifier: 'me' })
  const whole = create(expect('DiscoveryResponse'), {
    versionInfo: '1',
    typeUrl: PREFIX + CLUSTER,
    nonce: 'n',
    canary: true,
    controlPlane,
    resources: [anyOf(CLUSTER, value), anyOf(wrapperType, toBinary(registry.expect(wrapperType), wrapper))],
    resourceErrors: errors,
  })
  const taken = { name: 'w', version: 'v', aliases: ['x', 'y'], ttlMs: 2_500, typeName: CLUSTER, wrapped: true }
  const read = readWholeResponse(toBinary(expect('DiscoveryResponse'), whole))
  t.match(read, {
    version: '1',
    typeName: CLUSTER,
    nonce: 'n',
    controlPlane: 'me',
    errors: [{ name: 'e', code: 5, message: 'gone' }],
  })
  t.same(read.resources, [
    { name: '', version: '', aliases: [], ttlMs: undefined, typeName: CLUSTER, wrapped: false, bytes: value },
    { ...taken, bytes: value },
  ])
  const name = (text: string): Message => make('envoy.service.discovery.v3.ResourceName', { name: text })
  const delta = create(expect('DeltaDiscoveryResponse'), {
    systemVersionInfo: '2',
    typeUrl: PREFIX + CLUSTER,
    nonce: 'm',
    resources: [wrapper, make(wrapperType, { version: 'v', resourceName: name('beat') })],
    removedResources: ['r'],
    removedResourceNames: [name('s')],
    resourceErrors: errors,
  })
  const deltaRead = readDeltaResponse(toBinary(expect('DeltaDiscoveryResponse'), delta))
  t.match(deltaRead, { version: '2', typeName: CLUSTER, nonce: 'm', removed: ['r', 's'], errors: [{ name: 'e' }] })
  t.same(deltaRead.resources, [
    { ...taken, bytes: value },
    { name: 'beat', version: 'v', aliases: [], ttlMs: undefined, typeName: '', wrapped: true, bytes: undefined },
  ])
})

t.test('requests are what the descriptors read', async (t) => {
  const node = encodeNode(registry, { id: 'n' })
  const whole = {
    node: true,
    typeName: CLUSTER,
    version: 'v',
    nonce: 'n',
    names: ['a', 'b'],
    error: { code: 3, message: 'm' },
  }
  t.match(fromBinary(expect('DiscoveryRequest'), encodeWholeRequest(whole, node)), {
    versionInfo: 'v',
    node: { id: 'n' },
    resourceNames: ['a', 'b'],
    typeUrl: PREFIX + CLUSTER,
    responseNonce: 'n',
    errorDetail: { code: 3, message: 'm' },
  })
  const bare = { node: false, typeName: CLUSTER, version: '', nonce: '', names: [], error: undefined }
  const plain = fromBinary(expect('DiscoveryRequest'), encodeWholeRequest(bare, node)) as Message & { node?: object }
  t.equal(plain.node, undefined)
  const delta = { node: true, typeName: CLUSTER, nonce: 'n', subscribe: ['a'], unsubscribe: ['b'], error: whole.error }
  const initialVersions = new Map([
    ['x', '1'],
    ['y', ''],
  ])
  t.match(fromBinary(expect('DeltaDiscoveryRequest'), encodeDeltaRequest({ ...delta, initialVersions }, node)), {
    node: { id: 'n' },
    typeUrl: PREFIX + CLUSTER,
    resourceNamesSubscribe: ['a'],
    resourceNamesUnsubscribe: ['b'],
    initialResourceVersions: { x: '1', y: '' },
    responseNonce: 'n',
    errorDetail: { code: 3, message: 'm' },
  })
})

t.test('bytes of any kind are a message or an Error, whatever they are', async (t) => {
  const random = seeded(7)
  const good = Buffer.from(
    toBinary(
      expect('DiscoveryResponse'),
      create(expect('DiscoveryResponse'), {
        versionInfo: '1',
        resources: [
          anyOf(CLUSTER, new Uint8Array(9)),
          anyOf('envoy.service.discovery.v3.Resource', new Uint8Array([0x1a, 1, 65])),
        ],
      }),
    ),
  )
  let errors = 0
  for (let i = 0; i < 20_000; i++) {
    const bytes = i % 2 === 0 ? random.bytes(random.below(40)) : Buffer.from(good)
    if (i % 2 === 1) bytes[random.below(bytes.length)] = random.below(256)
    for (const read of [readWholeResponse, readDeltaResponse]) {
      try {
        const { resources } = read(bytes)
        for (const { bytes: content } of resources)
          if (content !== undefined && content.length > bytes.length) t.fail('more than there was')
      } catch (error) {
        errors++
        if (!(error instanceof Error)) t.fail(String(error))
      }
    }
  }
  t.ok(errors > 1_000, `${errors} were none`)
})

t.test('names of the form xdstp: parts, one spelling, collections', async (t) => {
  t.same(parseXdstp('xdstp://auth/a.B/x/y?z=2&a=1#entry'), {
    authority: 'auth',
    typeName: 'a.B',
    id: 'x/y',
    context: [
      ['a', '1'],
      ['z', '2'],
    ],
    glob: false,
  })
  t.equal(canonicalName('xdstp://auth/a.B/x/y?z=2&a=1#entry'), 'xdstp://auth/a.B/x/y?a=1&z=2')
  t.equal(canonicalName('xdstp:///a.B/x?b&a'), 'xdstp:///a.B/x?a=&b=')
  for (const name of ['plain', 'a?b=1&a=2', 'xdstp:', 'xdstp://only']) t.equal(canonicalName(name), name)
  t.same(['xdstp://a/t/x/*', 'xdstp://a/t/*?q=1', 'xdstp://a/t/x*', 'x/*'].map(isGlob), [true, true, false, false])
  t.equal(globOf('xdstp://a/t/x/y?q=1'), 'xdstp://a/t/x/*?q=1')
  t.equal(globOf('xdstp://a/t/y'), 'xdstp://a/t/*')
  t.same([globOf('y'), globOf('xdstp://a/t/*')], [undefined, undefined])
  fc.assert(
    fc.property(fc.string(), (text) => {
      const once = canonicalName(`xdstp://${text}`)
      return canonicalName(once) === once
    }),
  )
})

t.test('the node is that of the bootstrap with what we are; a node that is none is refused', async (t) => {
  const extensions = [{ category: 'envoy.filters.http', name: 'envoy.filters.http.router', typeUrls: ['x.Router'] }]
  const node = describeNode({
    node: { id: 'i', dynamic_parameters: { a: { params: { b: 'c' } } }, client_features: ['own'] },
    version: '1.2.3-rc.1',
    extensions,
    clientFeatures: ['envoy.lrs.supports_send_all_clusters'],
  })
  t.match(fromBinary(registry.expect('envoy.config.core.v3.Node'), encodeNode(registry, node)), {
    id: 'i',
    userAgentName: 'headgate',
    extensions: [{ category: 'envoy.filters.http', name: 'envoy.filters.http.router', typeUrls: ['x.Router'] }],
    clientFeatures: [
      'own',
      'xds.config.supports-resource-ttl',
      'xds.config.supports-resource-in-sotw',
      'envoy.lrs.supports_send_all_clusters',
    ],
  })
  t.equal(
    describeNode({ node: { user_agent_name: 'envoy' }, version: '1.0.0', extensions: [] }).user_agent_name,
    'envoy',
  )
  t.throws(() => encodeNode(registry, { id: 7 }), ConfigRefused)
})

t.test('waiting times double up to the most, are random below that, and begin anew', async (t) => {
  let random = 0.999_999
  const backoff = new Backoff(undefined, () => random)
  const times = Array.from({ length: 9 }, () => backoff.next())
  t.same(times, [499, 999, 1_999, 3_999, 7_999, 15_999, 29_999, 29_999, 29_999])
  backoff.reset()
  random = 0.5
  t.same([backoff.next(), backoff.next()], [250, 500])
  t.equal(new Backoff({ baseMs: 100, maxMs: 50 }, () => 0.9).next(), 90)
})

t.test('a cluster of a control plane gets PINGs and TCP probes, unless it has its own', async (t) => {
  const bare = { http2: ENVOY_HTTP2 } as unknown as ClusterConfig
  const lively = withLiveness(bare)
  t.same([lively.http2.keepalive?.intervalMs, lively.keepalive?.idleS], [300_000, 60])
  const keepalive = { intervalMs: 1, timeoutMs: 2, jitterPercent: 3, idleIntervalMs: 4 }
  const own = withLiveness({ ...bare, http2: { ...ENVOY_HTTP2, keepalive }, keepalive: { idleS: 9 } })
  t.same([own.http2.keepalive, own.keepalive], [keepalive, { idleS: 9 }])
})

t.test('a verdict has all reasons as far as anybody reads them, and versions are numbers in gauges', async (t) => {
  const errors = [new ConfigError('a.b', 'is wrong'), new ConfigError('c', 'too')]
  t.equal(describeRejections([{ name: 'x', errors }]), '"x": a.b: is wrong; c: too')
  const many = Array.from({ length: 1_000 }, (_, i) => ({ name: `n${i}`, errors }))
  const text = describeRejections(many)
  t.ok(text.length < 8_300)
  t.match(text, /\nand \d+ more$/)
  t.ok(describeRejections([{ name: 'x', errors: [new ConfigError('', 'y'.repeat(20_000))] }]).length < 8_300)
  t.equal(versionNumber(''), 0)
  t.ok(Number.isSafeInteger(versionNumber('v1')) && versionNumber('v1') !== versionNumber('v2'))
})
