import { type ConfigError, ConfigRefused, type JsonObject } from '../core/errors.ts'
import { sameJson, sameJsonSteps } from '../core/same-json.ts'
import type { RouteTableConfig } from '../router/config.ts'
import type { AssignmentConfig, ClusterConfig } from '../upstream/config.ts'
import type { ListenerConfig } from './listener.ts'
import type { GatewayConfig } from './model.ts'

/** What becomes of the resources of one kind: those in `set` are new or replace one of that name, those in `remove` go. */
export interface ResourceChange<T> {
  readonly set: readonly T[]
  /** Names; one that nobody has is no mistake. */
  readonly remove: readonly string[]
}

/**
 * A step from one configuration to the next, as it crosses to workers: plain JSON, with what changes alone. It is in force
 * as a whole: clusters that are new are there before routes and listeners use them, what is removed goes last.
 */
export interface ConfigChange {
  readonly listeners?: ResourceChange<ListenerConfig>
  readonly clusters?: ResourceChange<ClusterConfig>
  readonly routeTables?: ResourceChange<RouteTableConfig>
  readonly assignments?: ResourceChange<AssignmentConfig>
  /** Of filters, by name. */
  readonly secrets?: ResourceChange<SecretConfig>
  /** All values; replaces those before. */
  readonly runtime?: JsonObject
  /** 0: no limit. */
  readonly maxConnections?: number
}

/** A secret that filters ask for by its name (Envoy's GenericSecret). */
export interface SecretConfig {
  readonly name: string
  /** Base64. */
  readonly value: string
}

/** Kinds of named resources in a `ConfigChange`. */
export const RESOURCE_KINDS = Object.freeze(['clusters', 'assignments', 'secrets', 'routeTables', 'listeners'] as const)

export type ResourceKind = (typeof RESOURCE_KINDS)[number]

/** One resource of a configuration, in messages between processes and in errors. */
export interface ResourceName {
  readonly kind: ResourceKind
  readonly name: string
}

/** A change that cannot be used, and by which resource: `resource` undefined blames all of it. */
export class ChangeRefused extends ConfigRefused {
  readonly resource: ResourceName | undefined

  constructor(errors: readonly ConfigError[], resource: ResourceName | undefined) {
    super(errors)
    this.resource = resource
  }
}

interface Named {
  readonly name: string
}

/**
 * A configuration that takes changes in place, in time that depends on the change alone. Whoever applies changes has one:
 * the control process of what it has sent, each worker of what it runs.
 */
export class ConfigState {
  #base: GatewayConfig
  readonly listeners: Map<string, ListenerConfig>
  readonly clusters: Map<string, ClusterConfig>
  readonly routeTables: Map<string, RouteTableConfig>
  readonly assignments: Map<string, AssignmentConfig>
  readonly secrets: Map<string, SecretConfig>

  constructor(config: GatewayConfig) {
    this.#base = withoutResources(config)
    this.listeners = byName(config.listeners)
    this.clusters = byName(config.clusters)
    this.routeTables = byName(config.routeTables ?? [])
    this.assignments = byName(config.assignments ?? [])
    this.secrets = byName(config.secrets ?? [])
  }

  /** Everything but the resources: node, admin, runtime, the document. Its lists are empty. */
  get base(): GatewayConfig {
    return this.#base
  }

  /** Takes over all but the resources. */
  rebase(config: GatewayConfig): void {
    this.#base = withoutResources(config)
  }

  apply(change: ConfigChange): void {
    for (const kind of RESOURCE_KINDS) {
      const part = change[kind]
      if (part === undefined) continue
      const map = this[kind] as Map<string, Named>
      for (const name of part.remove) map.delete(name)
      for (const resource of part.set) map.set(resource.name, resource)
    }
    const { runtime, maxConnections } = change
    if (runtime !== undefined) this.#base = { ...this.#base, runtime }
    if (maxConnections === undefined) return
    const { maxConnections: _, ...base } = this.#base
    this.#base = maxConnections === 0 ? base : { ...base, maxConnections }
  }

  /** The configuration as it is now, whole. */
  config(): GatewayConfig {
    const list = <T>(map: ReadonlyMap<string, T>): { readonly list: readonly T[]; readonly any: boolean } => ({
      list: [...map.values()],
      any: map.size > 0,
    })
    const [tables, assignments, secrets] = [list(this.routeTables), list(this.assignments), list(this.secrets)]
    return {
      ...this.#base,
      listeners: [...this.listeners.values()],
      clusters: [...this.clusters.values()],
      ...(tables.any && { routeTables: tables.list }),
      ...(assignments.any && { assignments: assignments.list }),
      ...(secrets.any && { secrets: secrets.list }),
    }
  }
}

