import { readdirSync, readFileSync } from 'node:fs'
import type { Cancel, Clock } from '../core/clock.ts'
import type { Log } from '../core/metrics.ts'
import { cLibrary } from './c-library.ts'

/** After the signal that a child has ended: several end at once, and our own are collected by the runtime meanwhile. */
const SETTLE_MS = 100
/** Signals of the same kind are one; nothing is missed for longer than this. */
const LOOK_MS = 30_000

const WNOHANG = 1

/** Collects one process that has ended, if it is a child of ours; never waits. */
export type Collect = (pid: number) => void

export interface OrphanOptions {
  /** This process. */
  readonly process: NodeJS.Process
  readonly clock: Clock
  readonly log: Log
  /** Process ids of children that the runtime waits for: they must be left to it. */
  own(): Iterable<number>
  /** Default: `waitpid` of the C library; undefined where there is none. */
  readonly collect?: () => Collect | undefined
}

/**
 * For PID 1 of a container: processes that somebody else started there (`kubectl exec`, a hook) and whose parents are gone
 * become its children, and stay as zombies, each with a process id, until they are waited for. Node waits for its own
 * children only. So whenever a child has ended, and every half minute, children that have ended and are none of ours are
 * waited for one by one, by their numbers: no call here could take away the end of a child that the runtime waits for.
 * Dispose to stop.
 */
export class Orphans implements Disposable {
  readonly #options: OrphanOptions
  #collect: Collect | undefined
  #missing = false
  #soon: Cancel | undefined
  #cancel: Cancel

  constructor(options: OrphanOptions) {
    this.#options = options
    options.process.on('SIGCHLD', this.#ended)
    this.#cancel = options.clock.schedule(LOOK_MS, this.#regularly)
    this.#ended()
  }

  readonly #ended = (): void => {
    this.#soon ??= this.#options.clock.schedule(SETTLE_MS, () => {
      this.#soon = undefined
      this.#look()
    })
  }

  readonly #regularly = (): void => {
    this.#cancel = this.#options.clock.schedule(LOOK_MS, this.#regularly)
    this.#look()
  }

  #look(): void {
    const ended = endedChildren(this.#options.process.pid)
    if (ended.length === 0) return
    const own = new Set(this.#options.own())
    for (const pid of ended) if (!own.has(pid)) this.#take(pid)
  }

  #take(pid: number): void {
    if (this.#missing) return
    const { process: self, log, collect = () => waitpid(self) } = this.#options
    this.#collect ??= collect()
    if (this.#collect !== undefined) {
      this.#collect(pid)
      log.debug('collected a process that somebody else had started', { pid })
      return
    }
    this.#missing = true
    log.warn(
      'processes that somebody else started here cannot be collected when they end; start the container with an init',
    )
  }

  [Symbol.dispose](): void {
    this.#options.process.off('SIGCHLD', this.#ended)
    this.#cancel()
    this.#soon?.()
  }
}

/** Loaded when there is something to collect, which is never in most containers. */
function waitpid(self: NodeJS.Process): Collect | undefined {
  const library = cLibrary(self, { waitpid: { arguments: ['int32', 'uint64', 'int32'], return: 'int32' } })
  return library && ((pid) => void library.waitpid(pid, 0n, WNOHANG))
}

/** Children of that process that have ended and were not waited for (proc_pid_stat(5): `pid (name) state ppid`). */
function endedChildren(parent: number): number[] {
  const ended: number[] = []
  for (const name of entries('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === parent) continue
    const stat = contents(`/proc/${pid}/stat`)
    // A name may contain anything.
    const [state, ppid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ', 2)
    if (state === 'Z' && Number(ppid) === parent) ended.push(pid)
  }
  return ended
}

function entries(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

function contents(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    // It is gone meanwhile.
    return ''
  }
}
