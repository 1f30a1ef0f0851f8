import t from 'tap'
import type { DeltaRequest, WireResource } from '../../xds-client/protocol/messages.ts'
import { seeded } from '../support/random.ts'
import { CLUSTER, ENDPOINTS, LISTENER, Rig, resource, VIRTUAL_HOST, versioned, type Watcher } from './protocol-rig.ts'

const endpoints = (versions: Record<string, string>): WireResource[] =>
  Object.entries(versions).map(([name, version]) => versioned(ENDPOINTS, name, version))
const QUIET = { nonce: '', subscribe: [], unsubscribe: [], versions: {}, error: undefined }

t.test('the first message subscribes to all that is wanted; answers are acknowledged by their nonce', async (t) => {
  const rig = new Rig('delta')
  const watcher = rig.subscribe(ENDPOINTS, ['a', 'b'])
  rig.connect()
  t.equal((rig.sent[0] as DeltaRequest).node, true)
  t.same(rig.delta(), { ...QUIET, subscribe: ['a', 'b'] })
  const nonce = rig.respond(ENDPOINTS, endpoints({ a: '1', b: '2' }), { version: 'system' })
  t.same(rig.delta(), { ...QUIET, nonce })
  t.same(
    [...watcher.state],
    [
      ['a', '1'],
      ['b', '2'],
    ],
  )
  t.equal(watcher.last.version, 'system')
  rig.respond(ENDPOINTS, endpoints({ b: '3' }))
  t.same(
    [...watcher.state],
    [
      ['a', '1'],
      ['b', '3'],
    ],
  )
})

t.test(
  'everything is asked for by saying nothing; names come on top of it, and the star goes when it is no more wanted',
  async (t) => {
    const rig = new Rig('delta')
    const watcher = rig.subscribe(CLUSTER, ['*'])
    rig.connect()
    t.same(rig.delta(), QUIET)
    rig.respond(CLUSTER, [versioned(CLUSTER, 'a', '1')])
    rig.take()
    watcher.sub.want(new Set(['*', 'on-demand']))
    rig.turn()
    t.same(rig.delta(), { ...QUIET, subscribe: ['on-demand'] })
    watcher.sub.want(new Set(['on-demand']))
    rig.turn()
    t.same(rig.delta(), { ...QUIET, unsubscribe: ['*'] })
    rig.disconnect()
    watcher.sub.want(new Set(['*', 'on-demand']))
    rig.connect()
    t.same(rig.delta(), { ...QUIET, subscribe: ['*', 'on-demand'] })
  },
)

t.test('only what has changed is said, and nothing where wishes cancel out', async (t) => {
  const rig = new Rig('delta')
  const watcher = rig.subscribe(ENDPOINTS, ['a', 'b', 'c'])
  rig.connect()
  rig.take()
  watcher.sub.want(new Set(['b', 'c', 'd']))
  rig.turn()
  t.same(rig.delta(), { ...QUIET, subscribe: ['d'], unsubscribe: ['a'] })
  watcher.sub.want(new Set(['b', 'c', 'd', 'e']))
  watcher.sub.want(new Set(['b', 'c', 'd']))
  rig.turn()
  t.same(rig.take(), [])
})

t.test(
  'what is given up and wanted again in one turn is both unsubscribed and subscribed, and comes anew',
  async (t) => {
    const rig = new Rig('delta')
    const watcher = rig.subscribe(ENDPOINTS, ['a', 'b'])
    rig.connect()
    rig.respond(ENDPOINTS, endpoints({ a: '1', b: '1' }))
    rig.take()
    watcher.sub.want(new Set(['b']))
    watcher.sub.want(new Set(['a', 'b']))
    rig.turn()
    t.same(
      rig.take().map((request) => [(request as DeltaRequest).unsubscribe, (request as DeltaRequest).subscribe]),
      [
        [['a'], []],
        [[], ['a']],
      ],
      'in two messages: of one some servers would take the unsubscription alone',
    )
    const updates = watcher.updates.length
    rig.respond(ENDPOINTS, endpoints({ a: '1' }))
    t.equal(watcher.updates.length, updates + 1)
  },
)

