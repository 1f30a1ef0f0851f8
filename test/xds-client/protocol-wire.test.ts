import { setImmediate as nextTurn } from 'node:timers/promises'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import t, { type Test } from 'tap'
import { ENVOY_HTTP2 } from '../../lib/http2/config.ts'
import { meshClientTls } from '../../lib/tls/mesh.ts'
import { RESOURCE_TYPES } from '../../xds-client/protocol/types.ts'
import { Authority } from '../support/certificates.ts'
import { ControlPlane, type ControlPlaneOptions, XDS } from '../support/control-plane.ts'
import { seeded } from '../support/random.ts'
import { socketPath } from '../support/socket-path.ts'
import { api, type Place, registry, target, until, WireRig, watch } from './wire-rig.ts'

const cluster = (name: string, connectTimeout = '1s') => ({ name, connect_timeout: connectTimeout })
const assignment = (name: string) => ({ cluster_name: name })

async function start(
  t: Test,
  options: ControlPlaneOptions & { readonly place?: Place; readonly api?: Parameters<typeof api>[0] } = {},
): Promise<{ plane: ControlPlane; rig: WireRig }> {
  const plane = await ControlPlane.start({ registry, ...options })
  const rig = new WireRig(t, { ads: api(options.api ?? 'grpc'), leaks: options.tls === undefined })
  // Before the rig's own, which looks for what is left open: the last teardown runs first.
  t.teardown(() => plane.close())
  await rig.addCluster('plane', { port: plane.port, ...options.place })
  return { plane, rig }
}

