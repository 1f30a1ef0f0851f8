import type { ResourceFailure } from '../../lib/config/status.ts'
import type { Clock } from '../../lib/core/clock.ts'
import type { Log } from '../../lib/core/metrics.ts'
import type { ConfigSourceConfig } from '../config.ts'
import type { Reference } from '../envoy/references.ts'
import { CLUSTER_WAIT_MS, ClusterNames } from './cluster-names.ts'
import { factsOf, KINDS, type Kind, TOP_LEVEL } from './kinds.ts'
import type { Publication } from './publication.ts'
import { Publisher } from './publisher.ts'
import { type Absence, Resource, type Version } from './resource.ts'

/** What the graph asks of whoever has it. */
export interface GraphOptions {
  readonly clock: Clock
  readonly log: Log
  readonly publication: Publication
  /** Clusters can come from somewhere: otherwise nobody waits for one. */
  readonly clustersCanCome: () => boolean
  /** Somebody needs it now, for the first time. */
  wanted(resource: Resource): void
  /** Nobody needs it any more, or it was taken away: it has left the graph, with the version that it had. */
  dropped(resource: Resource): void
  /** It has a newer version, the first one where `isNew`. */
  accepted(resource: Resource, isNew: boolean): void
  /** The newest version of one more (or one less) cannot be used. */
  failures(resource: Resource, delta: 1 | -1): void
  /** One more, or one less, is from the state directory. */
  stale(delta: 1 | -1): void
  /** Its latest version is in force, the first one where `first`. */
  promoted(resource: Resource, first: boolean): void
  /** There is work for the end of the turn. */
  schedule(): void
}

type NodeKind = Exclude<Kind, 'endpoint' | 'virtual-host' | 'scope'>

/**
 * Everything that was delivered or is needed, and who needs what. Works out what is ready from the bottom up, in time that
 * depends on what has changed and on who needs that: a version is in force once everything that it needs has answered, and
 * the one before it stays in force until then.
 */
export class Graph {
  readonly #options: GraphOptions
  readonly #maps = new Map<Kind, Map<string, Resource>>()
  readonly #queues: Resource[][] = []
  readonly #orphans = new Set<Resource>()
  readonly #names: ClusterNames
  readonly #publisher: Publisher

