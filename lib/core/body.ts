import type { Failure } from './failure.ts'
import type { Headers } from './headers.ts'

/** Where bytes go. `write` answering false means: stop until drained. Buffers are lent on, never copied or changed. */
export interface Sink {
  write(chunk: Buffer): boolean
  /** Clean end; `trailers` only where the protocol and the configuration let them pass. */
  end(trailers?: Headers): void
  /** Abnormal end: the peer must be able to tell it from a clean one. */
  reset(why: Failure, detail?: string): void
}

/** Where bytes come from; both calls are idempotent. */
export interface Source {
  pause(): void
  resume(): void
}
