import { performance } from 'node:perf_hooks'
import { getHeapStatistics } from 'node:v8'
import type { Cancel, Clock } from '../core/clock.ts'

/** Between two looks, and over how long each of them looks back. */
const LOOK_MS = 1000
/** A worker that has not been idle by then has other garbage. */
const LOOKS = 60
/** Share of the time in which the event loop did something: an idle worker has a few timers. */
const IDLE = 0.02
/** A large configuration has come meanwhile: to look through all of it would take too long, and to win 10 MiB of so many. */
const HEAP_LIMIT_BYTES = 48 << 20

/** V8's `gc` function, which is there under `--expose-gc`. */
export type CollectAll = (options: { type: 'major'; flavor: 'last-resort' }) => void

export interface StartGarbageOptions {
  readonly clock: Clock
  /** Undefined: nothing happens. */
  readonly collect: CollectAll | undefined
  /** ms in which the event loop of this process has done something, in all. Default: as Node measures it. */
  readonly activeMs?: () => number
  /** Of the JavaScript heap, what is in use. Default: as V8 counts it. */
  readonly heapBytes?: () => number
}

/**
 * Once, when a worker has been idle for a second after its start: everything goes that loading its modules has left behind,
 * also the room for young objects, which V8 would keep. That is a tenth of the memory of an idle worker (10 MiB); it takes
 * some 40 ms, in which nobody should wait. What has never been idle in its first minute, or has a large configuration by then,
 * is left alone.
 */
export class StartGarbage implements Disposable {
  readonly #options: StartGarbageOptions
  #cancel: Cancel = () => {}
  #looks = 0
  #activeMs = 0
  #sinceMs = 0

  constructor(options: StartGarbageOptions) {
    this.#options = options
    if (options.collect !== undefined) this.#wait()
  }

  #wait(): void {
    const { clock } = this.#options
    this.#activeMs = this.#active()
    this.#sinceMs = clock.now()
    this.#cancel = clock.schedule(LOOK_MS, () => this.#look())
  }

  #look(): void {
    const heapBytes = this.#options.heapBytes?.() ?? getHeapStatistics().used_heap_size
    if (heapBytes > HEAP_LIMIT_BYTES) return
    const share = (this.#active() - this.#activeMs) / (this.#options.clock.now() - this.#sinceMs)
    if (share < IDLE) this.#options.collect?.({ type: 'major', flavor: 'last-resort' })
    else if (++this.#looks < LOOKS) this.#wait()
  }

  #active(): number {
    return this.#options.activeMs?.() ?? performance.eventLoopUtilization().active
  }

  [Symbol.dispose](): void {
    this.#cancel()
  }
}
