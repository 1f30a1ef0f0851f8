import type { ListenerConfig } from '../../lib/config/listener.ts'
import type { RouteTableConfig, VirtualHostConfig } from '../../lib/router/config.ts'
import type { AssignmentConfig, ClusterConfig, EndpointConfig } from '../../lib/upstream/config.ts'
import { bindAssignment, bindCluster, bindListener, extensionProblem } from '../envoy/binding.ts'
import { referenceKey } from '../envoy/references.ts'
import type { ExtensionConfig, ScopeConfig, SecretValue } from '../envoy/translated.ts'
import type { Kind } from './kinds.ts'
import type { Resource, Version } from './resource.ts'

/** Finds resources by what the translated configuration calls them. */
export type ResourceLookup = (
  kind: Exclude<Kind, 'endpoint' | 'virtual-host' | 'scope'>,
  key: string,
) => Resource | undefined

/** Puts what was delivered into the places that resources keep for it. */
export class Binder {
  readonly #find: ResourceLookup

  constructor(find: ResourceLookup) {
    this.#find = find
  }

  /** With what its secrets, its filters and its scopes are now. */
  listener(version: Version): ListenerConfig {
    return bindListener(version.config as ListenerConfig, {
      secrets: this.#secret,
      extensions: (key) => this.#extension(version, key),
      scopes: (key) => this.#scopes(key),
    })
  }

  /** With what its secrets and its filters are now. */
  cluster(version: Version): ClusterConfig {
    return bindCluster(version.config as ClusterConfig, this.#secret, (key) => this.#extension(version, key))
  }

  /** With the endpoints that are delivered apart, and called as clusters call it. */
  assignment(resource: Resource, version: Version): AssignmentConfig {
    const config = bindAssignment(version.config as AssignmentConfig, (key) =>
      membersOf<EndpointConfig>(this.#find('endpoints', key)),
    )
    return config.name === resource.key ? config : { ...config, name: resource.key }
  }

  /** With the virtual hosts that are delivered apart, and called as listeners call it. */
  routes(resource: Resource, version: Version): RouteTableConfig {
    const config = version.config as RouteTableConfig
    const hosts: VirtualHostConfig[] = []
    for (const { kind, key } of version.references) {
      if (kind !== 'virtual-hosts') continue
      for (const host of membersOf<VirtualHostConfig>(this.#find('virtual-hosts', key))) hosts.push(host)
    }
    const named = config.name === resource.key ? config : { ...config, name: resource.key }
    if (hosts.length === 0) return named
    const names = new Set(hosts.map(({ name }) => name))
    return { ...named, virtualHosts: [...config.virtualHosts.filter(({ name }) => !names.has(name)), ...hosts] }
  }

  readonly #secret = (key: string): SecretValue | undefined =>
    this.#find('secret', key)?.active?.config as SecretValue | undefined

  /** Undefined where none has come, or not one that can stand where it is asked for. */
  #extension(version: Version, key: string): ExtensionConfig | undefined {
    const config = this.#find('extension', key)?.active?.config as ExtensionConfig | undefined
    if (config === undefined) return undefined
    for (const { kind, key: other, extension } of version.references) {
      if (kind !== 'extension' || other !== key || extension === undefined) continue
      if (extensionProblem(config, extension) !== undefined) return undefined
    }
    return config
  }

  #scopes(key: string): { readonly name: string; readonly key: readonly string[] }[] {
    const collection = this.#find('scopes', key)
    return membersOf<ScopeConfig>(collection).map(({ routeTable, tableSource, routes, name, key }) => ({
      name,
      key,
      ...(routeTable !== undefined && {
        routeTable: referenceKey(routeTable, tableSource ?? collection?.routesSource),
      }),
      ...(routes && { routes }),
    }))
  }
}

/** Members in force of a collection, in the order of their names: what was published does not depend on which came first. */
function membersOf<T>(collection: Resource | undefined): T[] {
  const members = [...(collection?.members?.values() ?? [])].filter(({ active }) => active !== undefined)
  return members.sort((a, b) => (a.name < b.name ? -1 : 1)).map(({ active }) => active?.config as T)
}
