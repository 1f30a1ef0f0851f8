import { close, write } from 'node:fs'
import type { Cancel, Clock } from '../../core/clock.ts'
import type { Counter, Gauge, Log, Metrics } from '../../core/metrics.ts'

/** When buffered lines are written. */
export type FlushPolicy = 'turn' | 'timer'

/** A buffer of this size is written at once. */
const BATCH_CHARS = 16 * 1024
/** Of one UTF-16 code unit, at most. */
const UTF8_BYTES = 3
/** Lines beyond this wait in vain: the disk or the pipe has stalled. */
const LIMIT_CHARS = 1024 * 1024
/**
 * What a process that is killed has written to its files is whole but for the last 200 ms: half of that is left to a busy
 * machine, for the timer and the write itself.
 */
const FLUSH_INTERVAL_MS = 100
/** A full pipe is tried again after this. */
const RETRY_MS = 5
/** Complaints about one sink are logged at most this often. */
const COMPLAINT_MS = 60_000

const NEWLINE = 0x0a

/** Counts of all sinks together, under Envoy's names where it has them. */
export interface SinkStats {
  readonly completed: Counter
  readonly failed: Counter
  readonly byTimer: Counter
  readonly buffered: Gauge
  readonly dropped: Counter
}

export function sinkStats(metrics: Metrics): SinkStats {
  return {
    completed: metrics.counter('filesystem.write_completed'),
    failed: metrics.counter('filesystem.write_failed'),
    byTimer: metrics.counter('filesystem.flushed_by_timer'),
    buffered: metrics.gauge('filesystem.write_total_buffered'),
    dropped: metrics.counter('access_logs.lines_dropped'),
  }
}

export interface LineSinkOptions {
  /** For messages: the path, or `stdout`. */
  readonly name: string
  readonly fd: number
  /** The sink closes the descriptor it writes to; false for those it was lent. */
  readonly ownsFd: boolean
  readonly policy: FlushPolicy
  /** Pipes: at most so many bytes per write, ending with a line, so that other processes' lines do not cut into ours. */
  readonly atomicBytes: number | undefined
  readonly clock: Clock
  readonly log: Log
  readonly stats: SinkStats
}

/** The bytes on their way to the system, and how many lines they hold. */
interface Batch {
  readonly fd: number
  readonly buffer: Buffer
  readonly lines: number
  offset: number
}

/**
 * Writes lines to a descriptor in batches, one write at a time, without ever making a caller wait.
 *
 * ```
 *  write() ─▶ pending (≤ 1 MiB, else dropped) ── 16 KiB, end of turn, or 100 ms ──▶ batch ─▶ fs.write ─▶ next batch
 *                                                                                      ▲        │ EAGAIN: again after 5 ms
 *                                                                                      └────────┘ other errors: batch dropped
 * ```
 */
export class LineSink {
  readonly #options: LineSinkOptions
  #fd: number
  #pending = ''
  #pendingLines = 0
  /** When the first of them came; for files that the timer flushes. */
  #pendingSinceMs = 0
  #batch: Batch | undefined
  #memory: Buffer | undefined = undefined
  #cancelTimer: Cancel | undefined
  #cancelRetry: Cancel | undefined
  #turnQueued = false
  /** A batch broke off within a line: the next begins on a new one. */
  #torn = false
  /** The reader of a pipe has gone: nothing will ever arrive. */
  #broken = false
  #closed = false
  /** The deadline of `close` has passed. */
  #abandoned = false
  #nextComplaintMs = 0
  #whenIdle: (() => void) | undefined

  constructor(options: LineSinkOptions) {
    this.#options = options
    this.#fd = options.fd
  }