for (const variant of ['grpc', 'delta-grpc'] as const) {
  t.test(`${variant}: ADS from the first request to the removal of a cluster`, async (t) => {
    const { plane, rig } = await start(t, { api: variant })
    plane.set(XDS.cluster, [cluster('a'), cluster('b')])
    plane.set(XDS.endpoints, [assignment('a'), assignment('b'), assignment('c')])
    const ads = rig.open({ kind: 'ads' })
    const connections: boolean[] = []
    ads.onConnection((connected) => connections.push(connected))
    const clusters = watch(ads, XDS.cluster, ['*'])
    const endpoints = watch(ads, XDS.endpoints, ['a'])
    await until(() => clusters.names.length === 2 && endpoints.names.length === 1, 'the first answers')
    t.equal(plane.streamsOpened, 1, 'one stream for all types')
    const [first, second] = plane.requests
    t.match(first.node, { id: 'test-node', metadata: { role: 'gateway' }, user_agent_name: 'headgate' })
    t.same(first.node?.user_agent_build_version, { version: { major_number: 1, minor_number: 2, patch: 3 } })
    t.match(first.node?.client_features, ['xds.config.supports-resource-ttl', 'xds.config.supports-resource-in-sotw'])
    t.equal(second.node, undefined)
    await plane.request((r) => r.kind === 'ack' && r.typeName === XDS.endpoints)
    endpoints.sub.want(new Set(['a', 'b']))
    await until(() => endpoints.names.length === 2, 'b')
    plane.set(XDS.cluster, [cluster('a', '2s')])
    await until(() => clusters.names.length === 1, 'the removal of b')
    t.same(clusters.last.removed, ['b'])
    clusters.refuse = (name) => (name === 'bad' ? 'no good' : undefined)
    plane.set(XDS.cluster, [cluster('a', '2s'), cluster('bad'), cluster('good')])
    const nack = await plane.request((r) => r.kind === 'nack')
    t.equal(nack.error?.message, '"bad": some.field: no good')
    t.same(clusters.names, ['a', 'good'])
    plane.set(XDS.cluster, [cluster('a', '2s'), cluster('good')])
    await plane.request((r) => r.kind === 'ack', 'recovery', plane.requests.indexOf(nack))
    t.same(ads.status().connected, true)
    t.same(connections, [true])
    t.equal(rig.metrics.gauge('control_plane.connected_state').v, 1)
  })

  t.test(`${variant}: every type has a stream of its own`, async (t) => {
    const { plane, rig } = await start(t)
    const source = rig.open(api(variant))
    const types = RESOURCE_TYPES.filter(({ stream }) => variant === 'delta-grpc' || stream !== '')
    for (const { typeName } of types) watch(source, typeName, ['x'])
    for (const { typeName } of types) {
      const request = await plane.request((r) => r.typeName === typeName)
      t.equal(request.stream.typeName, typeName)
      t.ok(request.node)
    }
    t.equal(plane.streamsOpened, types.length)
    t.throws(() => watch(source, 'some.Type', ['x']), /has no .* stream of some.Type/)
  })

  t.test(
    `${variant}: a server that closes its streams every few seconds is normal, and sends nothing twice`,
    async (t) => {
      const { plane, rig } = await start(t, { api: variant })
      plane.set(XDS.cluster, [cluster('a'), cluster('b')])
      const ads = rig.open({ kind: 'ads' })
      const clusters = watch(ads, XDS.cluster, ['*'])
      await until(() => clusters.names.length === 2, 'the first answer')
      for (let round = 1; round <= 3; round++) {
        const { version } = plane.types.get(XDS.cluster)!
        const verdicts = 2 * round - 1
        await until(() => plane.requests.filter((r) => r.nonce !== '').length === verdicts, 'the ACK')
        const before = plane.requests.length
        plane.closeStreams()
        await until(() => ads.status().lastError !== undefined, 'the end of the stream')
        t.equal(ads.status().connected, false)
        rig.clock.advance(500)
        const again = await plane.request((r) => r.kind === 'first', 'a new stream', before)
        t.ok(again.node)
        if (variant === 'grpc') t.equal(again.versionInfo, version)
        else t.same(again.initialVersions, { a: '1', b: '1' })
        plane.put(XDS.cluster, cluster(`c${round}`))
        await until(() => clusters.names.includes(`c${round}`), 'the new one')
        plane.remove(XDS.cluster, `c${round}`)
        await until(() => clusters.names.length === 2, 'its removal')
      }
      t.same(rig.warnings, [])
    },
  )

  t.test(`${variant}: a server that is down at the start, killed, and restarted`, async (t) => {
    const { plane, rig } = await start(t, { api: variant })
    plane.set(XDS.cluster, [cluster('a')])
    await plane.stop()
    const ads = rig.open({ kind: 'ads' })
    const clusters = watch(ads, XDS.cluster, ['*'])
    const endpoints = watch(ads, XDS.endpoints, ['e'], { initialFetchTimeoutMs: 0 })
    await until(() => rig.warnings.length === 1, 'the warning')
    t.match(rig.warnings[0], /cannot be reached/)
    for (let i = 0; i < 6; i++) {
      const before = rig.made.length
      rig.clock.advance(15_000)
      await until(() => rig.made.length > before, 'another attempt')
      await until(() => ads.status().lastError !== undefined && rig.clock.pending > 0, 'its end')
    }
    t.same([clusters.absent, endpoints.absent], [['* timeout'], []])
    t.ok(rig.warnings.length <= 3, 'a warning a minute')
    await plane.restart()
    rig.clock.advance(30_000)
    await until(() => clusters.names.length === 1, 'the first answer')
    await plane.stop()
    await until(() => !ads.status().connected, 'the loss')
    plane.set(XDS.cluster, [cluster('a'), cluster('b')])
    t.same(clusters.names, ['a'], 'what was in use stays')
    await plane.restart()
    await until(() => {
      rig.clock.advance(1_000)
      return clusters.names.length === 2
    }, 'what has changed meanwhile')
  })

  t.test(`${variant}: resources of 50 MB in one response`, async (t) => {
    const { plane, rig } = await start(t, { api: variant })
    const type = { version: 'big', resources: new Map<string, { version: string; bytes: Uint8Array }>() }
    for (let i = 0; i < 10_000; i++) {
      const name = `cluster-${i}`
      const bytes = new BinaryWriter()
        .tag(1, WireType.LengthDelimited)
        .string(name)
        .tag(28, WireType.LengthDelimited)
        .bytes(new Uint8Array(5_000))
        .finish()
      type.resources.set(name, { version: '1', bytes })
    }
    plane.types.set(XDS.cluster, type)
    const clusters = watch(rig.open({ kind: 'ads' }), XDS.cluster, ['*'])
    await until(() => clusters.names.length === 10_000, '10,000 clusters')
    t.equal(clusters.updates.length, 1)
    const ack = await plane.request((r) => r.kind === 'ack')
    t.equal(ack.error, undefined)
    const bytes = clusters.last.resources.reduce((sum, resource) => sum + resource.bytes.length, 0)
    t.ok(bytes > 50_000_000, `${bytes} bytes`)
  })

  t.test(`${variant}: a connection that breaks within a message changes nothing, and is made anew`, async (t) => {
    const { plane, rig } = await start(t, { api: variant })
    plane.set(XDS.cluster, [cluster('a')])
    const ads = rig.open({ kind: 'ads' })
    const clusters = watch(ads, XDS.cluster, ['*'])
    await until(() => clusters.names.length === 1, 'the first answer')
    await plane.request((r) => r.kind === 'ack')
    const bytes = new Uint8Array(30_000_000)
    plane.stream.send({ typeName: XDS.cluster, version: 'x', resources: [{ name: 'huge', bytes }] })
    const { passed } = plane.wire
    await until(() => plane.wire.passed > passed + 100_000, 'a part of it')
    plane.wire.reset()
    await until(() => !ads.status().connected, 'the break')
    t.same([clusters.names, clusters.updates.length], [['a'], 1])
    plane.set(XDS.cluster, [cluster('b')])
    rig.clock.advance(500)
    await until(() => clusters.names.join() === 'b', 'the next stream')
  })

  t.test(`${variant}: over TLS with a certificate of ours, and over a Unix socket`, async (t) => {
    const authority = await Authority.create()
    const server = await authority.issue({ dns: ['plane.test'] })
    const client = await authority.issue({ subject: 'CN=client' })
    const { plane, rig } = await start(t, {
      api: variant,
      tls: { chain: server.chain, key: server.key, clientCa: authority.pem },
      place: {
        tls: {
          ...meshClientTls({ certificateChain: client.chain, privateKey: client.key, trustedCa: authority.pem }, []),
          sni: 'plane.test',
          validation: {
            trustedCa: authority.pem,
            systemRoots: false,
            acceptUntrusted: false,
            sans: [{ type: 'dns', match: { kind: 'exact', value: 'plane.test' } }],
          },
        },
      },
    })
    plane.set(XDS.cluster, [cluster('a')])
    const clusters = watch(rig.open({ kind: 'ads' }), XDS.cluster, ['*'])
    await until(() => clusters.names.length === 1, 'an answer over TLS')
    const path = socketPath(t, 'sds')
    const agent = await ControlPlane.start({ registry, path })
    t.teardown(() => agent.close())
    agent.set(XDS.secret, [{ name: 'default' }, { name: 'ROOTCA' }])
    await rig.addCluster('agent', { path })
    const sds = rig.open(api(variant, { targets: [target('agent')] }), 'sds')
    const secrets = watch(sds, XDS.secret, ['default', 'ROOTCA'])
    await until(() => secrets.names.length === 2, 'secrets over a socket')
  })

  t.test(
    `${variant}: over the real wire, too, client and server agree in the end, whatever is wanted and changed`,
    async (t) => {
      const { plane, rig } = await start(t, { api: variant })
      const ads = rig.open({ kind: 'ads' })
      const endpoints = watch(ads, XDS.endpoints, [])
      const random = seeded(variant.length)
      const names = ['a', 'b', 'c', 'd', 'e']
      let wanted = new Set<string>()
      for (let step = 0; step < 150; step++) {
        const what = random.below(6)
        if (what < 2) {
          wanted = new Set(names.filter(() => random.below(2) === 0))
          for (const name of endpoints.state.keys()) if (!wanted.has(name)) endpoints.state.delete(name)
          endpoints.sub.want(wanted)
        } else if (what === 2) {
          const name = random.pick(names)
          plane.put(XDS.endpoints, { cluster_name: name, policy: { overprovisioning_factor: 100 + step } })
        } else if (what === 3 && step % 4 === 0) plane.closeStreams()
        else await nextTurn()
        rig.clock.advance(300)
      }
      wanted = new Set(names)
      endpoints.sub.want(wanted)
      for (const name of names) plane.put(XDS.endpoints, { cluster_name: name })
      const held = plane.types.get(XDS.endpoints)!
      await until(() => {
        rig.clock.advance(100)
        return names.every((name) => {
          const version = variant === 'grpc' ? held.version : held.resources.get(name)?.version
          return endpoints.state.get(name) === version
        })
      }, 'agreement')
      t.same(endpoints.names, names)
    },
  )
}

