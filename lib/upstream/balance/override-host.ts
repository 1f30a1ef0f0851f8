import type { PickContext } from '../../core/attempt.ts'
import type { Json } from '../../core/errors.ts'
import { valueAt } from '../../match/value.ts'
import type { OverrideHostConfig, OverrideSourceConfig } from '../config.ts'
import type { Host } from '../host.ts'
import type { HostView } from '../host-view.ts'
import { AddressIndex } from './address-index.ts'
import type { Balancer } from './balancer.ts'

/** Addresses that one request may name: what is beyond is not looked at. */
const MAX_ADDRESSES = 64

/** What a request has named, and how much of it its attempts have used. */
interface Named {
  readonly addresses: readonly string[]
  next: number
}

/**
 * Hosts that requests name in a header or in metadata: each attempt takes the next of them that is there, whatever its
 * health (as Envoy's); after the last one, and for requests that name none, another balancer chooses.
 */
export class OverrideHostBalancer implements Balancer {
  readonly #config: OverrideHostConfig
  readonly #otherwise: Balancer
  readonly #addresses: AddressIndex
  /** By what stays the same for all attempts of a request. */
  readonly #named = new WeakMap<object, Named>()

  constructor(config: OverrideHostConfig, view: HostView, otherwise: Balancer) {
    this.#config = config
    this.#otherwise = otherwise
    this.#addresses = new AddressIndex(view)
  }

  pick(context: PickContext): Host | undefined {
    const host = this.#override(context) ?? this.#otherwise.pick(context)
    const { selected } = this.#config
    if (host !== undefined && selected !== undefined) {
      context.metadata?.merge(selected.namespace, nested(selected.path, host.addressText))
    }
    return host
  }

  peek(context: PickContext): Host | undefined {
    return this.#otherwise.peek?.(context)
  }

  #override(context: PickContext): Host | undefined {
    const request = context.metadata ?? context
    let named = this.#named.get(request)
    if (named === undefined) {
      named = { addresses: this.#read(context), next: 0 }
      // A request that has named none would name none again.
      this.#named.set(request, named)
    }
    const { addresses } = named
    while (named.next < addresses.length) {
      const host = this.#addresses.find(addresses[named.next++])
      if (host !== undefined) return host
    }
    return undefined
  }

  #read(context: PickContext): readonly string[] {
    const addresses: string[] = []
    for (const source of this.#config.sources) {
      for (const part of listIn(source, context)?.split(',') ?? []) {
        const address = part.trim()
        if (address !== '' && addresses.length < MAX_ADDRESSES) addresses.push(address)
      }
    }
    return addresses
  }

  retire(): void {
    this.#otherwise.retire?.()
  }

  [Symbol.dispose](): void {
    this.#addresses[Symbol.dispose]()
    this.#otherwise[Symbol.dispose]()
  }
}

function listIn(source: OverrideSourceConfig, context: PickContext): string | undefined {
  if ('header' in source) return context.header?.(source.header)
  const value = valueAt(context.metadata?.get(source.namespace), source.path)
  return typeof value === 'string' ? value : undefined
}

function nested(path: readonly string[], leaf: string): Json {
  return path.reduceRight<Json>((inner, key) => ({ [key]: inner }), leaf)
}
