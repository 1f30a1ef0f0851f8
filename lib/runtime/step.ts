import {
  type ConfigChange,
  type ConfigState,
  RESOURCE_KINDS,
  type ResourceChange,
  type ResourceKind,
  type ResourceName,
} from '../config/change.ts'

/** Any resource of a configuration. */
export interface Named {
  readonly name: string
}

/** What a step makes of one resource. */
export interface ResourceStep {
  readonly resource: ResourceName
  /** What it was before; undefined: there was none. */
  readonly was: Named | undefined
  readonly is: Named | undefined
}

/** A change, and all that is needed to take it back. */
export interface Step {
  readonly change: ConfigChange
  readonly resources: ReadonlyMap<string, ResourceStep>
}

/** One name for one resource of any kind. */
export function resourceKey({ kind, name }: ResourceName): string {
  return `${kind} ${name}`
}

/** The version of a resource that a state has. */
export function versionIn(state: ConfigState, { kind, name }: ResourceName): Named | undefined {
  return (state[kind] as ReadonlyMap<string, Named>).get(name)
}

/** Applies a change to a state, and remembers what was there before. */
export function takeStep(state: ConfigState, change: ConfigChange): Step {
  const step = new TakenStep(state, change)
  state.apply(change)
  return step
}

/** Keeps versions alone: of 20,000 resources that come at once hardly any is ever taken back. */
class TakenStep implements Step {
  readonly change: ConfigChange
  /** In the order of `#resourcesOf`. */
  readonly #was: (Named | undefined)[] = []
  #resources: ReadonlyMap<string, ResourceStep> | undefined = undefined

  constructor(state: ConfigState, change: ConfigChange) {
    this.change = change
    for (const kind of RESOURCE_KINDS) {
      const part: ResourceChange<Named> | undefined = change[kind]
      if (part === undefined) continue
      const versions = state[kind] as ReadonlyMap<string, Named>
      for (const name of part.remove) this.#was.push(versions.get(name))
      for (const { name } of part.set) this.#was.push(versions.get(name))
    }
  }

  get resources(): ReadonlyMap<string, ResourceStep> {
    this.#resources ??= this.#resourcesOf()
    return this.#resources
  }

  #resourcesOf(): ReadonlyMap<string, ResourceStep> {
    const resources = new Map<string, ResourceStep>()
    let at = 0
    const note = (resource: ResourceName, is: Named | undefined): void => {
      resources.set(resourceKey(resource), { resource, was: this.#was[at++], is })
    }
    for (const kind of RESOURCE_KINDS) {
      const part: ResourceChange<Named> | undefined = this.change[kind]
      for (const name of part?.remove ?? []) note({ kind, name }, undefined)
      for (const is of part?.set ?? []) note({ kind, name: is.name }, is)
    }
    return resources
  }
}

/** The two in turn, as far as taking back goes: what was before the first, what is after the second. */
export function addResources(into: Map<string, ResourceStep>, next: ReadonlyMap<string, ResourceStep>): void {
  for (const [key, step] of next) {
    const before = into.get(key)
    into.set(key, before === undefined ? step : { ...step, was: before.was })
  }
}

/** How a state goes on after somebody has refused a step. */
export interface Correction {
  /** For whoever refused it: all that the step named, as it is now. */
  readonly rest: Step
  /** For everybody else: what goes back; undefined: nothing does. */
  readonly back: Step | undefined
}

/** Versions of resources that were refused, and what was there before each. */
export class RefusedVersions {
  readonly #before = new WeakMap<Named, Named | undefined>()

  /** The last version up to this one that nobody has refused. */
  good(version: Named | undefined): Named | undefined {
    let at = version
    while (at !== undefined && this.#before.has(at)) at = this.#before.get(at)
    return at
  }

  /** A resource that is refused as it is, and that cannot be anything else. */
  stuck(state: ConfigState, { resource, was, is }: ResourceStep): boolean {
    return versionIn(state, resource) === is && this.good(was) === is
  }

  /**
   * Takes back what is to blame for the refusal of a step (undefined: all of it), where nothing newer has come since, and
   * says who needs what then. The state is changed.
   */
  correct(state: ConfigState, { change, resources }: Step, blamed: ResourceName | undefined): Correction {
    const key = blamed && resourceKey(blamed)
    const rest = new Map<string, ResourceStep>()
    const back = new Map<string, ResourceStep>()
    for (const [name, step] of resources) {
      const { resource, is } = step
      const isBlamed = key === undefined || key === name
      const was = this.good(step.was)
      if (isBlamed && is !== undefined && was !== is) this.#before.set(is, was)
      const now = versionIn(state, resource)
      const goes = isBlamed && now === is && now !== was
      rest.set(name, { resource, was, is: goes ? was : now })
      if (goes) back.set(name, { resource, was: is, is: was })
    }
    const backStep = back.size === 0 ? undefined : { change: changeOf(back), resources: back }
    if (backStep !== undefined) state.apply(backStep.change)
    const { runtime, maxConnections = 0 } = state.base
    const restChange: ConfigChange = {
      ...changeOf(rest),
      ...(change.runtime !== undefined && { runtime }),
      ...(change.maxConnections !== undefined && { maxConnections }),
    }
    return { rest: { change: restChange, resources: rest }, back: backStep }
  }
}

function changeOf(resources: ReadonlyMap<string, ResourceStep>): ConfigChange {
  const parts = new Map<ResourceKind, { readonly set: Named[]; readonly remove: string[] }>()
  for (const { resource, is } of resources.values()) {
    let part = parts.get(resource.kind)
    if (part === undefined) parts.set(resource.kind, (part = { set: [], remove: [] }))
    if (is === undefined) part.remove.push(resource.name)
    else part.set.push(is)
  }
  return Object.fromEntries(parts) as ConfigChange
}