t.test('each connection has a client of its own, so that a token that was replaced is the new one', async (t) => {
  const { plane, rig } = await start(t)
  const ads = rig.open({ kind: 'ads' })
  watch(ads, XDS.cluster, ['*'])
  t.equal((await plane.request(() => true)).stream.metadata('authorization'), 'Bearer token-1')
  rig.token = 'token-2'
  plane.closeStreams(16, 'the token has expired')
  await until(() => ads.status().lastError !== undefined, 'the end')
  t.equal(ads.status().lastError, '16: the token has expired')
  rig.clock.advance(500)
  t.equal((await plane.request(() => true, 'the second stream', 1)).stream.metadata('authorization'), 'Bearer token-2')
})

t.test('a client that cannot be made, and a cluster that is not there, are failures like others', async (t) => {
  let broken = true
  const plane = await ControlPlane.start({ registry })
  const rig: WireRig = new WireRig(t, {
    ads: api('grpc'),
    cluster: () => undefined,
  })
  t.teardown(() => plane.close())
  const ads = rig.open({ kind: 'ads' })
  const clusters = watch(ads, XDS.cluster, ['*'])
  plane.set(XDS.cluster, [cluster('a')])
  await until(() => rig.warnings.length === 1, 'the failure')
  t.match(ads.status().lastError, /^14: /)
  await rig.addCluster('plane', { port: plane.port })
  broken = false
  rig.clock.advance(500)
  await until(() => clusters.names.length === 1 && !broken, 'the answer')
})

