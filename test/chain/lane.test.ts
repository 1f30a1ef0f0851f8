import t from 'tap'
import type { Hook } from '../../lib/chain/compile.ts'
import type { HttpFilter, HttpStream, NextChunk } from '../../lib/chain/filter.ts'
import { Lane, type LaneOwner } from '../../lib/chain/lane.ts'
import { Headers } from '../../lib/core/headers.ts'
import { drive, lines } from '../support/chain-driver.ts'
import { settle } from '../support/clock.ts'
import { type Random, seeded } from '../support/random.ts'

type Filter = HttpFilter<unknown>

/** Counts what a lane does; throws where it does more than `most`, so that a regression fails instead of hanging. */
class Work {
  #done = 0
  readonly #most: number

  constructor(most: number) {
    this.#most = most
  }

  get done(): number {
    return this.#done
  }

  step(): void {
    if (++this.#done > this.#most) throw new Error(`more than ${this.#most} steps`)
  }

  /** A chunk of one byte; each look at its length counts. */
  chunk(byte: number): Buffer {
    const chunk = Buffer.from([byte])
    Object.defineProperty(chunk, 'length', {
      get: () => {
        this.step()
        return 1
      },
    })
    return chunk
  }

  /** Each look at an entry reads the hooks it may go through. */
  hooks(hooks: readonly Hook[]): readonly Hook[] {
    return new Proxy(hooks, {
      get: (target, key, receiver) => {
        if (key === 'length') this.step()
        return Reflect.get(target, key, receiver)
      },
    })
  }
}

/** A lane between nothing and a sink that collects. */
function laneUnderTest(work: Work, onData: (chunk: Buffer) => NextChunk = () => undefined) {
  const out: Buffer[] = []
  const state = { ended: false, calls: 0, full: [] as boolean[], ready: true }
  const owner: LaneOwner = {
    dataHook(_hook, chunk) {
      state.calls++
      return onData(chunk)
    },
    trailersHook: () => undefined,
    hookFailed(_hook, error) {
      throw error
    },
    deliver(chunk, end) {
      out.push(chunk)
      state.ended = end
      return state.ready
    },
    deliverTrailers() {},
    full: (full) => void state.full.push(full),
  }
  const hooks = work.hooks([{ filter: {}, at: 0, index: 0 }])
  const lane = new Lane(owner, { data: hooks, trailers: [] }, 1 << 20)
  return { lane, state, out, body: () => Buffer.concat(out) }
}

const CHUNKS = 80_000

/** Feeds `chunks` chunks of one byte into a lane that `holder` keeps closed; answers how much work that was in all. */
type Holder = (lane: Lane, state: { ready: boolean }) => () => Promise<void> | void

const HOLDERS: readonly { readonly what: string; readonly data?: () => NextChunk; readonly hold: Holder }[] = [
  {
    what: 'a paused header hook',
    hold: (lane) => {
      lane.hold(0)
      return () => lane.open()
    },
  },
  {
    what: 'a paused header hook behind a data hook',
    hold: (lane) => {
      lane.hold(1)
      return () => lane.open()
    },
  },
  {
    what: 'a filter that collects',
    hold: (lane) => {
      lane.hold(1)
      const collected = new Promise<Buffer | undefined>((resolve) => lane.collect(1 << 20, false, resolve))
      return async () => {
        t.equal((await collected)?.length, CHUNKS_OF(lane))
        lane.open()
      }
    },
  },
  {
    what: 'a sink that is not ready',
    hold: (lane, state) => {
      lane.open()
      state.ready = false
      return () => {
        state.ready = true
        lane.unblock()
      }
    },
  },
]

/** How much was fed into a lane. */
const fed = new WeakMap<Lane, number>()
function CHUNKS_OF(lane: Lane): number {
  return fed.get(lane) ?? 0
}
