/** Cancels a scheduled call; harmless when it has run already. */
export type Cancel = () => void

/** The only source of time. Tests inject one that they move by hand. */
export interface Clock {
  /** Monotonic milliseconds with a fraction; for durations and deadlines. */
  now(): number
  /** Wall-clock milliseconds since the epoch; for logs and dates only. */
  wall(): number
  /** Calls `run` once after `delayMs`. Never keeps the process alive. */
  schedule(delayMs: number, run: () => void): Cancel
}

/** The machine's clock. */
export const systemClock: Clock = Object.freeze({
  now: () => performance.now(),
  wall: () => Date.now(),
  schedule(delayMs: number, run: () => void): Cancel {
    const timer = setTimeout(run, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
})
