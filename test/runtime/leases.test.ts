import t, { type Test } from 'tap'
import type { SlotBudget, SlotLease, TokenLease } from '../../lib/core/lease.ts'
import { LocalLeases } from '../../lib/core/local-leases.ts'
import { LeaseLedger } from '../../lib/runtime/lease-ledger.ts'
import { equalShare, type LeaseGrants, type LeaseNotes } from '../../lib/runtime/lease-notes.ts'
import { WorkerLeases } from '../../lib/runtime/worker-leases.ts'
import { settle, TestClock } from '../support/clock.ts'
import { seeded } from '../support/random.ts'

/** A gateway without its processes: messages lie in queues until they are delivered. */
class Gateway {
  readonly clock = new TestClock()
  readonly seats: number
  readonly workers = new Map<number, WorkerLeases>()
  readonly toControl: { readonly worker: number; readonly notes: LeaseNotes }[] = []
  readonly toWorkers: { readonly worker: number; readonly grants: LeaseGrants | 'greet'; readonly run: number }[] = []
  readonly deferred: { readonly worker: number; readonly run: () => void }[] = []
  messages = 0
  ledger: LeaseLedger | undefined
  #run = 0
  #last = -1

  constructor(seats: number) {
    this.seats = seats
    this.startControl(false)
    for (let i = 0; i < seats; i++) this.startWorker()
    this.settle()
  }

  startControl(restarted: boolean): void {
    const run = ++this.#run
    this.ledger = new LeaseLedger({
      clock: this.clock,
      seats: this.seats,
      restarted,
      send: (worker, grants) => void this.toWorkers.push({ worker, grants: structuredClone(grants), run }),
    })
    for (const worker of this.workers.keys()) this.#introduce(worker)
  }

