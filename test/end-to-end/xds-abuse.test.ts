import t, { type Test } from 'tap'
import type { JsonObject } from '../../lib/core/errors.ts'
import { XDS } from '../support/control-plane.ts'
import { assignmentResource, clusterResource, listenerResource } from '../support/xds-gateway.ts'
import { LONG, XdsLab } from './xds-lab.ts'
import { sleep } from './xds-load.ts'
import { KINDS } from './xds-resources.ts'

/** What no control plane should do, under constant load: no process ends, no request is lost, the state is right after it. */

t.setTimeout(300_000)

const FLOOD_SECONDS = LONG ? 20 : 2
const FLAPS = LONG ? 200 : 20
const MEGABYTES = 50
const CLUSTER_REJECTED = 'cluster_manager.cds.update_rejected'

/** The next answer of the gateway about a type. */
async function verdict(lab: XdsLab, type: string, from: number): Promise<string> {
  const { error } = await lab.plane.request(
    (r) => r.typeName === type && r.nonce !== '' && r.kind !== 'stale',
    `a verdict on ${type}`,
    from,
  )
  return error?.message ?? ''
}

async function rejected(lab: XdsLab): Promise<number> {
  return (await lab.gateway.stats()).get(CLUSTER_REJECTED)
}

/** After an abuse: one more good push of everything, and all is well. */
async function recovered(t: Test, lab: XdsLab, what: string): Promise<void> {
  for (const kind of KINDS) lab.push(kind)
  await lab.settled(10_000)
  t.same(lab.gateway.errors, [], `${what}: equal state, and no complaint`)
}

const cluster = (name: string, fields: JsonObject = {}): JsonObject => ({ ...clusterResource(name), ...fields })

for (const api of ['DELTA_GRPC', 'GRPC'] as const) {
  const delta = api === 'DELTA_GRPC'

  t.test(`${api}: answers that make no sense are refused and counted`, async (t) => {
    const lab = await XdsLab.start(t, { api })
    const { plane } = lab
    await lab.load.progress(20)
    const encoded = (json: JsonObject): Uint8Array => plane.encode(XDS.cluster, json)
    const resource = (name: string, fields?: JsonObject): { name: string; version: string; bytes: Uint8Array } => ({
      name,
      version: `v-${name}`,
      bytes: encoded(cluster(name, fields)),
    })

    let before = await rejected(lab)
    let from = plane.requests.length
    const twice = [resource('shop'), resource('shop', { connect_timeout: '9s' })]
    plane.stream.send({ typeName: XDS.cluster, version: 'twice', resources: twice })
    t.match(await verdict(lab, XDS.cluster, from), /shop/, 'one name twice')
    t.equal(await rejected(lab), before + 1)

    before = await rejected(lab)
    from = plane.requests.length
    const foreign = { name: 'shop', version: 'f', typeName: 'example.v1.Unheard', bytes: encoded(cluster('shop')) }
    plane.stream.send({ typeName: XDS.cluster, version: 'foreign', resources: [foreign] })
    t.match(await verdict(lab, XDS.cluster, from), /example\.v1\.Unheard/, 'a type inside that nobody knows')
    t.equal(await rejected(lab), before + 1)

    before = await rejected(lab)
    from = plane.requests.length
    const torn = { name: 'shop', version: 't', bytes: Buffer.from([0x0a, 0xff, 0xff, 0x01]) }
    plane.stream.send({ typeName: XDS.cluster, version: 'torn', resources: [torn] })
    t.not(await verdict(lab, XDS.cluster, from), '', 'bytes that are no message')
    t.equal(await rejected(lab), before + 1)

    from = plane.requests.length
    plane.stream.send({ typeName: 'example.v1.Unasked', version: '1', resources: [foreign] })
    await recovered(t, lab, 'a type that nobody asked for')

    // Nonces are the server's business: each is answered as it came.
    from = plane.requests.length
    for (const nonce of ['z', 'a', 'm']) {
      const resources = [resource('shop'), resource(`odd-${nonce}`)]
      plane.stream.send({ typeName: XDS.cluster, version: `n-${nonce}`, nonce, resources })
    }
    await plane.request((r) => r.nonce === 'm', 'the last of three', from)
    const answers = plane.requests.slice(from).filter(({ nonce }) => /^[azm]$/.test(nonce))
    t.same(
      answers.map(({ nonce, error }) => [nonce, error]),
      [
        ['z', undefined],
        ['a', undefined],
        ['m', undefined],
      ],
    )
    if (delta) plane.stream.send({ typeName: XDS.cluster, version: 'off', removed: ['odd-z', 'odd-a', 'odd-m'] })
    await recovered(t, lab, 'nonces in disorder')
    t.comment(`${await lab.balance(t)} requests`)
  })

  t.test(`${api}: streams that break in every way are opened again`, async (t) => {
    const lab = await XdsLab.start(t, { api })
    const { plane } = lab
    await lab.load.progress(20)
    const large = plane.encode(XDS.cluster, cluster('large', blob(8)))
    const ways: readonly (readonly [what: string, abuse: () => void])[] = [
      ['reset in the middle of a message', () => cutOff(lab, large)],
      ['garbage instead of a message', () => plane.stream.sendBytes(Buffer.alloc(64, 0xff))],
      ['the server has ended the stream', () => plane.closeStreams(0)],
      ['UNAVAILABLE', () => plane.closeStreams(14, 'going down')],
      ['RESOURCE_EXHAUSTED', () => plane.closeStreams(8, 'too many streams')],
    ]
    for (const [what, abuse] of ways) {
      const { streamsOpened } = plane
      abuse()
      for (let waitedMs = 0; plane.streamsOpened === streamsOpened && waitedMs < 10_000; waitedMs += 10) await sleep(10)
      t.ok(plane.streamsOpened > streamsOpened, `${what}: another stream`)
      await recovered(t, lab, what)
    }
    t.same(lab.unrefused(), [])
    t.comment(`${await lab.balance(t)} requests`)
  })
}

