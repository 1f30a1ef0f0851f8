import type { ClusterLoad, HostLoad } from '../core/status.ts'

/** Keeps what hosts count for one consumer, until it takes it. */
export interface LoadReader extends Disposable {
  /** What was counted since the last time, workers that ended in between included. Clusters without traffic may be left out. */
  take(): Promise<readonly ClusterLoad[]>
}

interface LedgerOptions {
  /** Makes every worker push what it has; resolves when those that answer have done so. */
  readonly refresh: () => Promise<void>
}

interface HostTally {
  readonly host: HostLoad
  issued: number
  success: number
  error: number
}

interface ClusterTally {
  dropped: number
  /** By category; undefined: none. */
  drops: Map<string, number> | undefined
  readonly hosts: Map<string, HostTally>
}

/** Requests under way on one host in each worker. */
interface ActiveHost {
  readonly host: HostLoad
  readonly byWorker: Map<number, number>
}

/**
 * Adds up what the workers' hosts count and hands it to readers, to each of them all of it once. Differences cannot be lost
 * with the worker or the host that counted them; what is under way on a host is forgotten with its worker.
 */
export class LoadLedger {
  readonly #refresh: () => Promise<void>
  readonly #readers = new Set<Tally>()
  readonly #active = new Map<string, Map<string, ActiveHost>>()

  constructor(options: LedgerOptions) {
    this.#refresh = options.refresh
  }

  /** Somebody reads: workers are to count. */
  get wanted(): boolean {
    return this.#readers.size > 0
  }

  /** Takes what a worker pushed. */
  add(worker: number, loads: readonly ClusterLoad[]): void {
    for (const load of loads) {
      for (const host of load.hosts) this.#noteActive(worker, load.name, host)
      for (const reader of this.#readers) reader.add(load)
    }
  }

  /** The worker has ended: nothing is under way there any more. */
  retire(worker: number): void {
    for (const [cluster, hosts] of this.#active) {
      for (const [key, active] of hosts) {
        if (active.byWorker.delete(worker) && active.byWorker.size === 0) hosts.delete(key)
      }
      if (hosts.size === 0) this.#active.delete(cluster)
    }
  }

  /** A reader of what is counted from now on; it keeps memory until it is disposed. */
  reader(): LoadReader {
    const tally = new Tally()
    this.#readers.add(tally)
    return {
      take: async () => {
        await this.#refresh()
        return tally.take(this.#active)
      },
      [Symbol.dispose]: () => void this.#readers.delete(tally),
    }
  }

  #noteActive(worker: number, cluster: string, host: HostLoad): void {
    const key = keyOf(host)
    let hosts = this.#active.get(cluster)
    const known = hosts?.get(key)
    if (host.active === 0) {
      if (known === undefined || !known.byWorker.delete(worker) || known.byWorker.size > 0) return
      hosts?.delete(key)
      if (hosts?.size === 0) this.#active.delete(cluster)
      return
    }
    if (hosts === undefined) this.#active.set(cluster, (hosts = new Map()))
    if (known !== undefined) known.byWorker.set(worker, host.active)
    else hosts.set(key, { host, byWorker: new Map([[worker, host.active]]) })
  }
}

/** What one reader has not taken yet. */
class Tally {
  #clusters = new Map<string, ClusterTally>()

  add(load: ClusterLoad): void {
    const cluster = this.#cluster(load.name)
    cluster.dropped += load.dropped
    for (const [category, count] of load.drops ?? []) {
      cluster.drops ??= new Map()
      cluster.drops.set(category, (cluster.drops.get(category) ?? 0) + count)
    }
    for (const host of load.hosts) {
      if (host.issued === 0 && host.success === 0 && host.error === 0) continue
      const tally = hostTally(cluster, host)
      tally.issued += host.issued
      tally.success += host.success
      tally.error += host.error
    }
  }

  take(active: ReadonlyMap<string, ReadonlyMap<string, ActiveHost>>): ClusterLoad[] {
    for (const [name, hosts] of active) {
      const cluster = this.#cluster(name)
      for (const { host } of hosts.values()) hostTally(cluster, host)
    }
    const clusters = this.#clusters
    this.#clusters = new Map()
    return [...clusters].map(([name, { dropped, drops, hosts }]) => ({
      name,
      dropped,
      ...(drops && { drops: [...drops] }),
      hosts: [...hosts].map(([key, { host, issued, success, error }]) => ({
        ...host,
        issued,
        success,
        error,
        active: sum(active.get(name)?.get(key)?.byWorker),
      })),
    }))
  }

  #cluster(name: string): ClusterTally {
    let cluster = this.#clusters.get(name)
    if (cluster === undefined) this.#clusters.set(name, (cluster = { dropped: 0, drops: undefined, hosts: new Map() }))
    return cluster
  }
}

function hostTally(cluster: ClusterTally, host: HostLoad): HostTally {
  const key = keyOf(host)
  let tally = cluster.hosts.get(key)
  if (tally === undefined) cluster.hosts.set(key, (tally = { host, issued: 0, success: 0, error: 0 }))
  return tally
}

/** A host that moves to another locality counts there from then on. */
function keyOf(host: HostLoad): string {
  return `${host.address} ${host.priority} ${JSON.stringify([host.region, host.zone, host.subZone])}`
}

function sum(values: ReadonlyMap<number, number> | undefined): number {
  let total = 0
  if (values !== undefined) for (const value of values.values()) total += value
  return total
}
