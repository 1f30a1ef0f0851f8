import type { ResourceChange, SecretConfig } from '../../config/change.ts'
import type { JsonObject } from '../../core/errors.ts'
import type { Runtime } from '../../core/metrics.ts'

/** Runtime values as they are now: whoever has it sees changes without being compiled again. */
export class LiveRuntime implements Runtime {
  version = 0
  #values: ReadonlyMap<string, unknown> = new Map()

  get(key: string): unknown {
    return this.#values.get(key)
  }

  replace(values: JsonObject): void {
    this.#values = new Map(Object.entries(values))
    this.version++
  }
}

/** What filters ask for by name, as it is now. */
export class LiveSecrets {
  readonly #byName = new Map<string, Buffer>()

  get(name: string): Buffer | undefined {
    return this.#byName.get(name)
  }

  /** In force at once; the answer takes it back. */
  change({ set, remove }: ResourceChange<SecretConfig>): () => void {
    const before = [...remove, ...set.map(({ name }) => name)].map((name) => [name, this.#byName.get(name)] as const)
    for (const name of remove) this.#byName.delete(name)
    for (const { name, value } of set) this.#byName.set(name, Buffer.from(value, 'base64'))
    return () => {
      for (const [name, value] of before) {
        if (value === undefined) this.#byName.delete(name)
        else this.#byName.set(name, value)
      }
    }
  }
}
