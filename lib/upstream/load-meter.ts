import type { Counter, Metrics } from '../core/metrics.ts'
import type { ClusterLoad, HostLoad } from '../core/status.ts'
import type { Host } from './host.ts'

/** What is measured of a cluster. */
export interface MeteredCluster {
  readonly name: string
  readonly statName: string
  readonly hosts: { readonly all: readonly Host[]; readonly dropCategory: string }
  /** Nobody has asked for a host yet: there is nothing to look at. */
  readonly untouched?: boolean
}

/** What a host had counted when it was looked at last. */
interface HostMark {
  readonly cluster: string
  round: number
  issued: number
  success: number
  error: number
  active: number
}

interface DropMark {
  cluster: MeteredCluster
  cells: readonly Counter[]
  last: number
  /** Of the last of the cells. */
  overload: number
}

/** Requests that were turned away for the cluster's sake, as Envoy's load reports count them. */
const DROPS: readonly string[] = Object.freeze([
  'upstream_rq_pending_overflow',
  'upstream_rq_maintenance_mode',
  'upstream_rq_drop_overload',
])

/** A load that is being put together. */
interface Tally {
  dropped: number
  drops?: ClusterLoad['drops']
  readonly hosts: HostLoad[]
}

/**
 * Takes differences of what the hosts of all clusters count. A host is known by its object, so that one which is removed and
 * comes back starts anew, and requests that end on a host after its removal count all the same. A host that comes and goes
 * between two looks is not seen. Looking costs a comparison per host.
 */
export class LoadMeter {
  readonly #metrics: Metrics
  readonly #hosts = new Map<Host, HostMark>()
  readonly #drops = new Map<string, DropMark>()
  #round = 0

  constructor(metrics: Metrics) {
    this.#metrics = metrics
  }

  /** What was counted since the last time; the first time: nothing but requests under way. Clusters with nothing are left out. */
  next(clusters: Iterable<MeteredCluster>): ClusterLoad[] {
    this.#round++
    const loads = new Map<string, Tally>()
    const names = new Set<string>()
    const load = (name: string): Tally => {
      let found = loads.get(name)
      if (found === undefined) loads.set(name, (found = { dropped: 0, hosts: [] }))
      return found
    }
    for (const cluster of clusters) {
      names.add(cluster.name)
      const { dropped, overload } = this.#dropped(cluster)
      if (dropped > 0) load(cluster.name).dropped = dropped
      if (overload > 0) load(cluster.name).drops = [[cluster.hosts.dropCategory, overload]]
      if (cluster.untouched === true) continue
      for (const host of cluster.hosts.all) {
        const difference = this.#look(host, this.#hosts.get(host) ?? this.#meet(host, cluster.name))
        if (difference !== undefined) load(cluster.name).hosts.push(difference)
      }
    }
    this.#readDeparted((cluster, difference) => load(cluster).hosts.push(difference))
    for (const name of this.#drops.keys()) if (!names.has(name)) this.#drops.delete(name)
    return [...loads].map(([name, tally]) => ({ name, ...tally }))
  }

  /** Hosts of the first round have counted before anybody asked; later ones are new. */
  #meet(host: Host, cluster: string): HostMark {
    const mark: HostMark = { cluster, round: 0, issued: 0, success: 0, error: 0, active: 0 }
    if (this.#round === 1) {
      mark.issued = host.rqTotal
      mark.success = host.rqSuccess
      mark.error = host.rqError
    }
    this.#hosts.set(host, mark)
    return mark
  }

  #look(host: Host, mark: HostMark): HostLoad | undefined {
    mark.round = this.#round
    const { rqTotal, rqSuccess, rqError, rqActive } = host
    const same = rqTotal === mark.issued && rqSuccess === mark.success && rqError === mark.error
    if (same && rqActive === 0 && mark.active === 0) return undefined
    const { locality } = host
    const load: HostLoad = {
      address: host.addressText,
      priority: host.priority,
      region: locality?.region ?? '',
      zone: locality?.zone ?? '',
      subZone: locality?.subZone ?? '',
      issued: rqTotal - mark.issued,
      success: rqSuccess - mark.success,
      error: rqError - mark.error,
      active: rqActive,
    }
    mark.issued = rqTotal
    mark.success = rqSuccess
    mark.error = rqError
    mark.active = rqActive
    return load
  }

  /** Hosts that no cluster has any more, until their last request has ended. */
  #readDeparted(found: (cluster: string, load: HostLoad) => void): void {
    for (const [host, mark] of this.#hosts) {
      if (mark.round === this.#round) continue
      const round = mark.round
      const load = this.#look(host, mark)
      mark.round = round
      if (load !== undefined) found(mark.cluster, load)
      if (host.rqActive === 0) this.#hosts.delete(host)
    }
  }

  #dropped(cluster: MeteredCluster): { readonly dropped: number; readonly overload: number } {
    let mark = this.#drops.get(cluster.name)
    if (mark?.cluster !== cluster) {
      const cells = DROPS.map((name) => this.#metrics.counter(`cluster.${cluster.statName}.${name}`))
      const same = mark?.cells.every((cell, i) => cell === cells[i]) === true
      const first = this.#round === 1
      const last = same ? (mark?.last ?? 0) : first ? total(cells) : 0
      const overload = same ? (mark?.overload ?? 0) : first ? (cells.at(-1)?.v ?? 0) : 0
      mark = { cluster, cells, last, overload }
      this.#drops.set(cluster.name, mark)
    }
    const now = total(mark.cells)
    const onPurpose = mark.cells.at(-1)?.v ?? 0
    const difference = { dropped: now - mark.last, overload: onPurpose - mark.overload }
    mark.last = now
    mark.overload = onPurpose
    return difference
  }
}

function total(cells: readonly Counter[]): number {
  let sum = 0
  for (const cell of cells) sum += cell.v
  return sum
}