t.test('what is removed while it warms is gone, and nothing waits for it', async (t) => {
  const lab = await XdsLab.start(t)
  const { plane } = lab
  await lab.load.progress(20)
  plane.hold(XDS.endpoints)
  plane.hold(XDS.routes)
  plane.put(XDS.cluster, cluster('cold'))
  plane.put(XDS.listener, listenerResource('cold', 0, 'routes-that-never-come'))
  const warming = 'cluster_manager.warming_clusters'
  await lab.gateway.until((stats) => stats.get(warming) === 1, 'a cluster that warms')
  const listeners = 'listener_manager.total_listeners_warming'
  await lab.gateway.until((stats) => stats.get(listeners) === 1, 'a listener that warms')
  plane.remove(XDS.cluster, 'cold')
  plane.remove(XDS.listener, 'cold')
  await lab.gateway.until((stats) => stats.get(warming) + stats.get(listeners) === 0, 'end of the warming')
  plane.put(XDS.endpoints, assignmentResource('cold', 1))
  plane.release(XDS.routes)
  plane.release(XDS.endpoints)
  plane.remove(XDS.endpoints, 'cold')
  await recovered(t, lab, 'removed while warming')
  t.same(lab.unrefused(), [])
  t.comment(`${await lab.balance(t)} requests`)
})

t.test('a thousand updates a second, and types that flap: the last word holds', async (t) => {
  const lab = await XdsLab.start(t)
  const { plane, fixed } = lab
  await lab.load.progress(20)
  const begin = performance.now()
  let sent = 0
  while (performance.now() < begin + FLOOD_SECONDS * 1000) {
    while (sent < performance.now() - begin) {
      plane.put(XDS.endpoints, assignmentResource('shop', fixed.originPorts[sent++ % 2]))
    }
    await sleep(5)
  }
  t.ok(sent >= FLOOD_SECONDS * 900, `${sent} updates`)
  await recovered(t, lab, 'a flood')
  for (let i = 0; i < FLAPS; i++) {
    plane.put(XDS.cluster, cluster('flapping'))
    plane.put(XDS.endpoints, assignmentResource('flapping', fixed.originPorts[0]))
    plane.put(XDS.listener, listenerResource('flapping', 0))
    await sleep((i * 7) % 40)
    plane.remove(XDS.listener, 'flapping')
    plane.remove(XDS.cluster, 'flapping')
    plane.remove(XDS.endpoints, 'flapping')
    await sleep((i * 13) % 40)
  }
  await recovered(t, lab, 'flapping')
  t.same(lab.unrefused(), [])
  t.comment(`${await lab.balance(t)} requests`)
})

t.test(`a resource of ${MEGABYTES} MB`, { skip: LONG ? false : 'in npm run test:faults' }, async (t) => {
  const lab = await XdsLab.start(t)
  const { plane } = lab
  await lab.load.progress(20)
  const from = plane.requests.length
  plane.put(XDS.cluster, cluster('large', blob(MEGABYTES)))
  const taken = await plane.request((r) => r.typeName === XDS.cluster && r.kind !== 'stale', 'a verdict', from)
  t.comment(taken.error?.message ?? 'it is taken')
  await lab.load.progress(200)
  plane.remove(XDS.cluster, 'large')
  await recovered(t, lab, 'a large resource')
  t.comment(`${await lab.balance(t)} requests`)
})

function blob(megabytes: number): JsonObject {
  return { metadata: { filter_metadata: { blob: { text: 'x'.repeat(megabytes * 1_000_000) } } } }
}

/** The message is longer than what fits on the wire unread. */
function cutOff(lab: XdsLab, bytes: Uint8Array): void {
  lab.plane.stream.send({ typeName: XDS.cluster, resources: [{ name: 'large', version: 'l', bytes }] })
  setImmediate(() => lab.plane.wire.reset())
}
