import t from 'tap'
import { CLUSTER, content, ENDPOINTS, LISTENER, Rig, ROUTES, resource } from './protocol-rig.ts'

const clusters = (...names: string[]) => names.map((name) => resource(CLUSTER, name))
const endpoints = (...names: string[]) => names.map((name) => resource(ENDPOINTS, name))
const NOT_REFUSED = { error: undefined, node: false }

t.test(
  'the first request has the node and no nonce; the answer is acknowledged with its version and nonce',
  async (t) => {
    const rig = new Rig('sotw')
    const watcher = rig.subscribe(CLUSTER, ['*'])
    t.same(rig.wanted, [])
    rig.turn()
    t.same(rig.wanted, [true], 'wanted when the turn has ended')
    rig.connect()
    t.same(
      rig.whole(),
      { version: '', nonce: '', names: [], error: undefined, node: true },
      'the wildcard is left unsaid',
    )
    const nonce = rig.respond(CLUSTER, clusters('a', 'b'), { version: 'v1' })
    t.same(rig.whole(), { version: 'v1', nonce, names: [], ...NOT_REFUSED })
    t.same(watcher.names, ['a', 'b'])
    t.same([watcher.last.version, watcher.last.resources[0].version], ['v1', 'v1'])
    t.same(watcher.last.resources[0].bytes, content('a'))
    rig.subscribe(LISTENER, ['*'])
    rig.turn()
    t.same(rig.whole(), { version: '', nonce: '', names: [], ...NOT_REFUSED }, 'another type, the same stream: no node')
  },
)

t.test('the node goes with every request unless it is for the first one only', async (t) => {
  const rig = new Rig('sotw', { nodeOnFirstMessageOnly: false })
  rig.subscribe(CLUSTER, ['*'])
  rig.connect()
  t.equal(rig.whole().node, true)
  rig.respond(CLUSTER, [])
  t.equal(rig.whole().node, true)
  rig.disconnect()
  rig.connect()
  t.equal(rig.whole().node, true)
})

t.test('a refused response is answered once, with the version before, its nonce and all reasons', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(CLUSTER, ['*'], { statPrefix: 'cds.' })
  rig.connect()
  rig.take()
  watcher.refuse = (name) => (name.startsWith('bad') ? `"${name}" is not good` : undefined)
  const first = rig.respond(CLUSTER, clusters('a', 'bad1', 'bad2'), { version: 'v1' })
  const nack = rig.whole()
  t.same([nack.version, nack.nonce], ['', first], 'no version was ever accepted')
  t.equal(nack.error, '"bad1": some.field: "bad1" is not good\n"bad2": some.field: "bad2" is not good')
  t.same(watcher.names, ['a'], 'the good one is in use')
  t.equal(rig.warnings.length, 1)
  watcher.refuse = () => undefined
  rig.respond(CLUSTER, clusters('a'), { version: 'v2' })
  t.equal(rig.whole().version, 'v2')
  watcher.refuse = () => 'no'
  const third = rig.respond(CLUSTER, clusters('b'), { version: 'v3' })
  t.same([rig.whole().version, rig.take().length], ['v2', 0], 'after a NACK nothing until there is a new version')
  rig.clock.advance(60_000)
  rig.turn()
  t.equal(rig.take().length, 0)
  const again = rig.respond(CLUSTER, clusters('b'), { version: 'v3' })
  const repeated = rig.whole()
  t.same(
    [repeated.version, repeated.nonce === again, again === third],
    ['v2', true, false],
    'the same version once more',
  )
  const counted = (name: string): number => rig.metrics.counter(`cds.${name}`).v
  t.same([counted('update_success'), counted('update_rejected'), counted('update_failure')], [1, 3, 0])
})

t.test('names that grow while a response is in flight are in the verdict on it', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(ENDPOINTS, ['a'])
  rig.connect()
  rig.take()
  const first = rig.respond(ENDPOINTS, endpoints('a'), { version: 'v1' })
  rig.take()
  watcher.sub.want(new Set(['a', 'b']))
  rig.turn()
  t.same(
    rig.whole(),
    { version: 'v1', nonce: first, names: ['a', 'b'], ...NOT_REFUSED },
    'which the server drops as stale',
  )
  const second = rig.respond(ENDPOINTS, endpoints('a'), { version: 'v2' })
  t.same(rig.whole(), { version: 'v2', nonce: second, names: ['a', 'b'], ...NOT_REFUSED }, 'which it hears')
})

