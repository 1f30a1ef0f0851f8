import { portStart } from './redirect.ts'

const MAX_FOUND = 512

/**
 * Finds the virtual host of an authority: the exact domain, else the longest `*.suffix`, else the longest `prefix.*`,
 * else `*`. A wildcard stands for at least one character. Domains may carry a port, which then belongs to the text.
 */
export class VirtualHosts<V> {
  readonly #exact = new Map<string, V>()
  /** By length of the fixed part, longest first. */
  readonly #suffixes: readonly Wildcards<V>[]
  readonly #prefixes: readonly Wildcards<V>[]
  readonly #any: V | undefined
  readonly #onlyAny: boolean
  readonly #ignorePort: boolean
  /** Authorities as clients spell them: a few are asked for again and again. */
  readonly #found = new Map<string, { readonly value: V | undefined }>()

  /** @throws Error where two virtual hosts claim one domain, or a domain has its wildcard in the middle. */
  constructor(hosts: readonly { name: string; domains: readonly string[]; value: V }[], ignorePort: boolean) {
    const owners = new Map<string, string>()
    const suffixes = new Map<string, V>()
    const prefixes = new Map<string, V>()
    let any: V | undefined
    for (const { name, domains, value } of hosts) {
      for (const domain of domains.map((d) => d.toLowerCase())) {
        const owner = owners.get(domain)
        if (owner !== undefined) throw new Error(`domain "${domain}" of virtual host "${name}" is also in "${owner}"`)
        owners.set(domain, name)
        if (domain.slice(1, -1).includes('*')) throw new Error(`domain "${domain}" has "*" in its middle`)
        if (domain === '*') any = value
        else if (domain.startsWith('*')) suffixes.set(domain.slice(1), value)
        else if (domain.endsWith('*')) prefixes.set(domain.slice(0, -1), value)
        else this.#exact.set(domain, value)
      }
    }
    this.#suffixes = byLength(suffixes)
    this.#prefixes = byLength(prefixes)
    this.#any = any
    this.#onlyAny = owners.size === (any === undefined ? 0 : 1)
    this.#ignorePort = ignorePort
  }

  find(authority: string): V | undefined {
    if (this.#onlyAny) return this.#any
    const known = this.#found.get(authority)
    if (known !== undefined) return known.value
    const value = this.#search(authority)
    // Emptied when full: a client that makes up hosts can't do more than make this cache useless.
    if (this.#found.size >= MAX_FOUND) this.#found.clear()
    this.#found.set(authority, { value })
    return value
  }

  #search(authority: string): V | undefined {
    let host = authority
    if (this.#ignorePort) {
      const port = portStart(host)
      if (port >= 0) host = host.slice(0, port)
    }
    host = host.toLowerCase()
    return this.#exact.get(host) ?? this.#findSuffix(host) ?? this.#findPrefix(host) ?? this.#any
  }

  #findSuffix(host: string): V | undefined {
    for (const { length, values } of this.#suffixes) {
      if (length >= host.length) continue
      const value = values.get(host.slice(host.length - length))
      if (value !== undefined) return value
    }
    return undefined
  }

  #findPrefix(host: string): V | undefined {
    for (const { length, values } of this.#prefixes) {
      if (length >= host.length) continue
      const value = values.get(host.slice(0, length))
      if (value !== undefined) return value
    }
    return undefined
  }
}

interface Wildcards<V> {
  readonly length: number
  readonly values: ReadonlyMap<string, V>
}

function byLength<V>(parts: ReadonlyMap<string, V>): Wildcards<V>[] {
  const groups = new Map<number, Map<string, V>>()
  for (const [part, value] of parts) {
    const group = groups.get(part.length)
    if (group === undefined) groups.set(part.length, new Map([[part, value]]))
    else group.set(part, value)
  }
  return [...groups].sort(([a], [b]) => b - a).map(([length, values]) => ({ length, values }))
}
