import type { PickContext } from '../../core/attempt.ts'
import type { HashPolicyConfig } from '../../core/hash-policy.ts'
import type { Hash64 } from '../../core/hash64.ts'
import type { Host } from '../host.ts'
import { BoundedLoad, type BoundedLoadOptions } from './bounded-load.ts'
import type { HashTable } from './hash-table.ts'
import type { HostShares } from './host-shares.ts'
import type { HostPicker } from './picker.ts'

export interface HashPickerOptions {
  readonly build: (of: HostShares) => Generator<undefined, HashTable>
  readonly bound: BoundedLoadOptions | undefined
  /** As in `PickContext.hash`. */
  readonly own: readonly HashPolicyConfig[] | undefined
  /** In [0, 1). */
  readonly random: () => number
  /** Runs the next slice of work, not at once. */
  readonly later: (run: () => void) => void
  /** Told of each table that comes into force. */
  readonly built: (table: HashTable) => void
}

/** A table in force. */
interface Built {
  readonly of: HostShares
  readonly table: HashTable
  readonly bound: BoundedLoad | undefined
}

/**
 * Picks by table. The table of a new list is built in slices; until it is there the one before serves, and hosts that are
 * not in the new list are passed over. Without one before, the first pick finishes the work.
 */
export class HashPicker implements HostPicker {
  readonly #options: HashPickerOptions
  readonly #of: HostShares
  #work: Generator<undefined, HashTable> | undefined
  #built: Built | undefined
  /** Hosts that may be used, while the table is an older one. */
  #allowed: ReadonlySet<Host> | undefined
  /** Tables in a row that were given up before they were ready. */
  readonly #abandoned: number = 0

  constructor(of: HostShares, options: HashPickerOptions, before: HashPicker | undefined) {
    this.#options = options
    this.#of = of
    this.#work = options.build(of)
    this.#built = before?.retire()
    this.#allowed = this.#built === undefined ? undefined : new Set(of.hosts)
    this.#abandoned = before === undefined || before.#allowed === undefined ? 0 : before.#abandoned + 1
    // Changes that come faster than tables are built must not keep the oldest in force.
    if (this.#abandoned > MAX_ABANDONED) this.#finish(this.#work)
    else this.#slice()
  }

  /** Gives up what is being built, and answers what is in force. */
  retire(): Built | undefined {
    this.#work = undefined
    return this.#built
  }

  /** One slice at a time; short work is done within the first. */
  readonly #slice = (): void => {
    if (this.#work === undefined) return
    const { done, value } = this.#work.next()
    if (done) this.#ready(value)
    else this.#options.later(this.#slice)
  }

  #ready(table: HashTable): void {
    const { bound, built } = this.#options
    this.#work = undefined
    this.#allowed = undefined
    this.#built = { of: this.#of, table, bound: bound && new BoundedLoad(this.#of, bound) }
    built(table)
  }

  #finish(work: Generator<undefined, HashTable>): void {
    for (;;) {
      const { done, value } = work.next()
      if (done) {
        this.#ready(value)
        return
      }
    }
  }

  next(context: PickContext, attempt: number): Host | undefined {
    if (this.#built === undefined && this.#work !== undefined) this.#finish(this.#work)
    const built = this.#built
    if (built === undefined) return undefined
    const hash = hashFor(context, this.#options.random, this.#options.own)
    const host = choose(built, hash, attempt)
    if (this.#allowed === undefined || this.#allowed.has(host)) return host
    return this.#another(hash, attempt)
  }

  /** The old table names a host that is no longer one: the next ones in its order, and if need be the new table. */
  #another(hash: Hash64, attempt: number): Host | undefined {
    const { of, table } = this.#built as Built
    for (let i = attempt + 1; i <= attempt + WALK; i++) {
      const host = of.hosts[table.find(hash, i)]
      if (this.#allowed?.has(host)) return host
    }
    if (this.#work !== undefined) this.#finish(this.#work)
    return this.#allowed === undefined && this.#built !== undefined ? choose(this.#built, hash, attempt) : undefined
  }
}

/** Entries of an old table that are looked at for a host that still is one. */
const WALK = 64
const MAX_ABANDONED = 8

function choose({ of, table, bound }: Built, hash: Hash64, attempt: number): Host {
  const index = table.find(hash, attempt)
  return of.hosts[bound === undefined ? index : bound.choose(index, hash)]
}

/** What the request hashes to; a random one where it has nothing to be hashed by (as Envoy). */
export function hashFor(
  context: PickContext,
  random: () => number,
  own: readonly HashPolicyConfig[] | undefined,
): Hash64 {
  return context.hash?.(own) ?? { high: Math.floor(random() * 2 ** 32), low: Math.floor(random() * 2 ** 32) }
}