t.test('what is wanted while an update is taken over is in its ACK, and asked for no second time', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(ENDPOINTS, ['a'])
  rig.connect()
  rig.take()
  watcher.onEach = () => watcher.sub.want(new Set(['a', 'b', 'c']))
  rig.respond(ENDPOINTS, endpoints('a'))
  t.same(rig.whole().names, ['a', 'b', 'c'])
})

t.test('every response gets exactly one verdict, in order, also when several come in one turn', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(CLUSTER, ['*'])
  rig.connect()
  rig.take()
  watcher.refuse = (_, version) => (version === 'v2' ? 'no' : undefined)
  for (const version of ['v1', 'v2', 'v3']) {
    const common = { typeName: CLUSTER, resources: clusters('a'), removed: [], errors: [], controlPlane: '' }
    rig.session.received({ ...common, version, nonce: `of ${version}` })
  }
  rig.turn()
  t.same(
    rig
      .take()
      .map((request) => ('version' in request ? [request.version, request.nonce, request.error !== undefined] : [])),
    [
      ['v1', 'of v1', false],
      ['v1', 'of v2', true],
      ['v3', 'of v3', false],
    ],
  )
})

t.test(
  'after a reconnect: all names, the version accepted last, no nonce; a server that says nothing changes nothing',
  async (t) => {
    const rig = new Rig('sotw')
    const watcher = rig.subscribe(ENDPOINTS, ['a', 'b'])
    rig.connect()
    rig.respond(ENDPOINTS, endpoints('a', 'b'), { version: 'v7' })
    rig.take()
    rig.disconnect()
    t.same(watcher.names, ['a', 'b'])
    rig.connect()
    t.same(rig.whole(), { version: 'v7', nonce: '', names: ['a', 'b'], error: undefined, node: true })
    rig.clock.advance(60_000)
    t.same([watcher.names, watcher.absent, watcher.updates.length], [['a', 'b'], [], 1])
  },
)

t.test(
  'after a reconnect with names that the server has never heard there is no version to be satisfied with',
  async (t) => {
    const rig = new Rig('sotw')
    const watcher = rig.subscribe(ENDPOINTS, ['a'])
    rig.connect()
    rig.respond(ENDPOINTS, endpoints('a'), { version: 'v7' })
    rig.take()
    rig.disconnect()
    watcher.sub.want(new Set(['a', 'new']))
    rig.connect()
    t.same(rig.whole(), { version: '', nonce: '', names: ['a', 'new'], error: undefined, node: true })
  },
)

t.test('what was refused before a reconnect is not claimed: the version is the one before', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(CLUSTER, ['*'])
  rig.connect()
  rig.respond(CLUSTER, clusters('a'), { version: 'v1' })
  watcher.refuse = () => 'no'
  rig.respond(CLUSTER, clusters('a'), { version: 'v2' })
  rig.take()
  rig.disconnect()
  rig.connect()
  t.equal(rig.whole().version, 'v1')
})

t.test('listeners and clusters that are absent from an answer are no more; an empty answer removes all', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(LISTENER, ['*'])
  rig.connect()
  const listeners = (...names: string[]) => names.map((name) => resource(LISTENER, name))
  rig.respond(LISTENER, listeners('a', 'b', 'c'))
  rig.respond(LISTENER, listeners('a', 'c'))
  t.same(watcher.last.removed, ['b'])
  watcher.refuse = (name) => (name === 'a' ? 'no' : undefined)
  rig.respond(LISTENER, listeners('a'))
  t.same(watcher.last.removed, ['c'], 'one that is refused is there nevertheless')
  rig.respond(LISTENER, [])
  t.same(watcher.last.removed, ['a'])
  t.same(watcher.names, [])
})

t.test('other types are never removed by absence, and an empty answer of theirs is none', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(ROUTES, ['r', 's'])
  rig.connect()
  rig.respond(ROUTES, [resource(ROUTES, 'r'), resource(ROUTES, 's')])
  rig.take()
  rig.respond(ROUTES, [resource(ROUTES, 'r')], { version: '2' })
  rig.respond(ROUTES, [], { version: '3' })
  t.same([watcher.names, watcher.updates.length], [['r', 's'], 2])
  t.same(
    rig.take().map((request) => (request as { version: string }).version),
    ['2', '3'],
    'both are acknowledged',
  )
})

