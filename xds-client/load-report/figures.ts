import type { ClusterLoad, HostLoad } from '../../lib/core/status.ts'

/** What one host has counted and nobody has reported. */
export interface HostFigures {
  readonly host: HostLoad
  issued: number
  success: number
  error: number
  active: number
}

/** What is reported of one cluster. */
export interface TakenFigures {
  readonly localities: readonly HostFigures[][]
  readonly dropped: number
  readonly drops: ReadonlyMap<string, number>
  readonly elapsedMs: number
}

/** What one cluster has counted and nobody has reported. */
export class ClusterFigures {
  readonly name: string
  /** When counting began: after the last report. ms, of the clock of the client. */
  sinceMs: number
  dropped = 0
  /** Of those, what was dropped on purpose, by category. */
  #drops = new Map<string, number>()
  readonly #hosts = new Map<string, HostFigures>()

  constructor(name: string, sinceMs: number) {
    this.name = name
    this.sinceMs = sinceMs
  }

  add(load: ClusterLoad): void {
    this.dropped += load.dropped
    for (const [category, count] of load.drops ?? []) {
      this.#drops.set(category, (this.#drops.get(category) ?? 0) + count)
    }
    for (const host of load.hosts) {
      const key = `${host.address} ${localityKey(host)}`
      const known = this.#hosts.get(key)
      if (known === undefined) {
        const { issued, success, error, active } = host
        this.#hosts.set(key, { host, issued, success, error, active })
        continue
      }
      known.issued += host.issued
      known.success += host.success
      known.error += host.error
      known.active = host.active
    }
  }

  /** Forgets what was under way: the next figures tell it anew. */
  nothingUnderWay(): void {
    for (const figures of this.#hosts.values()) figures.active = 0
  }

  /** Takes what is there, by locality and priority; `active` begins anew with the next figures. */
  take(nowMs: number): TakenFigures {
    const groups = new Map<string, HostFigures[]>()
    for (const figures of this.#hosts.values()) {
      const key = localityKey(figures.host)
      const group = groups.get(key)
      if (group === undefined) groups.set(key, [figures])
      else group.push(figures)
    }
    const { dropped } = this
    const drops = this.#drops
    this.#drops = new Map()
    const elapsedMs = nowMs - this.sinceMs
    this.#hosts.clear()
    this.dropped = 0
    this.sinceMs = nowMs
    return { localities: [...groups.values()], dropped, drops, elapsedMs }
  }
}

function localityKey(host: HostLoad): string {
  return `${host.priority} ${JSON.stringify([host.region, host.zone, host.subZone])}`
}
