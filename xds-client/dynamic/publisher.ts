import { isDeepStrictEqual } from 'node:util'
import type { ResourceKind } from '../../lib/config/change.ts'
import type { ListenerConfig } from '../../lib/config/listener.ts'
import type { RouteTableConfig } from '../../lib/router/config.ts'
import type { AssignmentConfig, ClusterConfig } from '../../lib/upstream/config.ts'
import type { SecretValue } from '../envoy/translated.ts'
import { Binder, type ResourceLookup } from './bind.ts'
import type { Kind } from './kinds.ts'
import type { Publication } from './publication.ts'
import type { Resource, Version } from './resource.ts'

const PUBLISHED: ReadonlyMap<Kind, ResourceKind> = new Map([
  ['listener', 'listeners'],
  ['cluster', 'clusters'],
  ['routes', 'routeTables'],
  ['assignment', 'assignments'],
  ['secret', 'secrets'],
])

/** Makes the published form of resources, and puts it into the next step. */
export class Publisher {
  readonly #publication: Publication
  readonly #bind: Binder

  constructor(publication: Publication, find: ResourceLookup) {
    this.#publication = publication
    this.#bind = new Binder(find)
  }

  /** The version comes into force. */
  publish(resource: Resource, version: Version): void {
    switch (resource.facts.kind) {
      case 'listener':
        this.#put(resource, this.#bind.listener(version))
        this.#needs(resource)
        break
      case 'cluster':
        this.#put(resource, this.#bind.cluster(version))
        this.#needs(resource)
        break
      case 'routes':
        this.#put(resource, this.#bind.routes(resource, version))
        this.#needs(resource)
        break
      case 'extension':
        this.#needs(resource)
        break
      case 'assignment':
        this.#assignment(resource)
        break
      case 'secret':
        this.#secret(resource)
    }
  }

  /** Something that is part of it has changed: nothing goes out where its published form stays the same. */
  rebind(resource: Resource, version: Version): void {
    if (resource.published === undefined) return
    const { kind } = resource.facts
    if (kind === 'listener') this.#putIfOther(resource, this.#bind.listener(version))
    else if (kind === 'cluster') this.#putIfOther(resource, this.#bind.cluster(version))
    else if (kind === 'routes') this.#putIfOther(resource, this.#bind.routes(resource, version))
    else if (kind === 'assignment') this.#putIfOther(resource, this.#bind.assignment(resource, version))
  }

  /** It is published no more. */
  withdraw(resource: Resource): void {
    const kind = PUBLISHED.get(resource.facts.kind)
    if (kind === undefined || resource.published === undefined) return
    resource.published = undefined
    this.#publication.remove(kind, resource.key)
  }

  /** Endpoints go out once there is a cluster that uses them; what is delivered to filters, once a filter is there. */
  #needs(resource: Resource): void {
    for (const target of resource.needs) {
      if (target.active === undefined || target.published !== undefined) continue
      if (target.facts.kind === 'assignment') this.#assignment(target)
      else if (target.facts.kind === 'secret') this.#secret(target)
    }
  }

  #assignment(resource: Resource): void {
    if (resource.active === undefined) return
    if (!used(resource)) this.withdraw(resource)
    else this.#put(resource, this.#bind.assignment(resource, resource.active))
  }

  /** Those of TLS contexts and of clusters are put in their places; the rest is what filters ask for by name. */
  #secret(resource: Resource): void {
    const secret = resource.active?.config as SecretValue | undefined
    if (secret?.kind !== 'generic') return
    for (const { facts } of resource.dependents) {
      if (facts.kind === 'cluster') continue
      this.#put(resource, { name: resource.key, value: secret.value })
      return
    }
  }

  #put(resource: Resource, config: unknown): void {
    resource.published = config
    const kind = PUBLISHED.get(resource.facts.kind)
    if (kind !== undefined) this.#publication.set(kind, config as never)
  }

  #putIfOther(resource: Resource, config: ListenerConfig | ClusterConfig | RouteTableConfig | AssignmentConfig): void {
    if (!isDeepStrictEqual(resource.published, config)) this.#put(resource, config)
  }
}

/** Some cluster that is published has it. */
function used(assignment: Resource): boolean {
  for (const { published } of assignment.dependents) if (published !== undefined) return true
  return false
}