t.test(
  'a name that is in a response twice, an inner type that is another and a resource without a name are NACKed',
  async (t) => {
    const rig = new Rig('sotw')
    const watcher = rig.subscribe(CLUSTER, ['*'])
    rig.connect()
    rig.respond(CLUSTER, clusters('old'), { version: 'v1' })
    rig.take()
    rig.respond(CLUSTER, clusters('a', 'b', 'a'), { version: 'v2' })
    t.match(rig.whole(), { version: 'v1', error: '"a": is in the response twice' })
    t.same(watcher.names, ['a', 'b'])
    rig.respond(CLUSTER, [...clusters('c'), resource(LISTENER, 'l')], { version: 'v3' })
    t.match(rig.whole(), { version: 'v1', error: /resources\[1\] is of type .*Listener in a response for .*Cluster/ })
    t.same(watcher.names, ['a', 'b', 'c'], 'nothing is removed by a response that cannot be read whole')
    rig.respond(CLUSTER, [resource(CLUSTER, '')], { version: 'v4' })
    t.match(rig.whole(), { error: 'resources[0] has no name' })
    rig.respond(CLUSTER, [resource(CLUSTER, 'x', { bytes: new Uint8Array([0x0a, 0x7f, 1]) })], { version: 'v5' })
    t.match(rig.whole(), { error: 'resources[0] has no name' }, 'nor one whose bytes are nothing')
  },
)

t.test('resources that nobody asked for are passed over, without a NACK', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(ENDPOINTS, ['a'])
  rig.connect()
  rig.take()
  rig.respond(ENDPOINTS, endpoints('other', 'a', 'third'), { version: 'v1' })
  t.match(rig.whole(), { version: 'v1', error: undefined })
  t.same(watcher.names, ['a'])
  rig.respond(ENDPOINTS, endpoints('other'), { version: 'v2' })
  t.match(rig.whole(), { version: 'v2', error: undefined })
  t.equal(watcher.updates.length, 1)
})

t.test('what is sent again right after its refusal is refused later each time, and told once', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(CLUSTER, ['*'])
  rig.connect()
  rig.take()
  watcher.refuse = (name) => (name === 'bad' ? 'not good' : undefined)
  rig.respond(CLUSTER, clusters('bad'), { version: 'v1' })
  t.equal(rig.whole().error, '"bad": some.field: not good')
  for (const waitMs of [100, 200, 400, 800, 1600, 2000, 2000]) {
    const nonce = rig.respond(CLUSTER, clusters('bad'), { version: 'v1' })
    t.same(rig.take(), [])
    rig.clock.advance(waitMs - 1)
    t.same(rig.take(), [])
    rig.clock.advance(1)
    rig.turn()
    t.match(rig.whole(), { nonce, error: '"bad": some.field: not good' })
  }
  t.equal(rig.warnings.length, 1)

  const repeated = rig.respond(CLUSTER, clusters('bad'), { version: 'v1' })
  const good = rig.respond(CLUSTER, clusters('good'), { version: 'v2' })
  const [nack, ack] = rig.take()
  const meanwhile = 'what comes meanwhile does not wait, nor does the verdict before it'
  t.match(nack, { nonce: repeated, error: { message: /not good/ } }, meanwhile)
  t.match(ack, { nonce: good, version: 'v2', error: undefined })
  t.equal(rig.clock.pending, 0)
  rig.respond(CLUSTER, clusters('bad'), { version: 'v1' })
  t.equal(rig.take().length, 1, 'it is news again')
  rig.respond(CLUSTER, clusters('bad'), { version: 'v1' })
  t.same(rig.take(), [])
  rig.disconnect()
  t.equal(rig.clock.pending, 0)
  rig.connect()
  t.match(rig.take(), [{ nonce: '', version: 'v2', error: undefined }], 'no verdict is owed on another stream')
})

t.test('a type that nobody has subscribed to is not answered, and told once', async (t) => {
  const rig = new Rig('sotw')
  rig.subscribe(CLUSTER, ['*'])
  rig.connect()
  rig.take()
  rig.respond('some.unknown.Type', [])
  rig.respond('some.unknown.Type', [])
  t.same(rig.take(), [])
  t.equal(rig.warnings.length, 1)
})