/** One change that does what these do in turn. */
export function mergeChanges(...changes: readonly ConfigChange[]): ConfigChange {
  const sum = new ChangeSum()
  for (const change of changes) sum.add(change)
  return sum.change()
}

/** Adds changes up, each in time that depends on itself alone. */
export class ChangeSum {
  /** By name; undefined: it goes. */
  readonly #parts: { readonly [K in ResourceKind]: Map<string, Named | undefined> } = {
    listeners: new Map(),
    clusters: new Map(),
    routeTables: new Map(),
    assignments: new Map(),
    secrets: new Map(),
  }
  #runtime: JsonObject | undefined = undefined
  #maxConnections: number | undefined = undefined

  add(change: ConfigChange): void {
    for (const kind of RESOURCE_KINDS) {
      const part = change[kind]
      if (part === undefined) continue
      const names = this.#parts[kind]
      for (const name of part.remove) names.set(name, undefined)
      for (const resource of part.set) names.set(resource.name, resource)
    }
    this.#runtime = change.runtime ?? this.#runtime
    this.#maxConnections = change.maxConnections ?? this.#maxConnections
  }

  /** Leaves one resource out: somebody else sends it. */
  forget({ kind, name }: ResourceName): void {
    this.#parts[kind].delete(name)
  }

  /** The sum so far. */
  change(): ConfigChange {
    const change: { -readonly [K in keyof ConfigChange]: ConfigChange[K] } = {}
    for (const kind of RESOURCE_KINDS) {
      const names = this.#parts[kind]
      if (names.size === 0) continue
      const part: { readonly set: Named[]; readonly remove: string[] } = { set: [], remove: [] }
      for (const [name, resource] of names) {
        if (resource === undefined) part.remove.push(name)
        else part.set.push(resource)
      }
      Object.assign(change, { [kind]: part })
    }
    if (this.#runtime !== undefined) change.runtime = this.#runtime
    if (this.#maxConnections !== undefined) change.maxConnections = this.#maxConnections
    return change
  }
}

/** The change that makes `before` into `after`; undefined where there is none. Resources are compared by their content. */
export function changeBetween(before: ConfigState, after: GatewayConfig): ConfigChange | undefined {
  const steps = changeSteps(before, after)
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}

/** As `changeBetween`, pausing every few hundred microseconds, so that it need not block the loop. */
export function* changeSteps(
  before: ConfigState,
  after: GatewayConfig,
): Generator<undefined, ConfigChange | undefined> {
  const change: { -readonly [K in keyof ConfigChange]: ConfigChange[K] } = {}
  const next: { readonly [K in ResourceKind]: readonly Named[] } = {
    listeners: after.listeners,
    clusters: after.clusters,
    routeTables: after.routeTables ?? [],
    assignments: after.assignments ?? [],
    secrets: after.secrets ?? [],
  }
  for (const kind of RESOURCE_KINDS) {
    const part = yield* partBetween(before[kind] as ReadonlyMap<string, Named>, next[kind])
    if (part !== undefined) Object.assign(change, { [kind]: part })
  }
  if (!sameJson(before.base.runtime, after.runtime)) change.runtime = after.runtime
  const limit = after.maxConnections ?? 0
  if ((before.base.maxConnections ?? 0) !== limit) change.maxConnections = limit
  return Object.keys(change).length === 0 ? undefined : change
}

function* partBetween(
  before: ReadonlyMap<string, Named>,
  after: readonly Named[],
): Generator<undefined, ResourceChange<Named> | undefined> {
  const names = new Set(after.map(({ name }) => name))
  const remove = [...before.keys()].filter((name) => !names.has(name))
  const set: Named[] = []
  for (const resource of after) {
    const known = before.get(resource.name)
    if (known === resource) continue
    if (known !== undefined) yield
    if (known === undefined || !(yield* sameJsonSteps(known, resource))) set.push(resource)
  }
  return set.length === 0 && remove.length === 0 ? undefined : { set, remove }
}

/** Not to keep what has long been replaced. */
function withoutResources(config: GatewayConfig): GatewayConfig {
  const { routeTables: _, assignments: __, secrets: ___, ...base } = config
  return { ...base, listeners: [], clusters: [] }
}

function byName<T extends Named>(resources: readonly T[]): Map<string, T> {
  return new Map(resources.map((resource) => [resource.name, resource]))
}