t.test(
  'after a reconnect the server learns what is there, refused versions left out, and resends nothing of it',
  async (t) => {
    const rig = new Rig('delta')
    const watcher = rig.subscribe(ENDPOINTS, ['a', 'b', 'c'])
    watcher.refuse = (name, version) => (name === 'b' && version === '2' ? 'no' : undefined)
    rig.connect()
    rig.respond(ENDPOINTS, endpoints({ a: '1', b: '1' }))
    rig.respond(ENDPOINTS, endpoints({ a: '2', b: '2' }))
    rig.take()
    rig.disconnect()
    rig.connect()
    t.same(rig.delta(), { ...QUIET, subscribe: ['a', 'b', 'c'], versions: { a: '2', b: '1' } })
    t.same(watcher.names, ['a', 'b'])
    rig.disconnect()
    watcher.sub.want(new Set(['b', 'c']))
    rig.connect()
    t.same(
      rig.delta(),
      { ...QUIET, subscribe: ['b', 'c'], versions: { b: '1' } },
      'what is wanted no more is not there',
    )
  },
)

t.test('versions from a state directory are claimed on the first stream', async (t) => {
  const rig = new Rig('delta')
  const held = new Map([
    ['a', '7'],
    ['gone', '3'],
  ])
  const watcher = rig.subscribe(CLUSTER, ['*'], { held })
  rig.connect()
  t.same(rig.delta(), { ...QUIET, versions: { a: '7', gone: '3' } })
  rig.respond(CLUSTER, [versioned(CLUSTER, 'b', '1')], { removed: ['gone'] })
  t.same([watcher.last.removed, watcher.last.resources.map(({ name }) => name)], [['gone'], ['b']])
})

t.test('a NACK has all reasons, what was good is in use, and each response has a verdict of its own', async (t) => {
  const rig = new Rig('delta')
  const watcher = rig.subscribe(ENDPOINTS, ['a', 'b'])
  rig.connect()
  rig.take()
  watcher.refuse = (name) => (name === 'b' ? 'no' : undefined)
  const nonce = rig.respond(ENDPOINTS, endpoints({ a: '1', b: '1' }))
  t.same(rig.delta(), { ...QUIET, nonce, error: '"b": some.field: no' })
  t.same(watcher.names, ['a'])
  for (const name of ['x', 'y']) {
    rig.session.received({
      version: '',
      typeName: ENDPOINTS,
      nonce: name,
      resources: [],
      removed: [],
      errors: [],
      controlPlane: '',
    })
  }
  watcher.sub.want(new Set(['a', 'b', 'c']))
  rig.turn()
  t.same(
    rig.take().map((request) => [request.nonce, (request as DeltaRequest).subscribe]),
    [
      ['x', []],
      ['y', []],
      ['', ['c']],
    ],
    'subscriptions travel without a nonce: a server that finds it stale would drop them',
  )
})

t.test('removed resources go; what was never there does not exist; names of both kinds of list count', async (t) => {
  const rig = new Rig('delta')
  const watcher = rig.subscribe(ENDPOINTS, ['a', 'b'])
  rig.connect()
  rig.respond(ENDPOINTS, endpoints({ a: '1' }), { removed: ['b', 'unheard-of'] })
  t.same([watcher.names, watcher.absent], [['a'], ['b does-not-exist']])
  rig.respond(ENDPOINTS, [], { removed: ['a', 'b'] })
  t.same([watcher.names, watcher.last.removed, watcher.absent.length], [[], ['a'], 1])
  rig.clock.advance(60_000)
  t.equal(watcher.absent.length, 1, 'nothing is waited for that the server has spoken of')
  rig.respond(ENDPOINTS, endpoints({ b: '1' }))
  t.same(watcher.names, ['b'])
  rig.respond(ENDPOINTS, [], { removed: ['b'] })
  rig.respond(ENDPOINTS, [], { errors: [{ name: 'a', code: 5, message: 'nowhere' }] })
  t.same(watcher.absent, ['b does-not-exist', 'a does-not-exist'], 'an error that says so, as well')
})

