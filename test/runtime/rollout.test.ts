import fc from 'fast-check'
import t from 'tap'
import {
  ChangeRefused,
  type ConfigChange,
  ConfigState,
  changeBetween,
  mergeChanges,
  type ResourceName,
} from '../../lib/config/change.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import { ConfigError } from '../../lib/core/errors.ts'
import type { Log } from '../../lib/core/metrics.ts'
import { DrainedListeners } from '../../lib/runtime/drained-listeners.ts'
import type { Engine } from '../../lib/runtime/engine.ts'
import { Feed, type FeedMessage, MAX_UNDER_WAY } from '../../lib/runtime/feed.ts'
import { Rollout } from '../../lib/runtime/rollout.ts'
import { takeStep } from '../../lib/runtime/step.ts'
import { WorkerConfig } from '../../lib/runtime/worker-config.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'

const EMPTY: GatewayConfig = {
  node: { id: '', cluster: '' },
  listeners: [],
  clusters: [],
  runtime: {},
  ignored: [],
}
const log: Log = { debug() {}, info() {}, warn() {}, error() {} }

const cluster = (name: string, version: number): ClusterConfig => ({ name, statName: `${version}` }) as ClusterConfig
const set = (...clusters: ClusterConfig[]): ConfigChange => ({ clusters: { set: clusters, remove: [] } })

/** What a state holds, whatever the order that it came in. */
function content(state: ConfigState): string {
  const { routeTables, assignments, secrets, ...rest } = state.config()
  const sorted = (list: readonly { name: string }[] = []): unknown =>
    [...list].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  return JSON.stringify({
    ...rest,
    runtime: Object.entries(rest.runtime).sort(([a], [b]) => (a < b ? -1 : 1)),
    listeners: sorted(rest.listeners),
    clusters: sorted(rest.clusters),
    routeTables: sorted(routeTables),
    assignments: sorted(assignments),
    secrets: sorted(secrets),
  })
}

const names = fc.constantFrom('a', 'b', 'c', '__proto__')
const part = fc.record({
  set: fc.uniqueArray(fc.record({ name: names, version: fc.nat(9) }), { selector: ({ name }) => name, maxLength: 3 }),
  remove: fc.uniqueArray(names, { maxLength: 2 }),
})
const change = fc.record(
  {
    listeners: part,
    clusters: part,
    routeTables: part,
    assignments: part,
    secrets: part,
    runtime: fc.dictionary(names, fc.nat(3)),
    maxConnections: fc.nat(2),
  },
  { requiredKeys: [] },
) as unknown as fc.Arbitrary<ConfigChange>

t.test('changes that are merged do what they do in turn', async () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 6 }), fc.array(change, { maxLength: 4 }), (before, changes) => {
      const [inTurn, merged] = [new ConfigState(EMPTY), new ConfigState(EMPTY)]
      for (const each of before) for (const state of [inTurn, merged]) state.apply(each)
      for (const each of changes) inTurn.apply(each)
      const sum = mergeChanges(...changes)
      merged.apply(sum)
      t.equal(content(merged), content(inTurn))
      for (const { set, remove } of [sum.clusters, sum.listeners].filter((each) => each !== undefined)) {
        t.notOk(set.some(({ name }) => remove.includes(name)))
      }
    }),
    { numRuns: 300 },
  )
})

t.test('the difference between two states makes one into the other', async () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 4 }), fc.array(change, { maxLength: 4 }), (first, second) => {
      const [a, b] = [new ConfigState(EMPTY), new ConfigState(EMPTY)]
      for (const each of first) a.apply(each)
      for (const each of second) b.apply(each)
      const difference = changeBetween(a, b.config())
      if (difference !== undefined) a.apply(difference)
      t.equal(content(a), content(b))
    }),
    { numRuns: 200 },
  )
})

