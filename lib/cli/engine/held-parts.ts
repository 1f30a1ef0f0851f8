import { type ConfigChange, RESOURCE_KINDS, type ResourceKind, type ResourceName } from '../../config/change.ts'

/** Endpoints of clusters that go: `at` is when that came, in the order of arrival. */
export interface Leaving {
  readonly name: string
  readonly at: number
}

/** One resource that waits: for clusters that it names and that there are not yet, or behind others that do. */
export interface Held {
  readonly resource: ResourceName
  /** Undefined: it goes. */
  readonly value: unknown
  /** Of assignments that go. */
  readonly at: number
  readonly needs: Set<string>
}

/** A change of which something waits. */
export class Pending {
  /** Clusters and resources. */
  readonly open = new Set<object>()
  readonly #settled = Promise.withResolvers<void>()

  get inForce(): Promise<void> {
    return this.#settled.promise
  }

  done(part: object): void {
    this.open.delete(part)
    if (this.open.size === 0) this.#settled.resolve()
  }

  refuse(error: unknown): void {
    this.open.clear()
    this.#settled.reject(error)
  }
}

/** What has waited. */
export interface Rest {
  readonly kind: 'rest'
  readonly change: ConfigChange
  readonly leaving: readonly Leaving[]
  readonly afresh: false
}

/** One for each resource. */
export function keyOf({ kind, name }: ResourceName): string {
  return `${kind}/${name}`
}

/** What these do together. */
export function sumOf(list: readonly Held[]): Rest {
  const parts = new Map<ResourceKind, { readonly set: unknown[]; readonly remove: string[] }>()
  const leaving: Leaving[] = []
  for (const held of list) {
    const { kind, name } = held.resource
    if (kind === 'assignments') {
      leaving.push({ name, at: held.at })
      continue
    }
    let part = parts.get(kind)
    if (part === undefined) {
      part = { set: [], remove: [] }
      parts.set(kind, part)
    }
    if (held.value === undefined) part.remove.push(name)
    else part.set.push(held.value)
  }
  return { kind: 'rest', change: Object.fromEntries(parts) as ConfigChange, leaving, afresh: false }
}

/** Without parts that have become empty. */
export function tidy(change: ConfigChange): ConfigChange {
  const full = Object.entries(change).filter(([kind, part]) => {
    if (part === undefined) return false
    const { set, remove } = part as { readonly set?: readonly unknown[]; readonly remove?: readonly string[] }
    const isList = RESOURCE_KINDS.includes(kind as ResourceKind)
    return !isList || (set?.length ?? 0) > 0 || (remove?.length ?? 0) > 0
  })
  return Object.fromEntries(full)
}
