import t, { type Test } from 'tap'
import type { Hook } from '../../lib/chain/compile.ts'
import type { HttpFilter, NextChunk } from '../../lib/chain/filter.ts'
import { Lane, type LaneOwner } from '../../lib/chain/lane.ts'
import { FAILURES } from '../../lib/core/failure.ts'
import { Headers } from '../../lib/core/headers.ts'
import { drive, lines } from '../support/chain-driver.ts'
import { settle } from '../support/clock.ts'
import { type Random, seeded } from '../support/random.ts'

type Filter = HttpFilter<unknown>

/** Counts what a lane does, and throws beyond `most`: a regression fails instead of taking for ever. */
class Work {
  steps = 0
  readonly #most: number

  constructor(most: number) {
    this.#most = most
  }

  step(): void {
    if (++this.steps > this.#most) throw new Error(`more than ${this.#most} steps`)
  }

  /** Each look at its length counts. */
  chunk(bytes: number, fill: number): Buffer {
    const get = (): number => {
      this.step()
      return bytes
    }
    return Object.defineProperty(Buffer.alloc(bytes, fill), 'length', { get })
  }

  /** Each visit to an entry looks through the hooks. */
  hooks(hooks: readonly Hook[]): readonly Hook[] {
    return new Proxy(hooks, {
      get: (target, key, receiver) => {
        if (key === 'length') this.step()
        return Reflect.get(target, key, receiver)
      },
    })
  }
}

/** A lane with one data hook, at 0, whose work is counted. */
class Bench implements LaneOwner {
  readonly work: Work
  readonly lane: Lane
  readonly out: Buffer[] = []
  ended = false
  hookCalls = 0
  ready = true
  fullness: boolean[] = []
  onData: (chunk: Buffer) => NextChunk = () => undefined

  constructor(mostSteps: number) {
    this.work = new Work(mostSteps)
    const hooks = this.work.hooks([{ filter: {}, at: 0, index: 0 }])
    this.lane = new Lane(this, { data: hooks, trailers: [] }, 1 << 20)
  }

  get body(): Buffer {
    return Buffer.concat(this.out)
  }

  feed(chunks: number, bytes: number): void {
    for (let i = 0; i < chunks; i++) this.lane.push(this.work.chunk(bytes, i), false)
    this.lane.push(Buffer.alloc(0), true)
  }

  dataHook(_hook: Hook, chunk: Buffer): NextChunk {
    this.hookCalls++
    return this.onData(chunk)
  }

  trailersHook(): undefined {}

  hookFailed(_hook: Hook, error: unknown): void {
    throw error
  }

  deliver(chunk: Buffer, end: boolean): boolean {
    this.out.push(chunk)
    this.ended = end
    return this.ready
  }

  deliverTrailers(): void {}