t.test('a worker that does not keep up gets one change of many; endpoints pass it', async (t) => {
  const sent: FeedMessage[] = []
  const state = new ConfigState(EMPTY)
  const feed = new Feed((message) => sent.push(message))
  let id = 0
  const push = (next: ConfigChange): void => feed.push({ id: ++id, revision: `r${id}`, step: takeStep(state, next) })
  push(set(cluster('lost', 0)))
  t.strictSame(sent, [], 'nothing before it has a configuration')
  feed.offer({ kind: 'config', id: ++id, revision: 'r', config: EMPTY })
  for (let i = 0; i < 1000; i++) push(set(cluster(`c${i % 40}`, i)))
  t.equal(sent.length, MAX_UNDER_WAY, 'the configuration counts as one')
  const told: string[] = []
  feed.whenSent(() => told.push(`after ${sent.length}`))
  const endpoints = { assignments: { set: [{ name: 'c1', localities: [] }], remove: [] } } as unknown as ConfigChange
  push(endpoints)
  t.equal(sent.length, MAX_UNDER_WAY + 1)
  t.strictSame(told, [])
  t.ok(feed.owes(2) && feed.owes(id))
  t.equal(feed.answered(12345), undefined)
  t.match(feed.answered(sent[0].id), { kind: 'config' })
  t.equal(sent.length, MAX_UNDER_WAY + 2)
  const last = sent.at(-1) as FeedMessage & { kind: 'change' }
  t.equal(last.change.clusters?.set.length, 40)
  t.equal(last.revision, 'r1002', 'of the newest in it')
  t.equal(last.change.assignments, undefined)
  t.strictSame(told, [`after ${sent.length}`])
  for (const { id } of sent) feed.answered(id)
  t.notOk(feed.owes(id))
})

/** A worker whose engine answers when it is told to, and refuses resources by their version. */
class SlowWorker {
  readonly runs = new ConfigState(EMPTY)
  readonly config: WorkerConfig
  readonly #waiting: (() => void)[] = []
  readonly #queue: FeedMessage[] = []

  constructor(worker: number, rollout: Rollout, refuses: (resource: ResourceName, version: number) => boolean) {
    const inTurn = (work: () => void): Promise<void> =>
      new Promise((resolve, reject) => {
        this.#waiting.push(() => {
          try {
            work()
            resolve()
          } catch (error) {
            reject(error)
          }
        })
      })
    const engine = {
      apply: (config: GatewayConfig) =>
        inTurn(() => {
          const difference = changeBetween(this.runs, config)
          if (difference !== undefined) this.runs.apply(difference)
        }),
      update: (change: ConfigChange) =>
        inTurn(() => {
          for (const { name, statName } of change.clusters?.set ?? []) {
            const resource = { kind: 'clusters', name } as const
            if (refuses(resource, Number(statName))) throw new ChangeRefused([new ConfigError('', 'no')], resource)
          }
          this.runs.apply(change)
        }),
    } as unknown as Engine
    this.config = new WorkerConfig({
      engine,
      drained: new DrainedListeners(),
      log,
      mark: `${worker}`,
      applied: (id) => rollout.applied(worker, id),
      refused: (id, refusal) => rollout.refused(worker, id, refusal),
    })
    rollout.attach(worker, '', (message) => this.#queue.push(message))
  }

  /** One message arrives, or one is worked off. False where there is nothing to do. */
  async step(arrival: boolean): Promise<boolean> {
    const message = arrival ? this.#queue.shift() : undefined
    if (message !== undefined) this.config.take(message)
    else {
      const work = this.#waiting.shift()
      if (work === undefined) return this.#queue.length > 0
      work()
    }
    await new Promise(setImmediate)
    return true
  }
}

interface Told {
  readonly revoked: string[]
  readonly lost: number[]
}

function rolloutOf(told: Told): Rollout {
  const rollout: Rollout = new Rollout(
    { config: EMPTY },
    {
      run: 1,
      events: {
        applied() {},
        refusedWhole: (worker) => rollout.resend(worker),
        revoked: ({ kind, name }) => told.revoked.push(`${kind} ${name}`),
        lost: (worker) => {
          told.lost.push(worker)
          rollout.resend(worker)
        },
      },
    },
  )
  return rollout
}

async function settle(...workers: SlowWorker[]): Promise<void> {
  for (let busy = true; busy; ) {
    busy = false
    for (const worker of workers) {
      busy = (await worker.step(true)) || busy
      busy = (await worker.step(false)) || busy
    }
  }
}