t.test('a half-open connection is found by the PINGs of its cluster', async (t) => {
  const keepalive = { intervalMs: 150, timeoutMs: 250, jitterPercent: 0, idleIntervalMs: 0 }
  const { plane, rig } = await start(t, { place: { http2: { ...ENVOY_HTTP2, keepalive } } })
  plane.set(XDS.cluster, [cluster('a')])
  const ads = rig.open({ kind: 'ads' })
  const clusters = watch(ads, XDS.cluster, ['*'])
  await until(() => clusters.names.length === 1, 'the first answer')
  plane.wire.freeze()
  await until(() => !ads.status().connected, 'the death of the connection')
  t.match(ads.status().lastError, /keepalive timeout/)
  t.same(clusters.names, ['a'])
  plane.wire.thaw()
  plane.set(XDS.cluster, [cluster('b')])
  await until(() => {
    rig.clock.advance(500)
    return clusters.names.join() === 'b'
  }, 'the next connection')
})

t.test(
  'of several servers the next one is asked where the first is silent, and the first again when it is back',
  async (t) => {
    const [first, second] = await Promise.all([ControlPlane.start({ registry }), ControlPlane.start({ registry })])
    const rig = new WireRig(t, { ads: api('delta-grpc', { targets: [target('first'), target('second')] }) })
    t.teardown(() => Promise.all([first.close(), second.close()]))
    await rig.addCluster('first', { port: first.port })
    await rig.addCluster('second', { port: second.port })
    first.set(XDS.cluster, [cluster('a'), cluster('of-first')])
    second.set(XDS.cluster, [cluster('a'), cluster('of-second')])
    await first.stop()
    const clusters = watch(rig.open({ kind: 'ads' }), XDS.cluster, ['*'])
    await until(() => rig.warnings.length === 1, 'the failure of the first')
    rig.clock.advance(500)
    await until(() => clusters.names.join() === 'a,of-second', 'the second')
    const before = rig.made.length
    rig.clock.advance(30_000)
    await until(() => rig.made.length === before + 1, 'a look at the first')
    t.same(clusters.names, ['a', 'of-second'], 'in vain, and nothing has happened')
    await until(() => rig.clock.pending === 1, 'the next look to be due')
    await first.restart()
    rig.clock.advance(60_000)
    await until(() => clusters.names.join() === 'a,of-first', 'the first')
    await until(() => second.streams.length === 0, 'the end of the second stream')
    t.same(first.requests[0].initialVersions, { a: '1', 'of-second': '1' })
  },
)