  #introduce(worker: number): void {
    this.ledger?.up(worker)
    this.toWorkers.push({ worker, grants: 'greet', run: this.#run })
  }

  killControl(): void {
    this.ledger = undefined
    this.#run++
    this.toControl.length = 0
    for (const leases of this.workers.values()) leases.controlGone()
  }

  startWorker(): number {
    const worker = ++this.#last
    const leases = new WorkerLeases({
      clock: this.clock,
      seats: this.seats,
      send: (notes) => void this.toControl.push({ worker, notes: structuredClone(notes) }),
      defer: (run) => void this.deferred.push({ worker, run }),
    })
    this.workers.set(worker, leases)
    if (this.ledger !== undefined) this.#introduce(worker)
    return worker
  }

  killWorker(worker: number): void {
    this.workers.delete(worker)
    const left = this.toControl.filter((message) => message.worker !== worker)
    this.toControl.splice(0, this.toControl.length, ...left)
    this.ledger?.down(worker)
  }

  /** One thing happens; false: there is nothing to happen. `at`: of all that could. */
  step(at = 0): boolean {
    const total = this.deferred.length + this.toControl.length + this.toWorkers.length
    if (total === 0) return false
    let n = at % total
    if (n < this.deferred.length) {
      const [{ worker, run }] = this.deferred.splice(n, 1)
      if (this.workers.has(worker)) run()
      return true
    }
    n -= this.deferred.length
    this.messages++
    // In order, as channels are.
    if (n < this.toControl.length) {
      const first = this.toControl.findIndex(({ worker }) => worker === this.toControl[n].worker)
      const [{ worker, notes }] = this.toControl.splice(first, 1)
      this.ledger?.receive(worker, notes)
      return true
    }
    n -= this.toControl.length
    const first = this.toWorkers.findIndex(({ worker }) => worker === this.toWorkers[n].worker)
    const [{ worker, grants }] = this.toWorkers.splice(first, 1)
    const leases = this.workers.get(worker)
    if (grants === 'greet') leases?.greeted()
    else leases?.receive(grants)
    return true
  }

  settle(): void {
    for (let i = 0; this.step(); i++) if (i > 100_000) throw new Error('messages without end')
  }

  of(worker: number): WorkerLeases {
    const leases = this.workers.get(worker)
    if (leases === undefined) throw new Error(`no worker ${worker}`)
    return leases
  }

  slots(key: string, limit: number): SlotLease[] {
    return [...this.workers.values()].map((leases) => leases.slots(key, limit))
  }

  tokens(maxTokens: number, tokensPerFill: number, fillIntervalMs: number): TokenLease[] {
    const bucket = { maxTokens, tokensPerFill, fillIntervalMs }
    return [...this.workers.values()].map((leases) => leases.tokens('bucket', bucket))
  }
}

/** What it resolves to by now, however many messages that takes. */
async function taken(gateway: Gateway, result: boolean | Promise<boolean>): Promise<boolean> {
  if (typeof result === 'boolean') return result
  let value: boolean | undefined
  void result.then((answer) => {
    value = answer
  })
  for (let i = 0; value === undefined && i < 50; i++) {
    gateway.settle()
    await null
    if (value === undefined && i > 5) gateway.clock.advance(50)
  }
  if (value === undefined) throw new Error('nobody answers')
  return value
}

t.test('shares of all seats make the limit', async (t) => {
  for (const seats of [1, 2, 3, 7]) {
    for (const limit of [0, 1, 2, 3, 10, 1024, 2 ** 32 - 1]) {
      let sum = 0
      for (let seat = 0; seat < seats; seat++) sum += equalShare(limit, seat, seats)
      t.equal(sum, limit, `${limit} among ${seats}`)
    }
  }
  t.equal(equalShare(10, -1, 2), 0)
})

t.test('in one process leases are exact, and nobody waits', async (t) => {
  const clock = new TestClock()
  const leases = new LocalLeases(clock)
  const one = leases.slots('a', 2)
  const same = leases.slots('a', 2)
  t.equal(one.acquire(), true)
  t.equal(same.acquire(), true)
  t.equal(one.acquire(), false)
  t.equal(one.ask(), undefined)
  one.force()
  t.equal(one.active, 3)
  t.equal(one.remaining, -1)
  const wider = leases.slots('a', 4)
  t.equal(one.tryAcquire(), true, 'another limit holds for all')
  for (let i = 0; i < 4; i++) one.release()
  for (const lease of [one, same, wider]) lease[Symbol.dispose]()
  t.equal(leases.size, 0)
  const bucket = { maxTokens: 10, tokensPerFill: 10, fillIntervalMs: 60_000 }
  const tokens = leases.tokens('b', bucket)
  for (let i = 0; i < 10; i++) t.equal(tokens.take(), true)
  t.equal(tokens.take(), false)
  t.equal(tokens.waitMs, 6000)
  clock.advance(6000)
  t.equal(tokens.remaining, 1)
  t.equal(leases.tokens('b', { ...bucket, maxTokens: 20 }).take(2), false, 'a wider bucket is not full at once')
  t.equal(tokens.take(), true)
})

t.test(
  'workers have their shares without a word, and each more than it as long as others do not need theirs',
  async (t) => {
    const gateway = new Gateway(2)
    const before = gateway.messages
    const [a, b] = gateway.slots('web', 10)
    for (let i = 0; i < 3; i++) t.equal(a.tryAcquire(), true)
    t.equal(gateway.messages, before, 'nothing was said')
    for (let i = 0; i < 7; i++) t.equal(await taken(gateway, a.acquire()), true)
    t.equal(a.active, 10)
    t.equal(await taken(gateway, a.acquire()), false)
    t.equal(await taken(gateway, b.acquire()), false, 'the gateway has none left')
    a.release()
    gateway.settle()
    t.equal(b.tryAcquire(), true, 'what is released goes to who was refused')
    t.equal(a.tryAcquire(), false)
    t.equal(await taken(gateway, a.acquire()), false)
    for (let i = 0; i < 9; i++) a.release()
    gateway.settle()
    gateway.clock.advance(5000)
    gateway.settle()
    for (let i = 0; i < 4; i++) t.equal(await taken(gateway, b.acquire()), true)
  },
)

t.test('a limit of one is had by one at a time, wherever', async (t) => {
  const gateway = new Gateway(4)
  const leases = gateway.slots('one', 1)
  for (const lease of leases) {
    t.equal(await taken(gateway, lease.acquire()), true)
    for (const other of leases) t.equal(await taken(gateway, other.acquire()), false)
    lease.release()
    gateway.settle()
    gateway.clock.advance(21)
  }
})

t.test('a process that holds all of a limit asks nobody for more', async (t) => {
  const gateway = new Gateway(2)
  const [a, b] = gateway.slots('web', 4)
  for (let i = 0; i < 4; i++) t.equal(await taken(gateway, a.acquire()), true)
  gateway.settle()
  gateway.clock.advance(1_000)
  const { messages } = gateway
  t.equal(a.ask(), undefined)
  t.equal(a.acquire(), false, 'at once')
  gateway.settle()
  t.equal(gateway.messages, messages)
  t.type(b.ask(), Promise, 'others do ask: some may be released')
})

t.test('what was forced counts for all, and nothing is granted until it is made up for', async (t) => {
  const gateway = new Gateway(2)
  const [a, b] = gateway.slots('web', 2)
  t.ok(a.tryAcquire())
  a.force()
  gateway.settle()
  t.equal(b.tryAcquire(), false, 'two are taken')
  b.force()
  gateway.settle()
  a.release()
  gateway.settle()
  gateway.clock.advance(21)
  t.equal(await taken(gateway, a.acquire()), false, 'two are taken still')
  b.release()
  gateway.settle()
  gateway.clock.advance(21)
  t.equal(await taken(gateway, a.acquire()), true)
})

t.test('ten a minute are ten, and a dead worker takes nothing with it but what it has used', async (t) => {
  for (const seats of [1, 2, 5]) {
    const gateway = new Gateway(seats)
    const leases = gateway.tokens(10, 10, 60_000)
    let granted = 0
    for (let i = 0; i < 40; i++) if (await taken(gateway, leases[i % seats].take())) granted++
    t.equal(granted, 10, `${seats} workers`)
    gateway.clock.advance(6000)
    for (let i = 0; i < 10; i++) if (await taken(gateway, leases[i % seats].take())) granted++
    t.equal(granted, 11)
    gateway.clock.advance(60_000)
    gateway.killWorker(0)
    const next = gateway.startWorker()
    gateway.settle()
    const lease = gateway.of(next).tokens('bucket', { maxTokens: 10, tokensPerFill: 10, fillIntervalMs: 60_000 })
    granted = 0
    for (let i = 0; i < 20; i++) if (await taken(gateway, lease.take())) granted++
    t.equal(granted, 10)
  }
})

t.test('large buckets go in batches: few messages, and never more at once than they hold', async (t) => {
  const gateway = new Gateway(2)
  const leases = gateway.tokens(1000, 1000, 1000)
  const before = gateway.messages
  let granted = 0
  for (let i = 0; i < 1500; i++) if (await taken(gateway, leases[i % 2].take())) granted++
  t.ok(granted >= 1000 && granted <= 1000 + gateway.clock.now() - 1000, `${granted} tokens`)
  t.ok(gateway.messages - before < 300, `${gateway.messages - before} messages`)
})

t.test('while control is away each worker has its equal share, and the next one knows what was used', async (t) => {
  const gateway = new Gateway(2)
  const [a, b] = gateway.slots('web', 4)
  const [x, y] = gateway.tokens(10, 10, 60_000)
  for (let i = 0; i < 2; i++) t.ok(await taken(gateway, x.take()))
  t.ok(await taken(gateway, y.take()))
  gateway.killControl()
  for (const lease of [a, b]) {
    t.same([lease.acquire(), lease.acquire(), lease.acquire()], [true, true, false])
  }
  let granted = 3
  for (const lease of [x, y]) for (let i = 0; i < 10; i++) if (lease.take() === true) granted++
  t.ok(granted > 3 && granted <= 11, `${granted} tokens of 10`)
  gateway.startControl(true)
  gateway.settle()
  let more = 0
  for (let i = 0; i < 10; i++) if (await taken(gateway, x.take())) more++
  t.ok(granted + more <= 10 + 1, `${granted} + ${more}`)
  t.equal(await taken(gateway, a.acquire()), false)
  b.release()
  gateway.settle()
  gateway.clock.advance(21)
  t.equal(await taken(gateway, a.acquire()), true, 'and moves what is free again')
})

t.test('a process beyond the number of seats begins with nothing, and has its seat when another ends', async (t) => {
  const gateway = new Gateway(2)
  const [a, b] = gateway.slots('web', 4)
  for (const lease of [a, b]) t.ok(lease.tryAcquire())
  const third = gateway.startWorker()
  gateway.settle()
  const c = gateway.of(third).slots('web', 4)
  t.equal(c.share, 0)
  for (let i = 0; i < 2; i++) t.equal(await taken(gateway, c.acquire()), true)
  t.equal(await taken(gateway, c.acquire()), false)
  gateway.killWorker(0)
  gateway.settle()
  t.equal(c.share, 2)
  gateway.clock.advance(21)
  t.equal(await taken(gateway, c.acquire()), true, 'the room of the dead one')
  t.equal(await taken(gateway, c.acquire()), false)
})

t.test('a process beyond the number of seats waits for nobody while it needs little of a large limit', async (t) => {
  const gateway = new Gateway(2)
  gateway.startWorker()
  gateway.startWorker()
  gateway.settle()
  const late = gateway.of(gateway.startWorker())
  gateway.settle()
  const large = late.slots('large', 1024)
  for (let i = 0; i < 128; i++) {
    t.equal(large.ask(), undefined)
    t.equal(large.tryAcquire(), true)
  }
  t.type(large.ask(), Promise, 'more than a quarter of a share is asked for')
  t.equal(large.tryAcquire(), false)
  gateway.settle()
  t.equal(large.tryAcquire(), true, 'and had, where others have some unused')
  const small = late.slots('small', 10)
  t.equal(small.tryAcquire(), false, 'small limits are exact')
  for (let i = 0; i < 129; i++) large.release()
  gateway.settle()
  t.equal(large.active, 0)
})

t.test('keys that nobody uses any more are forgotten everywhere', async (t) => {
  const gateway = new Gateway(2)
  for (let i = 0; i < 50; i++) {
    const leases = gateway.slots(`k${i}`, 2)
    for (let n = 0; n < 2; n++) t.ok(await taken(gateway, leases[0].acquire()))
    for (let n = 0; n < 2; n++) leases[0].release()
    for (const lease of leases) lease[Symbol.dispose]()
    gateway.clock.advance(60)
    const [x, y] = gateway.tokens(1, 1, 50)
    t.ok(await taken(gateway, x.take()))
    for (const lease of [x, y]) lease[Symbol.dispose]()
    gateway.settle()
  }
  for (let i = 0; i < 3; i++) {
    gateway.clock.advance(10_000)
    gateway.settle()
  }
  t.equal(gateway.ledger?.size, 0)
  for (const leases of gateway.workers.values()) t.equal(leases.size, 0)
})

t.test(
  'buckets that clients name and that nobody has are forgotten before they are full, when there are many',
  async (t) => {
    const gateway = new Gateway(2)
    const kept = gateway.of(0).tokens('kept', { maxTokens: 2, tokensPerFill: 1, fillIntervalMs: 86_400_000 })
    t.ok(await taken(gateway, kept.take()))
    for (let i = 0; i < 300; i++) {
      const bucket = { maxTokens: 1, tokensPerFill: 1, fillIntervalMs: 86_400_000 }
      const some = Array.from({ length: 100 }, (_, n) => gateway.of(n % 2).tokens(`client ${i}-${n}`, bucket))
      const answers = some.map((lease) => lease.take())
      gateway.settle()
      t.ok(!(await Promise.all(answers)).includes(false))
      for (const lease of some) lease[Symbol.dispose]()
      gateway.settle()
    }
    t.ok((gateway.ledger?.size ?? 0) <= 20_300, `${gateway.ledger?.size} in control`)
    let held = 0
    for (const leases of gateway.workers.values()) held += leases.size
    t.ok(held <= 20_300, `${held} in workers`)
    t.ok(await taken(gateway, kept.take()), 'what somebody has stays')
    t.notOk(await taken(gateway, kept.take()))
  },
)

interface Held {
  readonly lease: SlotLease
  readonly worker: number
}

/** `requests` at once, at workers by chance; what they got. Messages are delivered in any order meanwhile. */
async function rush(gateway: Gateway, leases: readonly SlotLease[], random: () => number, requests: number) {
  const pick = (n: number): number => Math.floor(random() * n)
  /** One thing, and whatever follows from it, as in a turn of the event loop. */
  const turn = async (): Promise<boolean> => {
    const more = gateway.step(pick(1000))
    for (let i = 0; i < 5; i++) await null
    while (gateway.deferred.length > 0) gateway.step()
    return more
  }
  const held: SlotLease[] = []
  let open = requests
  for (let i = 0; i < requests; i++) {
    while (pick(3) > 0) await turn()
    const lease = leases[pick(leases.length)]
    const go = (): void => {
      open--
      if (lease.tryAcquire()) held.push(lease)
    }
    const asked = lease.ask()
    if (asked === undefined) go()
    else void Promise.all([asked, undefined]).then(go)
  }
  for (let i = 0; open > 0 && i < 50; i++) {
    while (await turn());
    gateway.clock.advance(30)
  }
  return held
}

t.test('in a rush exactly the limit is taken, and where all ask for just that nobody is refused', async (t) => {
  const shapes = [
    [2, 5, 100],
    [3, 7, 200],
    [4, 8, 200],
    [4, 40, 100],
    [4, 200, 30],
  ] as const
  for (const [workers, limit, seeds] of shapes) {
    for (let seed = 1; seed <= seeds; seed++) {
      const { next: random } = seeded(9000 + seed)
      const gateway = new Gateway(workers)
      const leases = gateway.slots('k', limit)
      const cold = await rush(gateway, leases, random, limit)
      if (cold.length !== limit) t.fail(`seed ${seed}: ${cold.length} of ${limit} at first`)
      for (const lease of cold) lease.release()
      const first = await rush(gateway, leases, random, 4 * limit)
      if (first.length !== limit) t.fail(`seed ${seed}: ${first.length} of ${limit}`)
      for (const lease of first) {
        lease.release()
        if (random() < 0.5) gateway.step(Math.floor(random() * 1000))
      }
      // Told that there is nothing, a worker does not ask again for 20 ms.
      gateway.clock.advance(30)
      const next = await rush(gateway, leases, random, limit)
      if (next.length !== limit) t.fail(`seed ${seed}: ${next.length} of ${limit} again`)
    }
    t.pass(`${limit} among ${workers}`)
  }
})

t.test('a worker that hangs is waited for once, not by everybody who is short until it is killed', async (t) => {
  const gateway = new Gateway(3)
  const [a, b] = gateway.slots('web', 6) as [SlotLease, SlotLease, SlotLease]
  const hung = (): void => {
    for (let i = gateway.toWorkers.length - 1; i >= 0; i--) {
      if (gateway.toWorkers[i].worker === 2) held.push(...gateway.toWorkers.splice(i, 1))
    }
  }
  const held: typeof gateway.toWorkers = []
  const settled = async (): Promise<void> => {
    for (let i = 0; i < 200; i++) {
      hung()
      gateway.step()
      await null
    }
  }
  const get = (lease: SlotLease): { done: boolean | undefined } => {
    const answer: { done: boolean | undefined } = { done: undefined }
    void Promise.resolve(lease.acquire()).then((taken) => {
      answer.done = taken
    })
    return answer
  }
  for (let i = 0; i < 2; i++) t.ok(a.tryAcquire())
  const first = [get(a), get(a), get(a)]
  await settled()
  const answered = (): number => first.filter(({ done }) => done !== undefined).length
  t.equal(answered(), 0, 'there may be more')
  gateway.clock.advance(500)
  await settled()
  t.equal(answered(), 3)
  t.equal(a.active, 4, 'what is not the silent one’s')
  gateway.clock.advance(30)
  const late = [get(a), get(b)]
  await settled()
  t.strictSame(
    late.map(({ done }) => done),
    [false, false],
    'at once',
  )
  gateway.killWorker(2)
  gateway.clock.advance(30)
  await settled()
  const after = [get(a), get(b)]
  await settled()
  t.strictSame(
    after.map(({ done }) => done),
    [true, true],
    'with its end its share is there for all',
  )
})

/** Whatever happens in whatever order, as long as nothing is forced and control does not end. */
async function exactRun(t: Test, seed: number): Promise<void> {
  const { next: random } = seeded(seed)
  const pick = (n: number): number => Math.floor(random() * n)
  const seats = 1 + pick(4)
  const limit = pick(3) === 0 ? 1 + pick(3) : 1 + pick(60)
  const gateway = new Gateway(seats)
  const leases = new Map<number, SlotLease>()
  const join = (worker: number): void => void leases.set(worker, gateway.of(worker).slots('k', limit))
  for (const worker of gateway.workers.keys()) join(worker)
  let held: Held[] = []
  let waiting = 0
  for (let i = 0; i < 1500; i++) {
    const what = pick(100)
    const workers = [...leases.keys()]
    const worker = workers[pick(workers.length)]
    const lease = leases.get(worker)
    if (lease === undefined) continue
    if (what < 40) {
      const got = lease.acquire()
      if (got === true) held.push({ lease, worker })
      else if (got !== false) {
        waiting++
        void got.then((taken) => {
          waiting--
          if (!taken) return
          // Its process may have died meanwhile.
          if (leases.get(worker) === lease) held.push({ lease, worker })
        })
      }
    } else if (what < 60 && held.length > 0) held.splice(pick(held.length), 1)[0].lease.release()
    else if (what < 92) gateway.step(pick(1000))
    else if (what < 98) {
      // A control process that does not answer for long counts as away: that is for another test.
      gateway.settle()
      gateway.clock.advance(pick(300))
    } else if (what === 98) {
      gateway.killWorker(worker)
      leases.delete(worker)
      held = held.filter((one) => one.worker !== worker)
      join(gateway.startWorker())
    }
    await null
    if (held.length > limit) {
      t.fail(`seed ${seed}, step ${i}: ${held.length} of ${limit} are taken`)
      return
    }
  }
  for (const { lease } of held.splice(0)) lease.release()
  gateway.settle()
  for (let i = 0; i < 40; i++) {
    gateway.clock.advance(200)
    gateway.settle()
    await null
  }
  for (const { lease } of held.splice(0)) lease.release()
  if (waiting > 0) t.fail(`seed ${seed}: ${waiting} wait for ever`)
  const all = [...leases.values()]
  let got = 0
  for (const lease of all) while (await taken(gateway, lease.acquire())) got++
  if (got !== limit) t.fail(`seed ${seed}: ${got} of ${limit} can be taken in the end`)
}

t.test('never more than the limit is taken, and in the end all of it can be', async (t) => {
  for (let seed = 1; seed <= 150; seed++) await exactRun(t, seed)
  t.pass('all seeds')
})

t.test('control ends and comes back, messages with it: the limit holds again when all is quiet', async (t) => {
  for (let seed = 1; seed <= 60; seed++) {
    const { next: random } = seeded(1000 + seed)
    const pick = (n: number): number => Math.floor(random() * n)
    const limit = 1 + pick(40)
    const gateway = new Gateway(1 + pick(4))
    const leases = gateway.slots('k', limit)
    let held: SlotLease[] = []
    for (let i = 0; i < 800; i++) {
      const what = pick(100)
      const lease = leases[pick(leases.length)]
      if (what < 40) {
        const got = lease.acquire()
        if (got === true) held.push(lease)
        else if (got !== false) void got.then((taken) => (taken ? void held.push(lease) : undefined))
      } else if (what < 65 && held.length > 0) held.splice(pick(held.length), 1)[0].release()
      else if (what < 90) gateway.step(pick(1000))
      else if (what < 97) gateway.clock.advance(pick(300))
      else if (what === 97) {
        if (gateway.ledger === undefined) gateway.startControl(true)
        else gateway.killControl()
      } else if (what === 98) {
        lease.force()
        held.push(lease)
      }
      await null
    }
    if (gateway.ledger === undefined) gateway.startControl(true)
    for (let i = 0; i < 20; i++) {
      gateway.settle()
      gateway.clock.advance(200)
      await null
    }
    for (const lease of held.splice(0)) lease.release()
    for (let i = 0; i < 60; i++) {
      gateway.settle()
      gateway.clock.advance(200)
      await null
    }
    let got = 0
    for (const lease of leases) while (await taken(gateway, lease.acquire())) got++
    if (got !== limit) t.fail(`seed ${seed}: ${got} of ${limit}, ${leases.length} workers`)
    held = []
  }
  t.pass('all seeds')
})

t.test('tokens in any order of messages: never more than one bucket would have given', async (t) => {
  for (let seed = 1; seed <= 100; seed++) {
    const { next: random } = seeded(5000 + seed)
    const pick = (n: number): number => Math.floor(random() * n)
    const gateway = new Gateway(1 + pick(4))
    const max = 1 + pick(pick(2) === 0 ? 5 : 400)
    const perFill = 1 + pick(max)
    const intervalMs = 50 + pick(2000)
    const leases = gateway.tokens(max, perFill, intervalMs)
    const started = gateway.clock.now()
    let used = 0
    for (let i = 0; i < 1000; i++) {
      const what = pick(100)
      if (what < 50) {
        const got = leases[pick(leases.length)].take()
        if (got === true) used++
        else if (got !== false) void got.then((taken) => (taken ? void used++ : undefined))
      } else if (what < 92) gateway.step(pick(1000))
      else {
        gateway.settle()
        gateway.clock.advance(pick(400))
      }
      await null
      const most = max + ((gateway.clock.now() - started) * perFill) / intervalMs
      if (used > most) return t.fail(`seed ${seed}: ${used} used, ${most} at most`)
    }
  }
  t.pass('all seeds')
})

t.test('who waits for an answer gets one, though nobody uses the key any more', async (t) => {
  const gateway = new Gateway(2)
  const slots = gateway.of(1).slots('one', 1)
  const asked = slots.ask()
  t.ok(asked, 'all of it is the other one’s')
  slots[Symbol.dispose]()
  const tokens = gateway.of(0).tokens('bucket', { maxTokens: 1, tokensPerFill: 1, fillIntervalMs: 1000 })
  const taken = tokens.take()
  tokens[Symbol.dispose]()
  let answers = 0
  void Promise.resolve(asked).then(() => answers++)
  void Promise.resolve(taken).then(() => answers++)
  gateway.settle()
  await settle()
  t.equal(answers, 2)
  for (let i = 0; i < 3; i++) {
    gateway.clock.advance(10_000)
    gateway.settle()
  }
  t.equal(gateway.ledger?.size, 0)
  for (const leases of gateway.workers.values()) t.equal(leases.size, 0, 'and it is forgotten then')
})

t.test('a key that is used again, while control forgets it, is shared as before', async (t) => {
  const gateway = new Gateway(2)
  let [a, b] = gateway.slots('web', 4) as [SlotLease, SlotLease]
  for (let round = 0; round < 3; round++) {
    for (const lease of [a, b]) {
      for (let i = 0; i < 4; i++) t.ok(await taken(gateway, lease.acquire()))
      for (let i = 0; i < 4; i++) lease.release()
      gateway.settle()
      gateway.clock.advance(100)
    }
  }
  for (const lease of [a, b]) lease[Symbol.dispose]()
  gateway.settle()
  ;[a, b] = gateway.slots('web', 4) as [SlotLease, SlotLease]
  gateway.clock.advance(10_000)
  gateway.settle()
  for (const lease of [a, b]) {
    for (let i = 0; i < 4; i++) t.ok(await taken(gateway, lease.acquire()), 'all of it')
    for (let i = 0; i < 4; i++) lease.release()
    gateway.settle()
    gateway.clock.advance(100)
  }
})

t.test('what was used while control was away is told once, whatever follows in the same session', async (t) => {
  const gateway = new Gateway(2)
  const [x] = gateway.tokens(10, 10, 600_000) as [TokenLease]
  t.ok(await taken(gateway, x.take()))
  gateway.killControl()
  let used = 1
  for (let i = 0; i < 10; i++) if (x.take() === true) used++
  t.equal(used, 5, 'half of what was left')
  gateway.startControl(true)
  // The other worker has not been greeted yet, and this one goes on.
  const greet = gateway.toWorkers.findIndex(({ worker }) => worker === 1)
  const [late] = gateway.toWorkers.splice(greet, 1)
  gateway.settle()
  const more = x.take()
  gateway.settle()
  gateway.toWorkers.push(late)
  gateway.settle()
  if (await taken(gateway, more)) used++
  const [, y] = gateway.tokens(10, 10, 600_000) as [TokenLease, TokenLease]
  for (let i = 0; i < 10; i++) if (await taken(gateway, y.take())) used++
  t.equal(used, 10)
})

t.test('nothing is granted before the last report, whoever asks or ends meanwhile', async (t) => {
  const gateway = new Gateway(3)
  const [a, b] = gateway.slots('web', 6) as [SlotLease, SlotLease]
  for (const lease of [a, b]) for (let i = 0; i < 2; i++) t.ok(await taken(gateway, lease.acquire()))
  for (const lease of [a, b]) t.ok(await taken(gateway, lease.acquire()), 'of the third')
  gateway.killControl()
  gateway.startControl(true)
  const greet = gateway.toWorkers.findIndex(({ worker }) => worker === 1)
  const [late] = gateway.toWorkers.splice(greet, 1)
  gateway.settle()
  let got = 0
  for (let i = 0; i < 3; i++) void Promise.resolve(a.acquire()).then((taken) => (taken ? got++ : undefined))
  gateway.settle()
  gateway.killWorker(2)
  gateway.startWorker()
  gateway.settle()
  await settle()
  gateway.toWorkers.push(late)
  gateway.settle()
  await settle()
  t.equal(got, 0, 'all six are taken')
})

t.test('a worker that goes on with the limit of before does not bring it back', async (t) => {
  const gateway = new Gateway(3)
  const [a, b, c] = gateway.slots('web', 10) as [SlotLease, SlotLease, SlotLease]
  for (let i = 0; i < 3; i++) t.ok(c.tryAcquire())
  for (let i = 0; i < 5; i++) t.ok(await taken(gateway, a.acquire()))
  t.ok(await taken(gateway, b.acquire()))
  gateway.settle()
  const lower = gateway.of(1).slots('web', 4)
  gateway.settle()
  // The others drain with the configuration that they had.
  t.equal(await taken(gateway, c.acquire()), false)
  for (let i = 0; i < 8; i++) {
    if (i < 5) a.release()
    else c.release()
    gateway.settle()
    gateway.clock.advance(300)
    gateway.settle()
  }
  let got = 1
  for (let i = 0; i < 10; i++) if (await taken(gateway, lower.acquire())) got++
  t.equal(got, 4)
})

t.test('a worker that goes on with the bucket of before does not bring it back', async (t) => {
  const gateway = new Gateway(2)
  const [a] = gateway.tokens(10, 10, 100) as [TokenLease]
  t.ok(await taken(gateway, a.take()))
  const slow = gateway.of(1).tokens('bucket', { maxTokens: 10, tokensPerFill: 1, fillIntervalMs: 600_000 })
  let got = 0
  for (let i = 0; i < 20; i++) {
    if (await taken(gateway, slow.take())) got++
    if (await taken(gateway, a.take())) got++
    gateway.clock.advance(100)
  }
  t.ok(got <= 10, `${got} of 10`)
})

t.test('a budget grows with what all workers count, and each has its own part of it without a word', async (t) => {
  const gateway = new Gateway(2)
  const counts = [10, 12]
  const budget = (i: number): SlotBudget => ({ percent: 20, counted: () => counts[i] })
  const [a, b] = [0, 1].map((i) => gateway.of(i).slots('retries', 1, budget(i))) as [SlotLease, SlotLease]
  const got = (lease: SlotLease): boolean => {
    const taken = lease.tryAcquire()
    if (!taken) lease.want()
    gateway.settle()
    return taken
  }
  t.equal(got(a), true)
  t.equal(got(a), true, 'two of ten')
  t.equal(got(a), false)
  t.equal(got(a), true, 'what the other does not use has come')
  t.equal(got(a), false)
  t.equal(got(a), true, 'a fifth of 22 is four')
  t.equal(got(a), false)
  gateway.clock.advance(30)
  t.equal(got(a), false, 'and not five')
  t.equal(a.remaining <= 0, true)
  t.equal(got(b), true, 'its own it has all the same')
  t.equal(got(b), true)
  t.equal(got(b), false)
  counts[0] = counts[1] = 0
  for (const lease of [a, b, a, b, a]) {
    lease.release()
    gateway.settle()
    gateway.clock.advance(300)
    gateway.settle()
    t.equal(got(b), false, 'one is left in any case, and taken')
  }
  a.release()
  gateway.settle()
  gateway.clock.advance(2000)
  gateway.settle()
  got(b)
  t.equal(got(b) || got(b), true)
  t.equal(got(a), false)
  b.release()
  const one = new Gateway(1)
  const alone = one.of(0).slots('retries', 1, { percent: 50, counted: () => 6 })
  const before = one.messages
  for (const expected of [true, true, true, false]) t.equal(alone.tryAcquire(), expected)
  one.settle()
  t.equal(one.messages, before, 'a single worker has nobody to tell')
})

t.test('a budget does not go by what workers have counted long ago', async (t) => {
  const gateway = new Gateway(2)
  const counts = [1000, 0]
  const [a, b] = [0, 1].map((i) => gateway.of(i).slots('retries', 2, { percent: 20, counted: () => counts[i] })) as [
    SlotLease,
    SlotLease,
  ]
  for (let i = 0; i < 201; i++) {
    if (!a.tryAcquire()) a.want()
    gateway.settle()
  }
  t.ok(a.active >= 200)
  while (a.active > 0) a.release()
  gateway.settle()
  counts[0] = 0
  gateway.clock.advance(60_000)
  gateway.settle()
  for (let i = 0; i < 50; i++) {
    if (!b.tryAcquire()) b.want()
    gateway.settle()
    gateway.clock.advance(30)
    gateway.settle()
  }
  t.equal(b.active, 2, 'nobody has any requests')
})

t.test('what is shown of a limit in all workers is all of it when it is taken, and less before', async (t) => {
  const sum = (leases: readonly SlotLease[]): number => leases.reduce((total, { used }) => total + used, 0)
  const quiet = new Gateway(3)
  const spread = quiet.slots('web', 7) as [SlotLease, SlotLease, SlotLease]
  for (const [i, share] of [3, 2, 2].entries()) {
    t.ok(sum(spread) < 0.999)
    for (let n = 0; n < share; n++) t.ok(spread[i].tryAcquire())
  }
  t.equal(quiet.messages, 9, 'greetings, reports and seats')
  t.ok(sum(spread) > 1 - 1e-9, 'nobody has said a word')
  spread[1].release()
  t.ok(sum(spread) < 0.999)
  for (let seed = 1; seed <= 100; seed++) {
    const { next: random } = seeded(700 + seed)
    const pick = (n: number): number => Math.floor(random() * n)
    const gateway = new Gateway(1 + pick(4))
    const limit = 1 + pick(9)
    const leases = gateway.slots('k', limit)
    const held: SlotLease[] = []
    const shown = leases.map(({ used }) => used)
    for (const [i, lease] of leases.entries()) lease.observer = { usedElsewhere: () => void (shown[i] = lease.used) }
    for (let n = 0; n < 200; n++) {
      const lease = leases[pick(leases.length)]
      const released = pick(3) > 0 ? undefined : held.splice(pick(held.length), 1)[0]
      if (released !== undefined) released.release()
      else if (await taken(gateway, lease.acquire())) held.push(lease)
      const touched = released ?? lease
      // Whoever takes or releases looks by itself.
      shown[leases.indexOf(touched)] = touched.used
      gateway.settle()
      const full = held.length === limit
      const total = shown.reduce((a, b) => a + b, 0)
      if (total >= 1 - 1e-9 !== full) t.fail(`seed ${seed}: ${total} of ${held.length} among ${limit}`)
      gateway.clock.advance(pick(40))
    }
  }
  t.pass('all seeds')
})