t.test('a resource in its wrapper is taken out: name, version and time to live are those of the wrapper', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(ENDPOINTS, ['a', 'b'])
  rig.connect()
  const wrapped = { wrapped: true, version: 'of a', ttlMs: 5_000, name: 'a' }
  rig.respond(ENDPOINTS, [resource(ENDPOINTS, 'a', wrapped), resource(ENDPOINTS, 'b')], { version: 'v1' })
  t.same(
    [...watcher.state],
    [
      ['a', 'of a'],
      ['b', 'v1'],
    ],
  )
})

t.test('a resource lives as long as its time to live, and heartbeats keep it alive', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(CLUSTER, ['*'])
  rig.connect()
  const alive = { wrapped: true, name: 'a', ttlMs: 5_000 }
  rig.respond(CLUSTER, [resource(CLUSTER, 'a', alive), resource(CLUSTER, 'b')], { version: 'v1' })
  rig.clock.advance(4_000)
  rig.take()
  rig.respond(CLUSTER, [resource(CLUSTER, 'a', { ...alive, bytes: undefined, typeName: '' })], { version: 'v1' })
  t.match(rig.whole(), { version: 'v1', error: undefined }, 'a heartbeat is acknowledged')
  t.same(
    [watcher.updates.length, watcher.names],
    [1, ['a', 'b']],
    'is no update, and removes nothing that is not in it',
  )
  rig.clock.advance(4_000)
  t.same(watcher.names, ['a', 'b'])
  rig.clock.advance(1_000)
  t.same([watcher.last.removed, watcher.names], [['a'], ['b']])
  rig.respond(CLUSTER, [resource(CLUSTER, 'a', alive), resource(CLUSTER, 'b')], { version: 'v2' })
  rig.respond(CLUSTER, [resource(CLUSTER, 'a'), resource(CLUSTER, 'b')], { version: 'v3' })
  rig.clock.advance(60_000)
  t.same(watcher.names, ['a', 'b'], 'a copy without a time to live ends it')
  t.equal(rig.clock.pending, 0)
})

t.test('everything: an unsaid wildcard, a said one once there are names, and neither after both', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(CLUSTER, ['*'])
  rig.connect()
  t.same(rig.whole().names, [])
  watcher.sub.want(new Set(['*', 'on-demand']))
  rig.turn()
  t.same(rig.whole().names, ['*', 'on-demand'])
  watcher.sub.want(new Set(['*']))
  rig.turn()
  t.same(rig.whole().names, ['*'], 'an empty list would mean nothing now')
  watcher.sub.want(new Set())
  rig.turn()
  t.same(rig.whole().names, [])
  rig.disconnect()
  rig.connect()
  t.same(rig.take(), [], 'nothing is wanted, nothing is asked')
  t.same(rig.wanted, [true, false])
})

t.test('a name given up and wanted again in one turn comes anew', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(ENDPOINTS, ['a', 'b'])
  rig.connect()
  const nonce = rig.respond(ENDPOINTS, endpoints('a', 'b'), { version: 'v1' })
  rig.take()
  watcher.sub.want(new Set(['b']))
  watcher.sub.want(new Set(['a', 'b']))
  rig.turn()
  t.same(rig.whole(), { version: '', nonce, names: ['a', 'b'], ...NOT_REFUSED })
  watcher.sub.want(new Set(['a', 'b', 'c']))
  watcher.sub.want(new Set(['a', 'b']))
  rig.turn()
  t.same(rig.take(), [], 'what cancels out is not sent')
})

t.test('a second watcher of what is there already gets it too, and both get what comes', async (t) => {
  const rig = new Rig('sotw')
  const one = rig.subscribe(ENDPOINTS, ['a', 'b'])
  rig.connect()
  rig.respond(ENDPOINTS, endpoints('a', 'b'), { version: 'v1' })
  rig.take()
  const two = rig.subscribe(ENDPOINTS, ['b', 'c'])
  rig.turn()
  t.match(rig.whole(), { version: '', names: ['a', 'b', 'c'] })
  rig.respond(ENDPOINTS, endpoints('a', 'b', 'c'), { version: 'v1' })
  t.same(
    [one.names, two.names],
    [
      ['a', 'b'],
      ['b', 'c'],
    ],
  )
  rig.take()
  one.sub.close()
  rig.turn()
  t.same(rig.whole().names, ['b', 'c'])
  rig.respond(ENDPOINTS, endpoints('b'), { version: 'v2' })
  t.same([one.updates.length, two.updates.length], [2, 2], 'a closed one hears nothing')
})