t.test(
  'a resource that is in a response twice, of another type, or nameless is NACKed; the first one counts',
  async (t) => {
    const rig = new Rig('delta')
    const watcher = rig.subscribe(CLUSTER, ['*'])
    rig.connect()
    rig.take()
    rig.respond(CLUSTER, [versioned(CLUSTER, 'a', '1'), versioned(CLUSTER, 'a', '2')])
    t.match(rig.delta(), { error: '"a": is in the response twice' })
    t.same([...watcher.state], [['a', '1']])
    rig.respond(CLUSTER, [versioned(LISTENER, 'l', '1'), versioned(CLUSTER, 'b', '1')])
    t.match(rig.delta(), { error: /"l": resources\[0\] is of type .*Listener/ })
    t.same(watcher.names, ['a', 'b'])
    rig.respond(CLUSTER, [resource(CLUSTER, '', { wrapped: true })])
    t.match(rig.delta(), { error: 'resources[0] has no name' })
    rig.respond(CLUSTER, [versioned(CLUSTER, 'a', '3')], { removed: ['a'] })
    t.same(watcher.names, ['a', 'b'], 'what is both removed and there is there')
  },
)

t.test('heartbeats keep a resource alive and are no update; without them it is removed, and not claimed', async (t) => {
  const rig = new Rig('delta')
  const watcher = rig.subscribe(ENDPOINTS, ['a', 'b'])
  rig.connect()
  rig.respond(ENDPOINTS, [versioned(ENDPOINTS, 'a', '1', { ttlMs: 3_000 }), versioned(ENDPOINTS, 'b', '1')])
  const beat = versioned(ENDPOINTS, 'a', '1', { ttlMs: 3_000, bytes: undefined, typeName: '' })
  rig.clock.advance(2_000)
  rig.take()
  const nonce = rig.respond(ENDPOINTS, [beat])
  t.same(rig.delta(), { ...QUIET, nonce })
  t.equal(watcher.updates.length, 1)
  rig.clock.advance(2_000)
  rig.respond(ENDPOINTS, [{ ...beat, version: 'another' }])
  t.same(watcher.names, ['a', 'b'])
  rig.clock.advance(1_000)
  t.same([watcher.names, watcher.last.removed], [['b'], ['a']], 'a heartbeat of another version keeps nothing alive')
  rig.take()
  rig.disconnect()
  rig.connect()
  t.same(rig.delta().versions, { b: '1' })
})

t.test('virtual hosts on demand answer to their aliases, and an empty one means that there is none', async (t) => {
  const rig = new Rig('delta')
  const watcher = rig.subscribe(VIRTUAL_HOST, ['r/a.example', 'r/b.example'])
  rig.connect()
  rig.take()
  const host = versioned(VIRTUAL_HOST, 'r/vhost', '1', { aliases: ['r/a.example', 'r/c.example'] })
  rig.respond(VIRTUAL_HOST, [host, versioned(VIRTUAL_HOST, 'r/other', '1', { aliases: ['r/z.example'] })])
  t.same([watcher.names, watcher.last.resources[0].aliases], [['r/vhost'], ['r/a.example', 'r/c.example']])
  const none = versioned(VIRTUAL_HOST, 'r/b.example', '1', { bytes: undefined, typeName: '', aliases: ['r/b.example'] })
  rig.respond(VIRTUAL_HOST, [none])
  t.same(watcher.absent, ['r/b.example does-not-exist'])
  rig.take()
  rig.disconnect()
  rig.connect()
  t.same(rig.delta().versions, { 'r/vhost': '1' }, 'it is claimed by its own name')
  watcher.sub.want(new Set(['r/b.example']))
  rig.turn()
  rig.take()
  rig.disconnect()
  rig.connect()
  t.same(rig.delta().versions, {}, 'and forgotten with its last alias')
})