t.test('however slow workers are and whatever they refuse, all end up with the same configuration', async (t) => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ change }),
      fc.record({ clusters: fc.array(fc.record({ name: names, version: fc.nat(9) }), { minLength: 1, maxLength: 3 }) }),
      fc.record({ worker: fc.nat(1), arrival: fc.boolean() }),
    ),
    { minLength: 10, maxLength: 120 },
  )
  await fc.assert(
    fc.asyncProperty(steps, async (all) => {
      const told: Told = { revoked: [], lost: [] }
      const rollout = rolloutOf(told)
      // The one refuses some versions, the other others.
      const workers = [
        new SlowWorker(0, rollout, (_, version) => version === 3),
        new SlowWorker(1, rollout, (_, version) => version === 4),
      ]
      for (const step of all) {
        if ('change' in step) rollout.publish(step.change)
        else if ('clusters' in step) rollout.publish(set(...step.clusters.map((c) => cluster(c.name, c.version))))
        else await workers[step.worker].step(step.arrival)
      }
      await settle(...workers)
      for (const { runs, config } of workers) {
        t.equal(content(runs), content(rollout.state))
        t.equal(content(new ConfigState(config.config() as GatewayConfig)), content(rollout.state))
      }
      t.notOk(rollout.owes(rollout.at))
      const bad = [...rollout.state.clusters.values()].filter(({ statName }) => statName === '3' || statName === '4')
      // Each of two workers may refuse what the other would go back to: they are at odds, and get the whole again.
      if (told.lost.length === 0) t.strictSame(bad, [])
    }),
    { numRuns: 60 },
  )
})

t.test('a resource goes back to its last good version; one that cannot go back is a lost worker', async (t) => {
  const told: Told = { revoked: [], lost: [] }
  const rollout = rolloutOf(told)
  let refused: readonly number[] = [2]
  const first = new SlowWorker(0, rollout, (_, version) => refused.includes(version))
  const second = new SlowWorker(1, rollout, () => false)
  rollout.publish(set(cluster('a', 1)))
  await settle(first, second)
  rollout.publish(set(cluster('a', 2), cluster('b', 1)))
  await settle(first, second)
  t.strictSame(told, { revoked: ['clusters a'], lost: [] })
  for (const { runs } of [first, second]) {
    t.strictSame([...runs.clusters.values()], [cluster('a', 1), cluster('b', 1)])
  }
  t.equal(second.config.revision, rollout.revision)
  t.equal(first.config.revision, `${rollout.revision}~0`, 'not the same as the others, to a control process after this')
  refused = [1, 7]
  rollout.publish(set(cluster('a', 7)))
  await settle(first, second)
  t.strictSame(told, { revoked: ['clusters a', 'clusters a'], lost: [0] }, 'it gets the whole again')
  t.strictSame(first.runs.clusters.get('a'), cluster('a', 1))
  t.equal(first.config.revision, rollout.revision)
})

t.test('what a worker refuses that could not take the whole is not taken from the others', async (t) => {
  const told: Told = { revoked: [], lost: [] }
  const refusals: number[] = []
  const rollout: Rollout = new Rollout(
    { config: EMPTY },
    {
      run: 1,
      events: {
        applied() {},
        // Sent again after a while, as control does.
        refusedWhole: (worker) => refusals.push(worker),
        revoked: ({ kind, name }) => told.revoked.push(`${kind} ${name}`),
        lost: (worker) => told.lost.push(worker),
      },
    },
  )
  const sent: FeedMessage[][] = [[], []]
  for (const worker of [0, 1]) rollout.attach(worker, '', (message) => void sent[worker].push(message))
  rollout.applied(0, sent[0][0].id)
  rollout.publish(set(cluster('a', 1)))
  const errors = [new ConfigError('', 'no')]
  rollout.refused(1, sent[1][0].id, { errors, resource: undefined })
  t.strictSame(refusals, [1])
  rollout.refused(1, sent[1][1].id, { errors, resource: undefined })
  rollout.publish(set(cluster('b', 1)))
  const later = sent[1][2]
  rollout.refused(1, later.id, { errors, resource: { kind: 'clusters', name: 'b' } })
  t.strictSame(told, { revoked: [], lost: [] })
  t.strictSame([...rollout.state.clusters.keys()], ['a', 'b'])
  for (const { id } of sent[0].slice(1)) rollout.applied(0, id)
  t.ok(rollout.owes(rollout.at), 'it still needs the whole')
  rollout.resend(1)
  rollout.applied(1, (sent[1].at(-1) as FeedMessage).id)
  t.notOk(rollout.owes(rollout.at))
  rollout.publish(set(cluster('c', 1)))
  rollout.refused(1, (sent[1].at(-1) as FeedMessage).id, { errors, resource: undefined })
  t.strictSame(told.revoked, ['clusters c'], 'from then on its word counts again')
})

