import { isDeepStrictEqual } from 'node:util'
import type { ListenerConfig } from '../../lib/config/listener.ts'
import type { Counter, Gauge, Metrics } from '../../lib/core/metrics.ts'
import { KINDS, type Kind } from './kinds.ts'
import type { Resource } from './resource.ts'

/** Counters and gauges of one kind that is there by itself. */
class Tally {
  readonly #metrics: Metrics
  readonly #counters: string
  readonly #active: Gauge
  readonly #warming: Gauge
  readonly #inForce = new Set<Resource>()
  readonly #waiting = new Set<Resource>()
  /** Never in force yet. */
  readonly #starting = new Set<Resource>()

  constructor(metrics: Metrics, counters: string, active: string, warming: string) {
    this.#metrics = metrics
    this.#counters = counters
    this.#active = metrics.gauge(active)
    this.#warming = metrics.gauge(warming)
    for (const what of ['added', 'modified', 'removed'] as const) this.#count(what, 0)
  }

  get starting(): number {
    return this.#starting.size
  }

  accepted(resource: Resource, isNew: boolean): void {
    this.#count(isNew ? 'added' : 'modified', 1)
    this.#waiting.add(resource)
    if (isNew) this.#starting.add(resource)
    this.#show()
  }

  promoted(resource: Resource): void {
    this.#waiting.delete(resource)
    this.#starting.delete(resource)
    this.#inForce.add(resource)
    this.#show()
  }

  dropped(resource: Resource): void {
    const known = this.#waiting.delete(resource)
    this.#starting.delete(resource)
    if (this.#inForce.delete(resource) || known) this.#count('removed', 1)
    this.#show()
  }

  #count(what: 'added' | 'modified' | 'removed', by: number): void {
    this.#metrics.counter(`${this.#counters}_${what}`).v += by
  }

  #show(): void {
    this.#active.v = this.#inForce.size
    this.#warming.v = this.#waiting.size
  }
}

/** What Envoy counts of its managers of clusters and of listeners, and what is refused now. */
export class Statistics {
  readonly #metrics: Metrics
  readonly #clusters: Tally
  readonly #listeners: Tally
  /** Clusters with other endpoints. */
  readonly #updated: Counter
  readonly #inPlace: Counter

  constructor(metrics: Metrics) {
    this.#metrics = metrics
    this.#updated = metrics.counter('cluster_manager.cluster_updated')
    this.#inPlace = metrics.counter('listener_manager.listener_in_place_updated')
    for (const { service } of KINDS.values()) metrics.gauge(`headgate.xds.rejected.${service}`)
    this.#clusters = new Tally(
      metrics,
      'cluster_manager.cluster',
      'cluster_manager.active_clusters',
      'cluster_manager.warming_clusters',
    )
    this.#listeners = new Tally(
      metrics,
      'listener_manager.listener',
      'listener_manager.total_listeners_active',
      'listener_manager.total_listeners_warming',
    )
  }

  /** How many of a kind are there and have never been in force. */
  starting(kind: 'cluster' | 'listener'): number {
    return kind === 'cluster' ? this.#clusters.starting : this.#listeners.starting
  }

  accepted(resource: Resource, isNew: boolean): void {
    this.#of(resource.facts.kind)?.accepted(resource, isNew)
  }

  /** `first`: nothing of it was in force before. */
  promoted(resource: Resource, first: boolean): void {
    const { kind } = resource.facts
    this.#of(kind)?.promoted(resource)
    if (first) return
    if (kind === 'assignment') this.#updated.v++
    else if (kind === 'listener' && keepsAddresses(resource)) this.#inPlace.v++
  }

  dropped(resource: Resource): void {
    this.#of(resource.facts.kind)?.dropped(resource)
  }

  /** The newest version of one more, or one less, is refused. */
  failures(resource: Resource, delta: 1 | -1): void {
    this.#metrics.gauge(`headgate.xds.rejected.${resource.facts.service}`).v += delta
  }

  /** One more, or one less, is from the state directory and not confirmed. */
  stale(delta: 1 | -1): void {
    this.#metrics.gauge('headgate.xds.stale').v += delta
  }

  /** Workers could not use one that was published. */
  refused(kind: Kind): void {
    this.#metrics.counter(`headgate.xds.refused_by_workers.${kind}`).v++
  }

  #of(kind: Kind): Tally | undefined {
    return kind === 'cluster' ? this.#clusters : kind === 'listener' ? this.#listeners : undefined
  }
}

/** The newest version of a listener takes over the sockets of the one before. */
function keepsAddresses({ previous, active }: Resource): boolean {
  const before = previous?.config as ListenerConfig | undefined
  const after = active?.config as ListenerConfig | undefined
  return isDeepStrictEqual(before?.addresses, after?.addresses)
}
