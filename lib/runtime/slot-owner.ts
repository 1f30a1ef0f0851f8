import type { WorkerSlots } from './worker-slots.ts'

/** What the slots of a worker need of the whole. */
export interface SlotOwner {
  readonly seat: number
  readonly seats: number
  /** Control cannot be asked. */
  readonly away: boolean
  now(): number
  /** There is something to tell control of it; it will be asked for `note` at the end of the turn. */
  touch(slots: WorkerSlots): void
  /** It has more than its share, and is to be looked after. */
  watch(slots: WorkerSlots): void
  /** A question is under way. */
  asked(): void
  /** Runs it when this turn's events have been dealt with. */
  defer(run: () => void): void
  forget(slots: WorkerSlots): void
}