t.test('what a worker refuses of an earlier control process is not taken for what it runs', async (t) => {
  const lost: number[] = []
  const events = { applied() {}, refusedWhole() {}, revoked() {}, lost: (worker: number) => void lost.push(worker) }
  const first = new Rollout({ config: EMPTY }, { run: 1, events })
  const sent: FeedMessage[] = []
  first.attach(0, '', (message) => void sent.push(message))
  first.applied(0, sent[0].id)
  first.publish(set(cluster('a', 1)))
  const second = new Rollout({ config: first.config, revision: first.revision }, { run: 2, events })
  t.ok(
    second.attach(0, first.revision, () => {}),
    'it says so as long as it has not come to it',
  )
  second.refused(0, sent[1].id, { errors: [new ConfigError('', 'no')], resource: undefined })
  t.strictSame(lost, [0])
  second.refused(0, second.at + 1, { errors: [], resource: undefined })
  t.strictSame(lost, [0])
})

t.test('whoever waits until a worker has been sent everything is told, also when the worker goes', async (t) => {
  const rollout = rolloutOf({ revoked: [], lost: [] })
  const told: string[] = []
  rollout.attach(0, '', () => {})
  for (let i = 0; i < 2 * MAX_UNDER_WAY; i++) rollout.publish(set(cluster('a', i)))
  rollout.whenSent(0, () => told.push('under way'))
  t.strictSame(told, [])
  rollout.detach(0)
  t.strictSame(told, ['under way'])
  rollout.whenSent(0, () => told.push('gone'))
  t.strictSame(told, ['under way', 'gone'])
})

t.test('where nothing in particular is to blame all of a change is taken back', async (t) => {
  const told: Told = { revoked: [], lost: [] }
  const rollout = rolloutOf(told)
  const worker = new SlowWorker(0, rollout, () => false)
  rollout.publish(set(cluster('a', 1)))
  await settle(worker)
  rollout.publish({ clusters: { set: [cluster('b', 1)], remove: ['a'] } })
  rollout.publish(set(cluster('c', 1)))
  rollout.refused(0, rollout.at - 1, { errors: [], resource: undefined })
  await settle(worker)
  t.strictSame([...rollout.state.clusters.keys()].sort(), ['a', 'c'])
  t.equal(content(worker.runs), content(rollout.state))
  t.strictSame(told, { revoked: ['clusters a', 'clusters b'], lost: [] })
})

t.test(
  'very many endpoints are taken over in pieces, what comes behind them waits, and a refusal takes all back',
  async (t) => {
    const told: unknown[] = []
    const updates: string[] = []
    let turns = 0
    let refuses = false
    const engine = {
      update: async (change: ConfigChange) => {
        const { assignments, clusters } = change
        updates.push(`${assignments?.set.length ?? 0}+${clusters?.set.length ?? 0} in turn ${turns}`)
        if (refuses && clusters !== undefined) throw new ChangeRefused([new ConfigError('', 'no')], undefined)
      },
    } as unknown as Engine
    const config = new WorkerConfig({
      engine,
      drained: new DrainedListeners(),
      log,
      mark: 'x',
      applied: (id) => void told.push(id),
      refused: (id) => void told.push(`refused ${id}`),
    })
    config.resume(EMPTY, 'a')
    const counting = setInterval(() => {}, 1000)
    const count = (): void => {
      turns++
      if (turns < 20) setImmediate(count)
    }
    setImmediate(count)
    const many = (weight: number): ConfigChange['assignments'] => ({
      set: Array.from({ length: 1_200 }, (_, i) => ({
        name: `c${i}`,
        localities: [],
        policy: { overprovisioningFactor: weight },
      })),
      remove: [],
    })
    const whole: ConfigChange = { assignments: many(1), clusters: { set: [cluster('c0', 1)], remove: [] } }
    const small: ConfigChange = { assignments: { set: [{ name: 'c1', localities: [] }], remove: [] } }
    config.take({ kind: 'change', id: 1, revision: 'b', change: whole })
    config.take({ kind: 'change', id: 2, revision: 'c', change: small })
    t.equal(config.revision, 'a', 'it does not run yet')
    await config.idle()
    t.strictSame(updates, ['500+0 in turn 0', '500+0 in turn 1', '200+0 in turn 2', '0+1 in turn 3', '1+0 in turn 3'])
    t.strictSame(told, [1, 2])
    t.equal(config.revision, 'c')
    const before = JSON.stringify(config.config())
    refuses = true
    config.take({ kind: 'change', id: 3, revision: 'd', change: { ...whole, assignments: many(2) } })
    await config.idle()
    t.strictSame(told, [1, 2, 'refused 3'])
    t.equal(JSON.stringify(config.config()), before)
    clearInterval(counting)
  },
)
