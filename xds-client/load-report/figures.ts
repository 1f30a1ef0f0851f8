import type { ClusterLoad, HostLoad } from '../../lib/core/status.ts'

/** What one host has counted and nobody has reported. */
export interface HostFigures {
  readonly host: HostLoad
  issued: number
  success: number
  error: number
  active: number
}

/** What one cluster has counted and nobody has reported. */
export class ClusterFigures {
  readonly name: string
  /** When counting began: after the last report. ms, of the clock of the client. */
  sinceMs: number
  dropped = 0
  readonly #hosts = new Map<string, HostFigures>()

  constructor(name: string, sinceMs: number) {
    this.name = name
    this.sinceMs = sinceMs
  }

  add(load: ClusterLoad): void {
    this.dropped += load.dropped
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
  take(nowMs: number): { readonly localities: HostFigures[][]; readonly dropped: number; readonly elapsedMs: number } {
    const groups = new Map<string, HostFigures[]>()
    for (const figures of this.#hosts.values()) {
      const key = localityKey(figures.host)
      const group = groups.get(key)
      if (group === undefined) groups.set(key, [figures])
      else group.push(figures)
    }
    const { dropped } = this
    const elapsedMs = nowMs - this.sinceMs
    this.#hosts.clear()
    this.dropped = 0
    this.sinceMs = nowMs
    return { localities: [...groups.values()], dropped, elapsedMs }
  }
}

function localityKey(host: HostLoad): string {
  return `${host.priority} ${JSON.stringify([host.region, host.zone, host.subZone])}`
}