t.test(
  'names of the form xdstp are one name however their context is ordered, and collections are asked for as a whole',
  async (t) => {
    const rig = new Rig('delta')
    const type = 'envoy.config.endpoint.v3.ClusterLoadAssignment'
    const watcher = rig.subscribe(ENDPOINTS, [`xdstp://auth/${type}/one?b=2&a=1`, `xdstp://auth/${type}/all/*?x=1`])
    rig.connect()
    t.same(rig.delta().subscribe, [`xdstp://auth/${type}/all/*?x=1`, `xdstp://auth/${type}/one?a=1&b=2`])
    const names = ['one?a=1&b=2', 'all/m?x=1', 'all/m', 'all/deep/n?x=1', 'two'].map(
      (id) => `xdstp://auth/${type}/${id}`,
    )
    rig.respond(
      ENDPOINTS,
      names.map((name) => versioned(ENDPOINTS, name, '1')),
    )
    t.same(watcher.names, [names[1], names[0]].sort())
    rig.respond(ENDPOINTS, [], { removed: [names[1]] })
    t.same(watcher.names, [names[0]])
  },
)

t.test(
  'a member of the wildcard that is unsubscribed by name stays, as long as the server says nothing else',
  async (t) => {
    const rig = new Rig('delta')
    const watcher = rig.subscribe(CLUSTER, ['*', 'a'])
    rig.connect()
    rig.respond(CLUSTER, [versioned(CLUSTER, 'a', '1'), versioned(CLUSTER, 'b', '1')])
    rig.take()
    watcher.sub.want(new Set(['*']))
    rig.turn()
    t.same(rig.delta(), { ...QUIET, unsubscribe: ['a'] })
    rig.disconnect()
    rig.connect()
    t.same(rig.delta().versions, { a: '1', b: '1' })
    rig.respond(CLUSTER, [], { removed: ['a'] })
    t.same(watcher.names, ['b'])
  },
)

t.test('a pause holds subscriptions and verdicts, not answers', async (t) => {
  const rig = new Rig('delta')
  const watcher = rig.subscribe(ENDPOINTS, ['a'])
  rig.connect()
  rig.take()
  watcher.sub.pause()
  watcher.sub.want(new Set(['a', 'b']))
  rig.turn()
  watcher.sub.want(new Set(['a', 'b', 'c']))
  const nonce = rig.respond(ENDPOINTS, endpoints({ a: '1' }))
  t.same([rig.take(), watcher.names], [[], ['a']])
  watcher.sub.resume()
  rig.turn()
  const said = rig.take().map((request) => [request.nonce, [...(request as DeltaRequest).subscribe].sort()])
  t.same(said, [
    [nonce, []],
    ['', ['b', 'c']],
  ])
})

// --- random wishes, answers, losses ---------------------------------------------------------------------------------------

/** A server of the incremental protocol with a wire of its own: what is under way arrives when the test says so. */
class ModelServer {
  readonly resources = new Map<string, string>()
  readonly #rig: Rig
  readonly #names = new Set<string>()
  #wildcard = false
  #first = true
  #nonce = 0
  readonly #sent = new Map<string, string>()
  readonly #asked = new Set<string>()
  /** Answers under way. */
  readonly answers: { resources: WireResource[]; removed: string[]; nonce: string }[] = []
  readonly unanswered = new Set<string>()

  constructor(rig: Rig) {
    this.#rig = rig
  }

  newStream(): void {
    this.#names.clear()
    this.#wildcard = false
    this.#first = true
    this.#sent.clear()
    this.#asked.clear()
    this.answers.length = 0
    this.unanswered.clear()
  }