  full(full: boolean): void {
    this.fullness.push(full)
  }
}

/** What keeps a lane from emptying, and lets go of it again. */
const HOLDERS: Readonly<Record<string, (bench: Bench, bytes: number, t: Test) => () => Promise<void>>> = {
  'a paused header hook': ({ lane }) => {
    lane.hold(0)
    return async () => lane.open()
  },
  'a paused header hook behind a data hook': ({ lane }) => {
    lane.hold(1)
    return async () => lane.open()
  },
  'a filter that collects the body': ({ lane }, bytes, t) => {
    lane.hold(1)
    const collected = new Promise<Buffer | undefined>((resolve) => lane.collect(bytes, false, resolve))
    return async () => {
      t.equal((await collected)?.length, bytes)
      lane.open()
    }
  },
  'a data hook that waits': (bench) => {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    bench.onData = () => promise
    bench.lane.open()
    return async () => {
      resolve(undefined)
      while (!bench.ended) await settle(1)
    }
  },
  'a sink that is not ready': (bench) => {
    bench.ready = false
    bench.lane.open()
    return async () => {
      bench.ready = true
      bench.lane.unblock()
    }
  },
}

for (const [what, hold] of Object.entries(HOLDERS)) {
  t.test(`the work for chunks behind ${what} grows with their number and no faster`, async (t) => {
    const run = async (chunks: number, bytes: number): Promise<Bench> => {
      const bench = new Bench(chunks * 50)
      const release = hold(bench, chunks * bytes, t)
      bench.feed(chunks, bytes)
      await release()
      const body = bench.body
      t.equal(body.length, chunks * bytes)
      t.ok(
        body.every((byte, i) => byte === (Math.floor(i / bytes) & 255)),
        'in order',
      )
      t.ok(bench.ended)
      t.ok(bench.hookCalls <= chunks + 1)
      return bench
    }
    const small = await run(20_000, 1)
    const large = await run(80_000, 1)
    t.ok(large.work.steps < small.work.steps * 4.4, `${small.work.steps} steps, then ${large.work.steps}`)
    t.ok(large.out.length <= 80_000 / 2048, `joined: they left as ${large.out.length} chunks`)
    // Too large to be joined: the list is long.
    const few = await run(1000, 4096)
    const many = await run(4000, 4096)
    t.ok(many.work.steps < few.work.steps * 4.4, `${few.work.steps} steps, then ${many.work.steps}`)
  })
}

t.test('what a filter emits beside waiting chunks costs no more for each of those', (t) => {
  const bench = new Bench(40_000 * 50)
  const big = Buffer.alloc(4096, 1)
  bench.onData = () => {
    bench.lane.inject(big)
    return big
  }
  bench.lane.hold(1)
  for (let i = 0; i < 40_000; i++) bench.lane.push(bench.work.chunk(1, 1), false)
  bench.lane.open()
  t.equal(bench.out.length, 80_000)
  t.end()
})

t.test('a lane counts what it takes to keep a chunk, not only its bytes', (t) => {
  const bench = new Bench(1 << 20)
  bench.lane.hold(0)
  // Too large to be joined.
  const chunk = Buffer.alloc(4096)
  const fits = Math.floor((1 << 20) / (4096 + 128))
  for (let i = 0; i < fits; i++) bench.lane.push(chunk, false)
  t.same(bench.fullness, [])
  bench.lane.push(chunk, false)
  t.same(bench.fullness, [true])
  bench.lane.open()
  t.same(bench.fullness, [true, false])

  const joined = new Bench(1 << 20)
  joined.lane.hold(0)
  let chunks = 0
  for (; joined.fullness.length === 0 && chunks < 2000; chunks++) joined.lane.push(Buffer.alloc(1000), false)
  t.same(joined.fullness, [true])
  t.ok(chunks > 950 && chunks <= 1049, `bytes that were joined count as bytes: full after ${chunks} chunks`)
  joined.lane.open()
  t.same(joined.fullness, [true, false])

  const empty = new Bench(1 << 22)
  empty.lane.hold(0)
  for (let i = 0; i < 100_000; i++) empty.lane.push(Buffer.alloc(0), false)
  t.same(empty.fullness, [], 'empty chunks that wait are one')
  t.end()
})

t.test('a body within the limit of its collector is collected however many chunks it comes in', async (t) => {
  const bodies: unknown[] = []
  const filters: Filter[] = [
    { onRequestHeaders: async (stream) => void bodies.push(await stream.collectRequest(5000)) },
  ]
  const driven = drive({ filters, end: false, bufferLimit: 16 })
  for (let i = 0; i < 5000; i++) {
    driven.send('x')
    if (driven.downstream.paused) t.fail('the client was told to wait for itself')
  }
  driven.send('', true)
  await settle(1)
  t.equal((bodies[0] as Buffer).length, 5000)
  t.equal(driven.upstream.body.length, 5000)

  const over = drive({ filters, end: false, bufferLimit: 16 })
  for (let i = 0; i < 5001; i++) over.send('x')
  await settle(1)
  t.equal(over.downstream.status, 413)
  t.equal(bodies[1], FAILURES.payloadTooLarge)
})

t.test('bytes that a filter was shown stay as they are when more are joined to them', async (t) => {
  const shown: Buffer[] = []
  const held = Promise.withResolvers<undefined>()
  const filters: Filter[] = [
    { onRequestData: (_s, chunk) => void shown.push(chunk) },
    {
      async onRequestHeaders(stream) {
        shown.push(await stream.peekRequest(2))
        await held.promise
      },
    },
  ]
  const driven = drive({ filters, end: false })
  for (const text of ['a', 'b', 'c', 'd']) {
    driven.send(text)
    await settle(1)
  }
  held.resolve(undefined)
  await settle(1)
  t.same(shown.map(String), ['a', 'b', 'ab', 'c', 'd'])
  t.equal(driven.upstream.body, 'abcd')
})

/** Adds `by` to every byte, in pieces, late or at once; some headers wait, and some collect. */
function shifting(random: Random, by: number, collected: Buffer[]): Filter {
  const data = (chunk: Buffer, end: boolean, write: (chunk: Buffer) => void): NextChunk => {
    const shifted = Buffer.from(chunk.map((byte) => byte + by))
    const cut = random.below(shifted.length + 1)
    const how = random.below(5)
    if (how === 0) return shifted
    if (how === 1) {
      for (const byte of shifted) write(Buffer.from([byte]))
      return end ? Buffer.alloc(0) : null
    }
    if (how === 2) {
      write(shifted.subarray(0, cut))
      return shifted.subarray(cut)
    }
    return settle(random.below(4)).then(() => shifted)
  }
  return {
    async onRequestHeaders(stream) {
      if (random.below(2) === 0) await settle(random.below(8))
      if (random.below(3) === 0) {
        const body = await stream.collectRequest(1 << 20)
        if (Buffer.isBuffer(body)) collected.push(body)
      }
    },
    onRequestData: (stream, chunk, end) => data(chunk, end, (piece) => void stream.writeRequest(piece)),
    onResponseData: (stream, chunk, end) => data(chunk, end, (piece) => void stream.writeResponse(piece)),
  }
}

t.test('whatever filters do to a body and however long they wait, every byte passes once and in order', async (t) => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = seeded(seed)
    const collected: Buffer[] = []
    const filters = [1, 2, 4].map((by) => shifting(random, by, collected))
    const driven = drive({ filters, end: false, bufferLimit: 1 + random.below(2000) })
    const { exchange, upstream, downstream } = driven
    const sent: Buffer[] = []
    const piece = (): Buffer => {
      const chunk = random.bytes(random.pick([0, 1, 3, 200, 5000]))
      sent.push(chunk)
      return chunk
    }
    const expect = (shift: number): string =>
      Buffer.from(Buffer.concat(sent).map((byte) => byte + shift)).toString('hex')
    const trailers = random.below(2) === 0
    for (let i = 0; i < 30; i++) {
      upstream.ready = random.below(3) > 0
      exchange.requestData(piece(), false)
      if (random.below(3) === 0) await settle(random.below(4))
      if (random.below(2) === 0) exchange.drained()
    }
    upstream.ready = true
    if (trailers) exchange.requestTrailers(new Headers(['t', '1']))
    else exchange.requestData(piece(), true)
    for (let i = 0; i < 2000 && !upstream.ended; i++) {
      await settle(1)
      exchange.drained()
    }
    const say = `seed ${seed}`
    t.equal(Buffer.concat(upstream.chunks).toString('hex'), expect(7), say)
    t.ok(upstream.ended, say)
    t.same(lines(upstream.trailersReceived), trailers ? ['t: 1'] : [], say)
    t.ok(
      collected.every((body) => [0, 1, 3].some((shift) => body.toString('hex') === expect(shift))),
      say,
    )
    t.notOk(downstream.paused, say)

    sent.length = 0
    exchange.upstreamHeaders(200, new Headers(), false)
    for (let i = 0; i < 20; i++) {
      downstream.ready = random.below(3) > 0
      exchange.upstreamData(piece(), false)
      if (random.below(3) === 0) await settle(random.below(4))
      if (random.below(2) === 0) exchange.downstreamDrained()
    }
    downstream.ready = true
    exchange.upstreamData(piece(), true)
    for (let i = 0; i < 2000 && !downstream.ended; i++) {
      await settle(1)
      exchange.downstreamDrained()
    }
    t.equal(Buffer.concat(downstream.chunks).toString('hex'), expect(7), say)
    t.equal(driven.ends(), 1, say)
    t.same(driven.errors, [], say)
  }
})
