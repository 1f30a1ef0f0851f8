import type { ListenerConfig } from '../../lib/config/listener.ts'
import { formatAddress } from '../../lib/core/address.ts'
import { ConfigError } from '../../lib/core/errors.ts'
import { extensionProblem } from '../envoy/binding.ts'
import type { ExtensionConfig, ScopeConfig, TranslatedResource } from '../envoy/translated.ts'
import type { Kind, KindFacts } from './kinds.ts'
import type { Resource } from './resource.ts'

/** Checks one resource by itself, as the engine will use it: what is wrong with it. */
export type ResourceCheck = (kind: Kind, config: unknown) => readonly ConfigError[]

/** Where a resource is going. */
export interface VerdictPlace {
  readonly known: Resource | undefined
  readonly collection: Resource | undefined
}

/** Rules between resources: what may stand beside what else. */
export class Verdicts {
  /** Clusters that routes with `validate_clusters` may name. */
  readonly clusters = new Set<string>()
  readonly #check: ResourceCheck
  /** Listeners by address. */
  readonly #owners = new Map<string, string>()

  constructor(check: ResourceCheck) {
    this.#check = check
  }

  /** An address that is taken by something else than a listener that is delivered. */
  reserve(address: string, owner: string): void {
    this.#owners.set(address, owner)
  }

  check(facts: KindFacts, translated: TranslatedResource, place: VerdictPlace): readonly ConfigError[] {
    const own = this.#check(facts.kind, translated.config)
    if (own.length > 0) return own
    switch (facts.kind) {
      case 'listener':
        return this.#checkAddresses(translated.config as ListenerConfig)
      case 'extension':
        return checkExtension(translated.config as ExtensionConfig, place.known)
      case 'scope':
        return checkScope(translated.config as ScopeConfig, place)
      default:
        return []
    }
  }

  /** It is accepted: what it takes is taken. */
  remember(resource: Resource, translated: Pick<TranslatedResource, 'config'>): void {
    if (resource.facts.kind === 'cluster') this.clusters.add(resource.key)
    if (resource.facts.kind !== 'listener') return
    this.forget(resource)
    for (const address of addressesOf(translated.config as ListenerConfig)) this.#owners.set(address, resource.key)
  }

  /** It goes: what it has taken is free. */
  forget(resource: Resource): void {
    if (resource.facts.kind === 'cluster') this.clusters.delete(resource.key)
    if (resource.facts.kind !== 'listener' || resource.latest === undefined) return
    for (const address of addressesOf(resource.latest.config as ListenerConfig)) {
      if (this.#owners.get(address) === resource.key) this.#owners.delete(address)
    }
  }

  #checkAddresses(config: ListenerConfig): readonly ConfigError[] {
    for (const address of addressesOf(config)) {
      const owner = this.#owners.get(address)
      if (owner !== undefined && owner !== config.name) {
        return [new ConfigError('address', `${address} is the address of listener "${owner}" already`)]
      }
    }
    return []
  }
}

/** Port 0 is a different port each time. */
function addressesOf(config: ListenerConfig): readonly string[] {
  return config.addresses.filter((address) => address.kind !== 'ip' || address.port !== 0).map(formatAddress)
}

/** Everybody who has asked for it must be able to use it. */
function checkExtension(config: ExtensionConfig, known: Resource | undefined): readonly ConfigError[] {
  for (const { latest } of known?.dependents ?? []) {
    for (const { kind, key, extension } of latest?.references ?? []) {
      if (kind !== 'extension' || key !== known?.key || extension === undefined) continue
      const why = extensionProblem(config, extension)
      if (why !== undefined) return [new ConfigError('typed_config', why)]
    }
  }
  return []
}

/** No two scopes of one key. */
function checkScope(config: ScopeConfig, { known, collection }: VerdictPlace): readonly ConfigError[] {
  const key = JSON.stringify(config.key)
  for (const other of collection?.members?.values() ?? []) {
    if (other === known || other.removed || other.latest === undefined) continue
    if (JSON.stringify((other.latest.config as ScopeConfig).key) !== key) continue
    return [new ConfigError('key', `scope "${other.name}" has that key already`)]
  }
  return []
}
