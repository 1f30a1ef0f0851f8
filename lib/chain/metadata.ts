import type { Json } from '../core/errors.ts'
import type { Metadata } from './filter.ts'

/** Dynamic metadata of one exchange; made when a filter first asks for it. */
export class MetadataStore implements Metadata {
  readonly #byNamespace = new Map<string, Json>()

  get(namespace: string): Json | undefined {
    return this.#byNamespace.get(namespace)
  }

  merge(namespace: string, value: Json): void {
    const old = this.#byNamespace.get(namespace)
    this.#byNamespace.set(namespace, isObject(old) && isObject(value) ? { ...old, ...value } : value)
  }
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