t.test('while it is paused answers are taken, and one request with all changes follows', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(ENDPOINTS, ['a'])
  rig.connect()
  rig.respond(ENDPOINTS, endpoints('a'), { version: 'v1' })
  rig.take()
  watcher.sub.pause()
  watcher.sub.pause()
  watcher.sub.want(new Set(['a', 'b']))
  rig.turn()
  watcher.sub.want(new Set(['a', 'b', 'c']))
  rig.turn()
  const nonce = rig.respond(ENDPOINTS, endpoints('a'), { version: 'v2' })
  t.same([rig.take().length, watcher.updates.length], [0, 2])
  watcher.sub.resume()
  rig.turn()
  t.same(rig.whole(), { version: 'v2', nonce, names: ['a', 'b', 'c'], ...NOT_REFUSED })
})

t.test('what does not come in time is told once, of each name, from when it was asked for', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(ENDPOINTS, ['a', 'b'], { statPrefix: 'eds.' })
  const everything = rig.subscribe(CLUSTER, ['*'])
  const patient = rig.subscribe(ROUTES, ['r'], { initialFetchTimeoutMs: 0 })
  rig.connect()
  rig.respond(ENDPOINTS, endpoints('a'))
  rig.clock.advance(10_000)
  watcher.sub.want(new Set(['a', 'b', 'c']))
  rig.clock.advance(5_000)
  t.same([watcher.absent, everything.absent], [['b timeout'], ['* timeout']])
  rig.clock.advance(10_000)
  t.same(watcher.absent, ['b timeout', 'c timeout'])
  rig.clock.advance(600_000)
  t.same([watcher.absent.length, patient.absent], [2, []], 'once, and never where the timeout is 0')
  t.equal(rig.metrics.counter('eds.init_fetch_timeout').v, 2)
  rig.respond(ENDPOINTS, endpoints('b'))
  t.same(watcher.names, ['a', 'b'], 'it may come later')
  watcher.sub.want(new Set(['a', 'b']))
  watcher.sub.want(new Set(['a', 'b', 'c']))
  rig.clock.advance(15_000)
  t.equal(watcher.absent.length, 3, 'and asked for anew it is told anew')
})

t.test('time without a connection does not count, once there has been one', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(ENDPOINTS, ['a', 'b'])
  rig.connect()
  rig.respond(ENDPOINTS, endpoints('a'))
  rig.clock.advance(14_000)
  rig.disconnect()
  watcher.sub.want(new Set(['a', 'b', 'c']))
  rig.clock.advance(600_000)
  t.same(watcher.absent, [])
  rig.connect(false)
  rig.clock.advance(20_000)
  t.same(watcher.absent, [], 'a stream without a connection is none')
  rig.session.established()
  rig.clock.advance(14_999)
  t.same(watcher.absent, [], 'all get their whole time')
  rig.clock.advance(1)
  t.same(watcher.absent, ['b timeout', 'c timeout'])
})

t.test(
  'a control plane that is down at the start is waited for as long as the timeout says, or for ever with 0',
  async (t) => {
    const rig = new Rig('sotw')
    const impatient = rig.subscribe(CLUSTER, ['*'])
    const patient = rig.subscribe(LISTENER, ['*'], { initialFetchTimeoutMs: 0 })
    for (let i = 0; i < 14; i++) {
      rig.connect()
      rig.clock.advance(500)
      rig.disconnect()
      rig.clock.advance(500)
    }
    t.same(impatient.absent, [])
    rig.clock.advance(1_000)
    t.same([impatient.absent, patient.absent], [['* timeout'], []])
    rig.connect()
    rig.respond(CLUSTER, clusters('late'))
    t.same(impatient.names, ['late'])
  },
)

