import type { WatchdogConfig } from '../config/watchdog.ts'

/** How often a process was late, by Envoy's name of its thread (`main_thread`, `worker_0`). */
export interface ProcessMisses {
  readonly process: string
  readonly miss: number
  readonly megaMiss: number
}

export interface WatchdogOptions {
  /** Of all processes that are watched, by which they are counted; they are shown from the start. */
  readonly names: readonly string[]
  /** Silence that counts as death where the configuration says nothing. */
  readonly killMs: number
  readonly random: () => number
  /** `misses` is another one. */
  counted(): void
}

const LONGEST_INTERVAL_MS = 500
const SHORTEST_INTERVAL_MS = 10

/** What the supervisor thinks of the silence of processes of one kind (Envoy's GuardDog); counts outlive the processes. */
export class Watchdog {
  readonly #options: WatchdogOptions
  readonly #counts = new Map<string, { miss: number; megaMiss: number }>()
  readonly #watched = new Set<Watched>()
  #config: WatchdogConfig | undefined = undefined

  constructor(options: WatchdogOptions) {
    this.#options = options
    for (const name of options.names) this.#counts.set(name, { miss: 0, megaMiss: 0 })
  }

  /** From now on; undefined: nothing is counted. */
  configure(config: WatchdogConfig | undefined): void {
    this.#config = config
    for (const watched of this.#watched) watched.jitter = this.#options.random()
  }

  get misses(): readonly ProcessMisses[] {
    return [...this.#counts].map(([process, counts]) => ({ process, ...counts }))
  }

  /** How often the processes are to be asked; half of the shortest time that anything is thought after. */
  get intervalMs(): number {
    const config = this.#config
    if (config === undefined) return LONGEST_INTERVAL_MS
    const { missMs, megaMissMs, killMs = 0, multikillMs = 0 } = config
    const times = [missMs, megaMissMs, killMs, multikillMs].filter((ms) => ms > 0)
    return Math.min(Math.max(Math.min(...times) / 2, SHORTEST_INTERVAL_MS), LONGEST_INTERVAL_MS)
  }

  /** A process of that name has been started. */
  watch(name: string): Watched {
    const watched = new Watched(name, this, this.#options.random())
    this.#watched.add(watched)
    return watched
  }

  /** Of `Watched`. */
  forget(watched: Watched): void {
    this.#watched.delete(watched)
  }

  /** Of `Watched`: it has said nothing for so long. True: it is to be killed. */
  judge(watched: Watched, silentMs: number): boolean {
    watched.silentMs = silentMs
    const config = this.#config
    if (config !== undefined) this.#count(watched, config)
    const { killMs = this.#options.killMs, killJitterMs = 0 } = config ?? {}
    if (silentMs >= killMs + watched.jitter * killJitterMs) return true
    if (config !== undefined) this.#condemn(config)
    return watched.condemned
  }

  #count(watched: Watched, { missMs, megaMissMs }: WatchdogConfig): void {
    const { silentMs, name } = watched
    if (silentMs < Math.min(missMs, megaMissMs)) {
      watched.missed = watched.megaMissed = false
      return
    }
    const counts = this.#counts.get(name)
    if (counts === undefined) return
    const missed = silentMs >= missMs && !watched.missed
    const megaMissed = silentMs >= megaMissMs && !watched.megaMissed
    if (missed) {
      watched.missed = true
      counts.miss++
    }
    if (megaMissed) {
      watched.megaMissed = true
      counts.megaMiss++
    }
    if (missed || megaMissed) this.#options.counted()
  }

  #condemn({ multikillMs = 0, multikillPercent = 0 }: WatchdogConfig): void {
    if (multikillMs <= 0) return
    const silent = [...this.#watched].filter(({ silentMs }) => silentMs >= multikillMs)
    const enough = Math.max(2, Math.ceil((multikillPercent * this.#watched.size) / 100))
    if (silent.length >= enough) for (const one of silent) one.condemned = true
  }
}

/** One process that is watched. */
export class Watched {
  readonly name: string
  readonly #watchdog: Watchdog
  /** Its part of what chance adds to the time that it has, in [0, 1). */
  jitter: number
  silentMs = 0
  missed = false
  megaMissed = false
  /** It hangs along with others. */
  condemned = false

  constructor(name: string, watchdog: Watchdog, jitter: number) {
    this.name = name
    this.#watchdog = watchdog
    this.jitter = jitter
  }

  /** How often it is to be asked. */
  get intervalMs(): number {
    return this.#watchdog.intervalMs
  }

  /** It has said something. */
  heard(): void {
    this.silentMs = 0
    this.condemned = false
  }

  /** It has said nothing for so long. True: it is to be killed. */
  silent(forMs: number): boolean {
    return this.#watchdog.judge(this, forMs)
  }

  /** It is gone. */
  end(): void {
    this.#watchdog.forget(this)
  }
}