t.test(
  'responses that come all at once are handled in order, as many in a turn of the loop as it has time for',
  async (t) => {
    const { plane, rig } = await start(t)
    const ads = rig.open({ kind: 'ads' })
    const clusters = watch(ads, XDS.cluster, ['*'])
    await plane.request(() => true)
    let turns = 0
    let inTurn = 0
    let most = 0
    clusters.onEach = () => {
      most = Math.max(most, ++inTurn)
      rig.clock.advance(1)
    }
    const bytes = plane.encode(XDS.cluster, cluster('a'))
    for (let i = 1; i <= 300; i++) {
      plane.stream.send({ typeName: XDS.cluster, version: String(i), resources: [{ bytes }] })
    }
    while (clusters.updates.length < 300) {
      await nextTurn()
      turns++
      inTurn = 0
      if (turns > 100_000) throw new Error(`${clusters.updates.length} came`)
    }
    t.equal(most, 2, 'two milliseconds')
    t.same(
      clusters.updates.map(({ version }) => version),
      Array.from({ length: 300 }, (_, i) => String(i + 1)),
    )
    await plane.request((r) => r.versionInfo === '300')
    const acks = plane.requests.filter(({ kind }) => kind !== 'first')
    t.equal(acks.length, 300, 'a verdict on each')
  },
)

t.test('a server that is there and says nothing lets names be given up, one that is not there does not', async (t) => {
  const { plane, rig } = await start(t)
  plane.set(XDS.endpoints, [assignment('a')])
  const ads = rig.open({ kind: 'ads' })
  const endpoints = watch(ads, XDS.endpoints, ['a'])
  await until(() => endpoints.names.length === 1, 'the first answer')
  await plane.stop()
  await until(() => !ads.status().connected, 'the loss')
  plane.hold()
  endpoints.sub.want(new Set(['a', 'b']))
  for (let i = 0; i < 4; i++) {
    const { length } = rig.made
    rig.clock.advance(15_000)
    await until(() => rig.made.length > length && !ads.status().connected && rig.clock.pending > 0, 'an attempt')
  }
  t.same(endpoints.absent, [])
  await plane.restart()
  const { length } = plane.requests
  rig.clock.advance(15_000)
  await plane.request(() => true, 'a request that gets no answer', length)
  await until(() => ads.status().connected, 'the connection')
  rig.clock.advance(14_999)
  t.same(endpoints.absent, [])
  rig.clock.advance(1)
  t.same(endpoints.absent, ['b timeout'])
})

t.test('bytes that are no message end the stream, and the next one is in order', async (t) => {
  const { plane, rig } = await start(t)
  plane.set(XDS.cluster, [cluster('a')])
  const ads = rig.open({ kind: 'ads' })
  const clusters = watch(ads, XDS.cluster, ['*'])
  await until(() => clusters.names.length === 1, 'the first answer')
  plane.stream.sendBytes(Buffer.from([0x0a, 0xff, 0xff, 0x7f]))
  await until(() => !ads.status().connected, 'the end')
  t.match(ads.status().lastError, /^13: a message could not be decoded/)
  rig.clock.advance(500)
  await until(() => ads.status().connected, 'the next stream')
  t.same(clusters.names, ['a'])
})

t.test('a stream that nobody needs any more is closed, and opened again when somebody does', async (t) => {
  const { plane, rig } = await start(t)
  plane.set(XDS.secret, [{ name: 'a' }])
  const sds = rig.open(api('grpc'))
  const first = watch(sds, XDS.secret, ['a'])
  await until(() => first.names.length === 1, 'the secret')
  first.sub.close()
  await until(() => plane.streams.length === 0, 'the end of the stream')
  const second = watch(sds, XDS.secret, ['a'])
  await until(() => second.names.length === 1, 'the secret again')
  t.equal(plane.streamsOpened, 2)
})

t.test('sources of one key are one, until all who opened them have given them back', async (t) => {
  const { plane, rig } = await start(t)
  const [one, two] = [rig.open({ kind: 'ads' }, ''), rig.open({ kind: 'ads' }, '')]
  watch(one, XDS.cluster, ['*'])
  const listeners = watch(two, XDS.listener, ['*'])
  plane.set(XDS.listener, [])
  await until(() => listeners.updates.length === 1, 'the answer')
  t.equal(plane.streamsOpened, 1)
  t.equal(rig.sources.status().length, 1)
  one[Symbol.dispose]()
  one[Symbol.dispose]()
  await nextTurn()
  t.equal(plane.streams.length, 1)
  two[Symbol.dispose]()
  await until(() => plane.streams.length === 0, 'the end of the stream')
  t.equal(rig.sources.status().length, 0)
  const bare = new WireRig(t)
  t.throws(() => bare.open({ kind: 'ads' }), /there is no ADS/)
})