  /** Takes a line with its newline. */
  write(line: string): void {
    if (line === '') return
    if (this.#closed || this.#broken || this.#pending.length + line.length > LIMIT_CHARS) {
      this.#options.stats.dropped.v++
      return
    }
    if (this.#pendingLines === 0 && this.#options.policy === 'timer') this.#pendingSinceMs = this.#options.clock.now()
    this.#pending += line
    this.#pendingLines++
    this.#options.stats.buffered.v += line.length
    if (this.#pending.length >= BATCH_CHARS) this.#flush()
    else this.#flushLater()
  }

  /** From now on lines go to another descriptor; what is being written is finished on the old one. */
  replace(fd: number): void {
    const old = this.#fd
    this.#fd = fd
    this.#broken = false
    this.#torn = false
    // Otherwise it is released when that batch is done.
    if (this.#batch?.fd !== old) this.#release(old)
  }

  /** Resolves when everything is written, or given up after `deadlineMs`. Later lines are dropped. Idempotent. */
  async close(deadlineMs: number): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#flush()
    if (this.#batch !== undefined) await this.#drain(deadlineMs)
    this.#abandoned = true
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    this.#dropPending()
    // A write that has not come back still uses its descriptor, and settles the rest when it does.
    const batch = this.#batch
    if (batch?.fd !== this.#fd) this.#release(this.#fd)
    if (batch === undefined || this.#cancelRetry === undefined) return
    this.#cancelRetry()
    this.#giveUp(batch)
  }

  async #drain(deadlineMs: number): Promise<void> {
    // Clock timers do not keep the process alive, and this must.
    const keepAlive = setInterval(() => {}, 60_000)
    let cancel: Cancel = () => {}
    await new Promise<void>((resolve) => {
      this.#whenIdle = resolve
      cancel = this.#options.clock.schedule(deadlineMs, resolve)
    })
    cancel()
    this.#whenIdle = undefined
    clearInterval(keepAlive)
  }

  #flushLater(): void {
    if (this.#options.policy === 'turn') {
      if (this.#turnQueued) return
      this.#turnQueued = true
      setImmediate(() => {
        this.#turnQueued = false
        this.#flush()
      })
      return
    }
    if (this.#cancelTimer !== undefined || this.#batch !== undefined) return
    // Lines that came while a batch was being written have waited for some of the time already.
    const waitedMs = this.#options.clock.now() - this.#pendingSinceMs
    this.#cancelTimer = this.#options.clock.schedule(Math.max(0, FLUSH_INTERVAL_MS - waitedMs), () => {
      this.#cancelTimer = undefined
      this.#options.stats.byTimer.v++
      this.#flush()
    })
  }

  #flush(): void {
    if (this.#batch !== undefined || this.#pendingLines === 0) return
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    const buffer = this.#encode(this.#torn ? `\n${this.#pending}` : this.#pending)
    this.#torn = false
    this.#batch = { fd: this.#fd, buffer, lines: this.#pendingLines, offset: 0 }
    this.#options.stats.buffered.v -= this.#pending.length
    this.#pending = ''
    this.#pendingLines = 0
    this.#send(this.#batch)
  }

  /** One batch is on its way at a time, and so nearly all of them find their bytes' place here. */
  #encode(text: string): Buffer {
    if (text.length > BATCH_CHARS * 2) return Buffer.from(text, 'utf8')
    this.#memory ??= Buffer.allocUnsafeSlow(BATCH_CHARS * 2 * UTF8_BYTES)
    return this.#memory.subarray(0, this.#memory.write(text, 'utf8'))
  }

  #send(batch: Batch): void {
    const length = this.#pieceEnd(batch) - batch.offset
    write(batch.fd, batch.buffer, batch.offset, length, null, (error, written) => {
      if (error === null) batch.offset += written
      if (batch.offset === batch.buffer.length) {
        this.#options.stats.completed.v++
        this.#finish(batch)
      } else if (this.#abandoned) this.#giveUp(batch)
      else if (error === null) this.#send(batch)
      else if (error.code === 'EAGAIN') this.#retryLater(batch)
      else this.#fail(batch, error)
    })
  }

  #retryLater(batch: Batch): void {
    this.#cancelRetry = this.#options.clock.schedule(RETRY_MS, () => {
      this.#cancelRetry = undefined
      this.#send(batch)
    })
  }

  #giveUp(batch: Batch): void {
    this.#options.stats.dropped.v += unwrittenLines(batch)
    this.#finish(batch)
  }

  #pieceEnd({ buffer, offset }: Batch): number {
    const limit = this.#options.atomicBytes
    if (limit === undefined || buffer.length - offset <= limit) return buffer.length
    const newline = buffer.lastIndexOf(NEWLINE, offset + limit - 1)
    if (newline >= offset) return newline + 1
    // A line longer than the limit cannot be written whole in any case.
    const next = buffer.indexOf(NEWLINE, offset)
    return next < 0 ? buffer.length : next + 1
  }

  #fail(batch: Batch, error: NodeJS.ErrnoException): void {
    const { stats, clock, log, name } = this.#options
    stats.failed.v++
    stats.dropped.v += unwrittenLines(batch)
    // Where nothing was written, a batch that was to end a torn line leaves it torn.
    const { buffer, offset } = batch
    this.#torn = batch.fd === this.#fd && (offset === 0 ? buffer[0] === NEWLINE : buffer[offset - 1] !== NEWLINE)
    if (error.code === 'EPIPE' && batch.fd === this.#fd) {
      this.#broken = true
      this.#dropPending()
    }
    if (clock.now() >= this.#nextComplaintMs) {
      this.#nextComplaintMs = clock.now() + COMPLAINT_MS
      log.error(`cannot write the access log ${name}: ${error.message}`, { dropped: stats.dropped.v })
    }
    this.#finish(batch)
  }

  #finish(batch: Batch): void {
    this.#batch = undefined
    if (batch.fd !== this.#fd || this.#abandoned) this.#release(batch.fd)
    if (this.#pendingLines > 0) {
      if (this.#closed || this.#pending.length >= BATCH_CHARS) this.#flush()
      else this.#flushLater()
    } else this.#whenIdle?.()
  }

  #dropPending(): void {
    const { stats } = this.#options
    stats.dropped.v += this.#pendingLines
    stats.buffered.v -= this.#pending.length
    this.#pending = ''
    this.#pendingLines = 0
  }

  #release(fd: number): void {
    if (this.#options.ownsFd) close(fd, () => {})
  }
}

/** Lines of which at least the end was not written. */
function unwrittenLines({ buffer, offset, lines }: Batch): number {
  if (offset === 0) return lines
  let count = 0
  for (let at = buffer.indexOf(NEWLINE, offset); at >= 0; at = buffer.indexOf(NEWLINE, at + 1)) count++
  return Math.min(count, lines)
}