  /** Takes the oldest request in. */
  hear(): boolean {
    const request = this.#rig.sent.shift() as DeltaRequest | undefined
    if (request === undefined) return false
    if (request.nonce !== '') {
      if (!this.unanswered.delete(request.nonce)) throw new Error(`a second verdict on ${request.nonce}`)
      if (request.subscribe.length + request.unsubscribe.length > 0) throw new Error('a verdict with subscriptions')
      return true
    }
    const { subscribe, unsubscribe, initialVersions } = request
    if (this.#first) {
      for (const [name, version] of initialVersions) this.#sent.set(name, version)
      if (subscribe.length === 0 && unsubscribe.length === 0) this.#wildcard = true
    }
    for (const name of unsubscribe) {
      if (name === '*') this.#wildcard = false
      else if (!this.#names.delete(name)) throw new Error(`${name} was not subscribed to`)
      else if (this.#wildcard) this.#sent.set(name, '')
      else this.#sent.delete(name)
    }
    for (const name of subscribe) {
      if (name === '*') this.#wildcard = true
      else {
        if (!this.#first) this.#sent.delete(name)
        this.#names.add(name)
        this.#asked.add(name)
      }
    }
    this.#first = false
    return true
  }

  /** Says what differs. */
  speak(): void {
    if (this.#first) return
    const resources: WireResource[] = []
    const removed: string[] = []
    for (const [name, version] of this.resources) {
      if (!(this.#wildcard || this.#names.has(name)) || this.#sent.get(name) === version) continue
      resources.push(versioned(ENDPOINTS, name, version))
      this.#sent.set(name, version)
      this.#asked.delete(name)
    }
    for (const name of this.#sent.keys()) if (!this.resources.has(name)) removed.push(name)
    for (const name of this.#asked) if (!this.resources.has(name) && !removed.includes(name)) removed.push(name)
    for (const name of removed) this.#sent.delete(name)
    this.#asked.clear()
    if (resources.length + removed.length === 0) return
    const nonce = `m${++this.#nonce}`
    this.unanswered.add(nonce)
    this.answers.push({ resources, removed, nonce })
  }

  deliver(): boolean {
    const answer = this.answers.shift()
    if (answer === undefined) return false
    this.#rig.respond(ENDPOINTS, answer.resources, answer)
    return true
  }
}

function expected(server: ModelServer, wanted: ReadonlySet<string>): [string, string][] {
  const all = [...server.resources].filter(([name]) => wanted.has('*') || wanted.has(name))
  return all.sort(([a], [b]) => (a < b ? -1 : 1))
}

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f']

/** One random life; answers what it came to and what it should have. */
function live(seed: number): { got: [string, string][]; want: [string, string][]; unanswered: number } {
  const random = seeded(seed)
  const below = (n: number): number => random.below(n)
  // A wildcard is there for good or not at all: whoever takes one back while an answer is on its way may keep what the server
  // has forgotten, which the protocol has no word for.
  const star = below(3) === 0
  const rig = new Rig('delta')
  const server = new ModelServer(rig)
  const watcher: Watcher & { sub: { want(names: ReadonlySet<string>): void } } = rig.subscribe(ENDPOINTS, [])
  let wanted: ReadonlySet<string> = new Set()
  let version = 0
  // What nobody wants any more its watcher forgets, as its contract says.
  const want = (names: ReadonlySet<string>): void => {
    for (const name of watcher.state.keys()) if (!names.has('*') && !names.has(name)) watcher.state.delete(name)
    wanted = names
    watcher.sub.want(names)
  }
  rig.connect()
  for (let step = 0; step < 120; step++) {
    const what = below(10)
    if (what < 3) {
      const names = new Set(NAMES.filter(() => below(2) === 0))
      if (star) names.add('*')
      want(names)
    } else if (what === 3) rig.turn()
    else if (what === 4) server.resources.set(NAMES[below(6)], String(++version))
    else if (what === 5) server.resources.delete(NAMES[below(6)])
    else if (what === 6) server.hear()
    else if (what === 7) server.speak()
    else if (what === 8) server.deliver()
    else if (below(4) === 0) {
      rig.disconnect()
      rig.take()
      server.newStream()
      rig.connect()
    }
  }
  rig.turn()
  let rounds = 0
  for (let busy = true; busy; ) {
    if (++rounds > 100) throw new Error(`no end of it with seed ${seed}: ${JSON.stringify(rig.sent.slice(-3))}`)
    busy = false
    while (server.hear()) busy = true
    server.speak()
    while (server.deliver()) busy = true
  }
  const got = [...watcher.state].sort(([a], [b]) => (a < b ? -1 : 1))
  return { got, want: expected(server, wanted), unanswered: server.unanswered.size }
}

t.test('whatever is wanted, answered and lost in whatever order, in the end client and server agree', async (t) => {
  const wrong: unknown[] = []
  for (let seed = 1; seed <= 1_500; seed++) {
    const { got, want, unanswered } = live(seed)
    if (JSON.stringify(got) !== JSON.stringify(want) || unanswered > 0) wrong.push({ seed, got, want, unanswered })
  }
  t.same(wrong.slice(0, 3), [])
})
