import { constants, fstatSync, openSync } from 'node:fs'
import { type Clock, systemClock } from '../../core/clock.ts'
import type { Counter, Log, Metrics } from '../../core/metrics.ts'
import type { AccessLogConfig } from '../config.ts'
import { LineSink, type LineSinkOptions, type SinkStats, sinkStats } from './line-sink.ts'

export type SinkConfig = AccessLogConfig['sink']

export interface AccessLogSinksOptions {
  readonly log: Log
  readonly metrics: Metrics
  /** Default: the system's. */
  readonly clock?: Clock
  /** How long `close` waits for a disk or pipe that does not take its lines; default 5 s. */
  readonly closeDeadlineMs?: number
  /**
   * A file that cannot be opened is told in the log, and what is written to it is lost until log files are opened anew.
   * Default: `open` throws.
   */
  readonly goOnWithout?: boolean
}

/** One user's hold on a sink. */
export interface SinkLease extends Disposable {
  /** Takes a line with its newline; never throws, never waits. */
  write(line: string): void
}

interface Entry {
  readonly sink: LineSink
  /** Undefined for standard output and error. */
  readonly path: string | undefined
  users: number
}

interface Descriptor {
  readonly fd: number
  readonly ownsFd: boolean
  readonly isPipe: boolean
}

/** POSIX promises that a pipe takes this much in one piece; Linux's value. */
const PIPE_BUF = 4_096
/** Not blocking: opening a FIFO without a reader fails instead of hanging, and a full one says so. */
const OPEN_FLAGS = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK

/**
 * The sinks of one gateway. Access logs that name the same file share one descriptor and one buffer, across configuration
 * updates too. Files are flushed every 100 ms or 16 KiB, standard output and error at the end of each turn.
 */
export class AccessLogSinks {
  readonly #entries = new Map<string, Entry>()
  readonly #closing = new Set<Promise<void>>()
  readonly #log: Log
  readonly #clock: Clock
  readonly #stats: SinkStats
  readonly #reopenFailed: Counter
  readonly #closeDeadlineMs: number
  readonly #goOnWithout: boolean

  constructor(options: AccessLogSinksOptions) {
    this.#log = options.log
    this.#clock = options.clock ?? systemClock
    this.#stats = sinkStats(options.metrics)
    this.#reopenFailed = options.metrics.counter('filesystem.reopen_failed')
    this.#closeDeadlineMs = options.closeDeadlineMs ?? 5_000
    this.#goOnWithout = options.goOnWithout === true
  }

  /**
   * The sink of a configuration, opened where it is not open yet. `/dev/stdout` and `/dev/stderr` are the process's own.
   *
   * @throws the system's error where a file cannot be opened, unless it is gone on without.
   */
  open(config: SinkConfig): SinkLease {
    const entry = this.#entry(config)
    entry.users++
    const { sink } = entry
    let held = true
    return {
      write: (line) => sink.write(line),
      [Symbol.dispose]: () => {
        if (held) this.#giveBack(entry)
        held = false
      },
    }
  }

  /** Opens every file anew (after a log rotation). A file that cannot be opened keeps its old descriptor. */
  reopen(): void {
    for (const { sink, path } of this.#entries.values()) {
      if (path === undefined) continue
      try {
        sink.replace(openSync(path, OPEN_FLAGS, 0o644))
      } catch (error) {
        this.#reopenFailed.v++
        this.#log.error(`cannot reopen the access log ${path}`, { error: String(error) })
      }
    }
  }

  /** Writes what is buffered and closes everything; bounded by the deadline. */
  async close(): Promise<void> {
    for (const entry of this.#entries.values()) this.#closeSink(entry.sink)
    this.#entries.clear()
    await Promise.all(this.#closing)
  }

  #entry(config: SinkConfig): Entry {
    const path = config.kind === 'file' ? config.path : `/dev/${config.kind}`
    const standard = path === '/dev/stdout' ? 1 : path === '/dev/stderr' ? 2 : undefined
    let entry = this.#entries.get(path)
    if (entry !== undefined) return entry
    const descriptor = standard === undefined ? this.#openFile(path) : openStandard(standard)
    entry = {
      sink: new LineSink(this.#sinkOptions(path, standard !== undefined, descriptor)),
      path: standard === undefined ? path : undefined,
      users: 0,
    }
    this.#entries.set(path, entry)
    return entry
  }

  #openFile(path: string): Descriptor {
    try {
      return openFile(path)
    } catch (error) {
      if (!this.#goOnWithout) throw error
      this.#reopenFailed.v++
      this.#log.error(`cannot open the log ${path}; it is tried again when log files are reopened`, {
        error: String(error),
      })
      return openFile('/dev/null')
    }
  }

  #sinkOptions(name: string, standard: boolean, { fd, ownsFd, isPipe }: Descriptor): LineSinkOptions {
    return {
      name,
      fd,
      ownsFd,
      policy: standard ? 'turn' : 'timer',
      atomicBytes: isPipe ? PIPE_BUF : undefined,
      clock: this.#clock,
      log: this.#log,
      stats: this.#stats,
    }
  }

  #giveBack(entry: Entry): void {
    entry.users--
    // Standard streams stay: a second sink on the same pipe could cut into the last lines of the first.
    if (entry.users > 0 || entry.path === undefined || this.#entries.get(entry.path) !== entry) return
    this.#entries.delete(entry.path)
    this.#closeSink(entry.sink)
  }

  #closeSink(sink: LineSink): void {
    const closed = sink.close(this.#closeDeadlineMs).finally(() => this.#closing.delete(closed))
    this.#closing.add(closed)
  }
}

function openFile(path: string): Descriptor {
  const fd = openSync(path, OPEN_FLAGS, 0o644)
  return { fd, ownsFd: true, isPipe: fstatSync(fd).isFIFO() }
}

/**
 * A pipe is opened anew through /proc, without blocking: a write to a pipe that nobody reads would otherwise hold a thread
 * for ever, and with it the exit of the process. Files and terminals keep the descriptor, whose position others share.
 */
function openStandard(fd: number): Descriptor {
  const isPipe = fstatSync(fd).isFIFO()
  if (isPipe) {
    try {
      return { fd: openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK), ownsFd: true, isPipe }
    } catch {
      // No /proc: a pipe that stalls then costs a thread.
    }
  }
  return { fd, ownsFd: false, isPipe }
}
