import type {
  EjectionListener,
  EjectionNews,
  HealthChannel,
  HealthFollower,
  HealthLink,
  HealthReport,
  HealthVerdicts,
} from '../core/host-health.ts'

/** So many reports in a message; each tells of a few hundred hosts at most. */
const REPORTS_AT_ONCE = 16
/** Beyond that counts are dropped: whoever should take them does not keep up, and rates are of the moment. */
const MOST_WAITING = 1_000

/**
 * A worker's way to control, which judges hosts for the whole gateway. Nothing is told before control asks; one that comes
 * after another asks again and hears everything, so that nothing is kept for it.
 */
export class RemoteHealth implements HealthLink {
  readonly #send: (reports: readonly HealthReport[]) => Promise<void>
  readonly #followers = new Map<number, HealthFollower>()
  readonly #listeners = new Map<string, EjectionListener[]>()
  readonly #ejected = new Map<string, readonly string[]>()
  #waiting: HealthReport[] = []
  #sending = false
  #asked = false
  #last = 0

  /** `send` resolves when the message has left. */
  constructor(send: (reports: readonly HealthReport[]) => Promise<void>) {
    this.#send = send
  }

  follow(follower: HealthFollower): HealthChannel {
    const cluster = ++this.#last
    this.#followers.set(cluster, follower)
    return {
      cluster,
      tell: (report) => this.#tell(report),
      [Symbol.dispose]: () => void this.#followers.delete(cluster),
    }
  }

  listen(cluster: string, listener: EjectionListener): void {
    const known = this.#listeners.get(cluster)
    if (known === undefined) this.#listeners.set(cluster, [listener])
    else known.push(listener)
  }

  unlisten(cluster: string, listener: EjectionListener): void {
    const left = this.#listeners.get(cluster)?.filter((known) => known !== listener)
    if (left === undefined || left.length === 0) this.#listeners.delete(cluster)
    else this.#listeners.set(cluster, left)
  }

  ejected(cluster: string): readonly string[] | undefined {
    return this.#ejected.get(cluster)
  }

  /** What is ejected in clusters of that name, whoever has told of it. */
  news({ cluster, hosts }: EjectionNews): void {
    if (hosts.length === 0) this.#ejected.delete(cluster)
    else this.#ejected.set(cluster, hosts)
    for (const listener of this.#listeners.get(cluster) ?? []) listener.ejectedElsewhere(hosts)
  }

  /** A control process is there that knows nothing of this worker. */
  asked(): void {
    this.#asked = true
    this.#ejected.clear()
    this.#waiting = []
    for (const [cluster, follower] of this.#followers) {
      for (const report of follower.introduce(cluster)) this.#tell(report)
    }
  }

  get heard(): boolean {
    return this.#asked
  }

  get crowded(): boolean {
    return this.#waiting.length > REPORTS_AT_ONCE
  }

  /** Nobody listens before the next control process asks. */
  controlGone(): void {
    this.#asked = false
    this.#waiting = []
  }

  /** What control says of hosts; of clusters that are gone meanwhile nobody wants to hear. */
  received(verdicts: HealthVerdicts): void {
    const follower = this.#followers.get(verdicts.cluster)
    if (follower === undefined) return
    for (const verdict of verdicts.hosts) follower.heard(verdict)
    for (const host of verdicts.asked ?? []) follower.asked(host)
    for (const weight of verdicts.weights ?? []) follower.weighed(weight)
  }

  #tell(report: HealthReport): void {
    if (!this.#asked || (report.kind === 'counts' && this.#waiting.length > MOST_WAITING)) return
    this.#waiting.push(report)
    if (!this.#sending) void this.#pump()
  }

  /** One message at a time, from the next microtask on: what belongs together travels together. */
  async #pump(): Promise<void> {
    this.#sending = true
    await undefined
    while (this.#waiting.length > 0) await this.#send(this.#waiting.splice(0, REPORTS_AT_ONCE))
    this.#sending = false
  }
}