  constructor(options: GraphOptions) {
    this.#options = options
    for (const kind of KINDS.keys()) this.#maps.set(kind, new Map())
    for (let level = 0; level <= TOP_LEVEL; level++) this.#queues.push([])
    this.#names = new ClusterNames({
      clock: options.clock,
      canCome: options.clustersCanCome,
      find: (name) => this.get('cluster', name),
      enqueue: (resource) => this.enqueue(resource),
    })
    this.#publisher = new Publisher(options.publication, (kind, key) => this.get(kind, key))
  }

  get(kind: NodeKind, key: string): Resource | undefined {
    return this.all(kind).get(key)
  }

  /** Those of a kind, by key. */
  all(kind: Kind): ReadonlyMap<string, Resource> {
    return this.#map(kind)
  }

  /** Keys of those of a kind that come from that source. */
  *keysFrom(kind: Kind, source: string): Generator<string> {
    for (const resource of this.all(kind).values()) if (resource.source?.key === source) yield resource.key
  }

  /** Puts one in that was not there. */
  add(kind: NodeKind, name: string, key: string, source: ConfigSourceConfig | undefined): Resource {
    const resource = new Resource(factsOf(kind), name, key, source)
    if (resource.facts.members !== undefined) resource.members = new Map()
    this.#map(kind).set(key, resource)
    return resource
  }

  /** Of a collection; one that was not there is put in. */
  member(collection: Resource, name: string): Resource {
    const { members, facts } = collection
    const known = members?.get(name)
    if (known !== undefined || members === undefined || facts.members === undefined) return known ?? collection
    const key = `${collection.key}/${name}`
    const resource = new Resource(factsOf(facts.members), name, key, collection.source)
    resource.dependents.add(collection)
    members.set(name, resource)
    this.#map(facts.members).set(key, resource)
    return resource
  }

  /** A newer version, which comes into force when it can. */
  accept(resource: Resource, version: Version): void {
    const isNew = resource.latest === undefined
    resource.latest = version
    this.#setFailure(resource, undefined)
    resource.absent = undefined
    this.keep(resource)
    this.#setNeeds(resource)
    this.#options.accepted(resource, isNew)
    this.enqueue(resource)
  }

  /** The newest version cannot be used: the one before stays, and whoever waits for the first goes on without. */
  fail(resource: Resource, failure: ResourceFailure): void {
    this.#setFailure(resource, failure)
    if (resource.active === undefined) this.#wake(resource, false)
  }

  /** Its source has the version that is accepted: what came after it and could not be used is forgotten. */
  confirm(resource: Resource): void {
    // What workers cannot use they still cannot.
    if (!resource.refused) this.#setFailure(resource, undefined)
    resource.absent = undefined
    this.setStale(resource, false)
    this.keep(resource)
  }

  /** It is from the state directory, or (`false`) its source has confirmed it. */
  setStale(resource: Resource, stale: boolean): void {
    if (resource.stale === stale) return
    resource.stale = stale
    this.#options.stale(stale ? 1 : -1)
  }

  /** Takes it out at once, whoever uses it: something else gets its name. */
  evict(resource: Resource): void {
    this.#drop(resource)
  }

  /** It has not come. */
  absent(resource: Resource, why: Absence): void {
    resource.absent = why
    resource.answered = true
    if (resource.active === undefined) this.#wake(resource, false)
  }

  /** The first answer of a collection has come. */
  answered(collection: Resource): void {
    if (collection.answered) return
    collection.answered = true
    this.#wake(collection, true)
  }

  /** Its source takes it away; a version that is accepted before the turn ends cancels that. */
  remove(resource: Resource): void {
    resource.removed = true
    this.enqueue(resource)
  }

  /** Its source takes it away no more, and has it as it was. */
  keep(resource: Resource): void {
    if (!resource.removed) return
    resource.removed = false
    resource.stopTimer()
    if (resource.facts.kind === 'cluster' && resource.published !== undefined) this.#names.published(resource.key)
  }

  /** It stays whoever needs it, or (`false`) no longer does. */
  root(resource: Resource, rooted: boolean): void {
    resource.rooted = rooted
    if (!rooted && resource.dependents.size === 0) this.#orphan(resource)
  }

  enqueue(resource: Resource): void {
    if (resource.queued || resource.gone) return
    resource.queued = true
    this.#queues[resource.facts.level].push(resource)
    this.#options.schedule()
  }

  /** Works out everything that has changed. */
  settle(): void {
    while (this.#work() || this.#sweep());
  }

  /** One level, the lowest that has work; false where none has. */
  #work(): boolean {
    for (let level = 0; level <= TOP_LEVEL; level++) {
      const batch = this.#queues[level]
      if (batch.length === 0) continue
      this.#queues[level] = []
      for (const resource of batch) {
        resource.queued = false
        if (!resource.gone) this.#try(resource)
      }
      return true
    }
    return false
  }

  /** A bug of ours in one resource must not keep all others from coming into force, or end the process. */
  #try(resource: Resource): void {
    try {
      this.#evaluate(resource)
    } catch (error) {
      const reason = error instanceof Error ? (error.stack ?? error.message) : String(error)
      const { facts, name } = resource
      this.#options.log.error('a resource could not be put into force', { type: facts.typeName, name, reason })
    }
  }

  #evaluate(resource: Resource): void {
    if (resource.removed) this.#takeAway(resource)
    else if (resource.latest !== undefined && resource.warming && this.#ready(resource, resource.latest)) {
      this.#promote(resource, resource.latest)
    } else if (resource.rebind) this.#rebind(resource)
  }

  #ready(resource: Resource, latest: Version): boolean {
    for (const reference of latest.references) {
      if (!isDelivered(reference)) continue
      const { extension } = reference
      if (extension?.applyFallbackWithoutWarming === true && extension.fallback !== undefined) continue
      if (this.#find(reference)?.settled === false) return false
    }
    return this.#names.ready(resource)
  }

  #promote(resource: Resource, latest: Version): void {
    const before = resource.active
    resource.stopTimer()
    if (resource.facts.kind === 'listener') resource.previous = before
    resource.active = latest
    resource.absent = undefined
    resource.refused = false
    resource.rebind = false
    this.#setNeeds(resource)
    const isNew = resource.published === undefined
    this.#publisher.publish(resource, latest)
    if (resource.facts.kind === 'cluster' && isNew) this.#names.published(resource.key)
    this.#wake(resource, true)
    this.#options.promoted(resource, before === undefined)
  }

  /** Its own version is as it was; something that is part of it is not. */
  #rebind(resource: Resource): void {
    resource.rebind = false
    if (resource.facts.members !== undefined) this.#wake(resource, true)
    else if (resource.active !== undefined) this.#publisher.rebind(resource, resource.active)
  }

  /** Tells whoever needs it: `changed` where its content is another now. */
  #wake(resource: Resource, changed: boolean): void {
    const inline = changed && resource.facts.inline
    for (const dependent of resource.dependents) {
      // Of a filter or a collection that others have a copy of, the copies change as well.
      if (inline) dependent.rebind = true
      if (inline || dependent.warming) this.enqueue(dependent)
    }
  }

  #takeAway(resource: Resource): void {
    const { kind, members } = resource.facts
    if (kind === 'extension' || kind === 'runtime') {
      this.#empty(resource)
      return
    }
    if (kind === 'cluster' && resource.published !== undefined && this.#names.inUse(resource.key)) {
      resource.timer ??= this.#options.clock.schedule(CLUSTER_WAIT_MS, () => this.#drop(resource))
      return
    }
    const collections = members === undefined ? [...resource.dependents] : []
    this.#drop(resource)
    for (const collection of collections) {
      if (collection.members?.get(resource.name) !== resource) continue
      collection.members.delete(resource.name)
      collection.rebind = true
      this.enqueue(collection)
    }
  }

  /** It is needed and no more: as if it had never come. */
  #empty(resource: Resource): void {
    resource.removed = false
    resource.latest = undefined
    resource.active = undefined
    resource.absent = 'does-not-exist'
    this.#setFailure(resource, undefined)
    this.setStale(resource, false)
    this.#setNeeds(resource)
    this.#wake(resource, true)
    this.#options.promoted(resource, false)
  }

  #drop(resource: Resource): void {
    if (resource.gone) return
    resource.gone = true
    resource.stopTimer()
    this.#setFailure(resource, undefined)
    this.setStale(resource, false)
    this.#map(resource.facts.kind).delete(resource.key)
    this.#publisher.withdraw(resource)
    this.#options.dropped(resource)
    resource.latest = undefined
    resource.active = undefined
    this.#setNeeds(resource)
    for (const member of resource.members?.values() ?? []) this.#drop(member)
    this.#options.schedule()
  }

  /** False where nobody has become superfluous. */
  #sweep(): boolean {
    if (this.#orphans.size === 0) return false
    const orphans = [...this.#orphans]
    this.#orphans.clear()
    for (const orphan of orphans) if (orphan.dependents.size === 0 && !orphan.rooted) this.#drop(orphan)
    return true
  }

  #orphan(resource: Resource): void {
    this.#orphans.add(resource)
    this.#options.schedule()
  }

  #setNeeds(resource: Resource): void {
    const { latest, active, needs: before } = resource
    const next = new Set<Resource>()
    if (latest !== undefined) this.#collect(latest, next)
    if (active !== undefined && active !== latest) this.#collect(active, next)
    for (const target of next) target.dependents.add(resource)
    for (const target of before) {
      if (next.has(target)) continue
      target.dependents.delete(resource)
      if (target.dependents.size === 0 && !target.rooted) this.#orphan(target)
    }
    resource.needs = next.size === 0 ? NONE : next
    this.#names.set(resource, namedBy(latest, active))
  }

  #collect(version: Version, into: Set<Resource>): void {
    for (const reference of version.references) {
      if (isDelivered(reference)) into.add(this.#find(reference) ?? this.#need(reference))
    }
  }

  #need(reference: Reference): Resource {
    const resource = this.add(reference.kind as NodeKind, reference.name, reference.key, reference.source)
    resource.routesSource = reference.routesSource
    this.#options.wanted(resource)
    return resource
  }

  #find(reference: Reference): Resource | undefined {
    return this.#map(reference.kind as NodeKind).get(reference.key)
  }

  #setFailure(resource: Resource, failure: ResourceFailure | undefined): void {
    if (resource.failure === undefined && failure !== undefined) this.#options.failures(resource, 1)
    else if (resource.failure !== undefined && failure === undefined) this.#options.failures(resource, -1)
    resource.failure = failure
  }

  #map(kind: Kind): Map<string, Resource> {
    return this.#maps.get(kind) as Map<string, Resource>
  }
}

const NONE: ReadonlySet<Resource> = Object.freeze(new Set<Resource>())
const NO_NAMES: ReadonlySet<string> = Object.freeze(new Set<string>())

/** As opposed to what translation has put in its place already, and to sources of what is asked for on demand. */
function isDelivered({ kind, source }: Reference): boolean {
  return source !== undefined && kind !== 'cluster' && kind !== 'demanded-clusters'
}

function namedBy(latest: Version | undefined, active: Version | undefined): ReadonlySet<string> {
  if (latest === undefined || latest === active) return active?.clusters ?? NO_NAMES
  if (active === undefined || active.clusters.size === 0) return latest.clusters
  if (latest.clusters.size === 0) return active.clusters
  return new Set([...latest.clusters, ...active.clusters])
}