t.test('a resource error that says "not found" ends the wait, and takes nothing away', async (t) => {
  const rig = new Rig('sotw')
  const watcher = rig.subscribe(ENDPOINTS, ['a', 'b'])
  rig.connect()
  rig.respond(ENDPOINTS, endpoints('a'))
  const errors = ['a', 'b', 'c'].map((name) => ({ name, code: 5, message: 'not here' }))
  rig.respond(ENDPOINTS, [], { errors })
  t.same([watcher.absent, watcher.names], [['b does-not-exist'], ['a']])
  rig.respond(ENDPOINTS, [], { errors })
  t.equal(watcher.absent.length, 1, 'told once')
})

t.test('requests beyond the limit wait for tokens, and are counted', async (t) => {
  const rig = new Rig('sotw', { rateLimit: { maxTokens: 2, fillRate: 0.5 } })
  rig.subscribe(CLUSTER, ['*'])
  rig.subscribe(LISTENER, ['*'])
  rig.subscribe(ENDPOINTS, ['a'])
  rig.subscribe(ROUTES, ['r'])
  rig.connect()
  t.equal(rig.take().length, 2)
  t.same(
    [rig.metrics.gauge('control_plane.pending_requests').v, rig.metrics.counter('control_plane.rate_limit_enforced').v],
    [2, 1],
  )
  rig.clock.advance(2_000)
  t.equal(rig.take().length, 1, 'one in two seconds')
  rig.clock.advance(2_000)
  t.equal(rig.take().length, 1)
  t.equal(rig.metrics.gauge('control_plane.pending_requests').v, 0)
})

t.test('a stream that is full is not written to until it has drained', async (t) => {
  const rig = new Rig('sotw')
  rig.room = false
  rig.subscribe(CLUSTER, ['*'])
  rig.subscribe(LISTENER, ['*'])
  rig.connect()
  t.equal(rig.take().length, 1)
  rig.session.drained()
  t.equal(rig.take().length, 1)
})

t.test('a watcher that throws refuses what it was given, and nobody else suffers', async (t) => {
  const rig = new Rig('sotw')
  const bad = rig.subscribe(ENDPOINTS, ['a'])
  const good = rig.subscribe(ENDPOINTS, ['b'])
  rig.connect()
  rig.take()
  bad.onEach = () => {
    throw new Error('a bug')
  }
  rig.respond(ENDPOINTS, endpoints('a', 'b'))
  t.match(rig.whole(), { error: '"a": could not be taken over: a bug' })
  t.same(good.names, ['b'])
})

t.test('state and connection are told: connected_state, version, update_time', async (t) => {
  const rig = new Rig('sotw')
  rig.subscribe(CLUSTER, ['*'], { statPrefix: 'cluster_manager.cds.' })
  rig.subscribe(ENDPOINTS, ['a', 'b'], { statPrefix: (name) => `cluster.${name}.` })
  const connected = rig.metrics.gauge('control_plane.connected_state')
  rig.connect(false)
  t.equal(connected.v, 0)
  rig.session.established()
  t.equal(connected.v, 1)
  rig.respond(CLUSTER, clusters('a'), { version: 'v1' })
  rig.respond(ENDPOINTS, endpoints('a'), { version: 'v1' })
  t.ok(rig.metrics.gauge('cluster_manager.cds.version').v > 0)
  t.equal(rig.metrics.gauge('cluster_manager.cds.update_time').v, rig.clock.wall())
  t.same([rig.metrics.counter('cluster.a.update_success').v, rig.metrics.counter('cluster.b.update_success').v], [1, 0])
  rig.disconnect()
  t.equal(connected.v, 0)
  t.same(
    ['cluster_manager.cds.', 'cluster.a.', 'cluster.b.'].map(
      (prefix) => rig.metrics.counter(`${prefix}update_failure`).v,
    ),
    [1, 1, 1],
  )
})

t.test('nothing is left behind: no timer after all is closed', async (t) => {
  const rig = new Rig('sotw', { rateLimit: { maxTokens: 1, fillRate: 1 } })
  const watcher = rig.subscribe(ENDPOINTS, ['a', 'b'])
  rig.subscribe(CLUSTER, ['*'])
  rig.connect()
  rig.respond(ENDPOINTS, [resource(ENDPOINTS, 'a', { wrapped: true, name: 'a', ttlMs: 1_000 })])
  t.ok(rig.clock.pending > 0)
  rig.session.dispose()
  rig.turn()
  t.equal(rig.clock.pending, 0)
  rig.clock.advance(60_000)
  t.equal(watcher.absent.length, 0)
})
