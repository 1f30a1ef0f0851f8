import type { ListenerConfig } from '../../lib/config/listener.ts'
import { formatAddress } from '../../lib/core/address.ts'
import { ConfigError } from '../../lib/core/errors.ts'
import { extensionProblem } from '../envoy/binding.ts'
import { SECRET_FIELDS } from '../envoy/tls/secret-reference.ts'
import type { ExtensionConfig, ScopeConfig, SecretValue, TranslatedResource } from '../envoy/translated.ts'
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
  /** Of each collection of scopes, by key. */
  readonly #scopes = new WeakMap<Resource, Map<string, Resource>>()

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
        return this.#checkScope(translated.config as ScopeConfig, place)
      case 'secret':
        return checkSecret(translated.config as SecretValue, place.known)
      default:
        return []
    }
  }

  /** It is accepted: what it takes is taken. */
  remember(resource: Resource, translated: Pick<TranslatedResource, 'config'>): void {
    const { kind } = resource.facts
    if (kind === 'cluster') this.clusters.add(resource.key)
    if (kind !== 'listener' && kind !== 'scope') return
    this.forget(resource)
    if (kind === 'scope') {
      this.#scopesBeside(resource)?.set(scopeKey(translated.config as ScopeConfig), resource)
      return
    }
    for (const address of addressesOf(translated.config as ListenerConfig)) this.#owners.set(address, resource.key)
  }

  /** It goes: what it has taken is free. */
  forget(resource: Resource): void {
    if (resource.facts.kind === 'cluster') this.clusters.delete(resource.key)
    if (resource.latest === undefined) return
    if (resource.facts.kind === 'scope') {
      const scopes = this.#scopesBeside(resource)
      const key = scopeKey(resource.latest.config as ScopeConfig)
      if (scopes?.get(key) === resource) scopes.delete(key)
    }
    if (resource.facts.kind !== 'listener') return
    for (const address of addressesOf(resource.latest.config as ListenerConfig)) {
      if (this.#owners.get(address) === resource.key) this.#owners.delete(address)
    }
  }

  /** No two scopes of one key. */
  #checkScope(config: ScopeConfig, { known, collection }: VerdictPlace): readonly ConfigError[] {
    const owner = collection && this.#scopes.get(collection)?.get(scopeKey(config))
    if (owner === undefined || owner === known) return []
    return [new ConfigError('key', `scope "${owner.name}" has that key already`)]
  }

  #scopesBeside(scope: Resource): Map<string, Resource> | undefined {
    for (const collection of scope.dependents) {
      if (collection.members === undefined) continue
      let scopes = this.#scopes.get(collection)
      if (scopes === undefined) this.#scopes.set(collection, (scopes = new Map()))
      return scopes
    }
    return undefined
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

/** Whoever asks for it says what it must hold; one that some of them can use is taken. */
function checkSecret(config: SecretValue, known: Resource | undefined): readonly ConfigError[] {
  let wanted: SecretValue['kind'] | undefined
  for (const { latest } of known?.dependents ?? []) {
    for (const { kind, key, secret } of latest?.references ?? []) {
      if (kind !== 'secret' || key !== known?.key || secret === undefined) continue
      if (secret === config.kind) return []
      wanted ??= secret
    }
  }
  if (wanted === undefined) return []
  return [new ConfigError('type', `is a ${SECRET_FIELDS[config.kind]}, wanted is a ${SECRET_FIELDS[wanted]}`)]
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

function scopeKey({ key }: ScopeConfig): string {
  return JSON.stringify(key)
}
