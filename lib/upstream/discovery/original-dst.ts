import { formatHostPort, isIp } from '../../core/address.ts'
import type { Cancel } from '../../core/clock.ts'
import { FAILURES } from '../../core/failure.ts'
import type { ClusterConfig } from '../config.ts'
import type { ResolvedEndpoint } from '../host.ts'
import type { Demand, Discovery, DiscoveryOptions, OnEndpoint, OnMembership } from './discovery.ts'

interface Destination {
  readonly endpoint: ResolvedEndpoint
  /** Somebody was sent there since the last look. */
  used: boolean
}

/** Addresses may come from clients: without a limit they would fill the memory. Envoy has none. */
const MAX_HOSTS = 4096
const CLEANUP_MS = 5_000

/** ORIGINAL_DST: a host for each address that connections were meant for, forgotten when nobody is sent there any more. */
export class OriginalDstDiscovery implements Discovery {
  readonly #options: Pick<DiscoveryOptions, 'clock'>
  readonly #cleanupMs: number
  readonly #destinations = new Map<string, Destination>()
  #onUpdate: OnMembership | undefined = undefined
  #onEndpoint: OnEndpoint | undefined = undefined
  #sweep: Cancel | undefined = undefined

  constructor(config: ClusterConfig, options: Pick<DiscoveryOptions, 'clock'>) {
    this.#options = options
    this.#cleanupMs = config.originalDst?.cleanupMs ?? CLEANUP_MS
  }

  start(onUpdate: OnMembership, onEndpoint: OnEndpoint): Promise<void> {
    this.#onUpdate = onUpdate
    this.#onEndpoint = onEndpoint
    this.#publish()
    return Promise.resolve()
  }

  /** `ip` is the one spelling of an address. */
  demand(ip: string, port: number): Demand {
    const key = formatHostPort(ip, port)
    const known = this.#destinations.get(key)
    if (known !== undefined) {
      known.used = true
      return key
    }
    if (this.#onUpdate === undefined || !isIp(ip)) return FAILURES.noHealthyHost
    if (this.#destinations.size >= MAX_HOSTS) return FAILURES.overflow
    const endpoint: ResolvedEndpoint = { key, address: { kind: 'ip', host: ip, port }, weight: 1, health: 'healthy' }
    this.#destinations.set(key, { endpoint, used: true })
    this.#onEndpoint?.(endpoint)
    this.#sweepLater()
    return key
  }

  #publish(): void {
    this.#onUpdate?.([{ priority: 0, endpoints: [...this.#destinations.values()].map(({ endpoint }) => endpoint) }])
  }

  #sweepLater(): void {
    this.#sweep ??= this.#options.clock.schedule(this.#cleanupMs, () => {
      this.#sweep = undefined
      const before = this.#destinations.size
      for (const [key, destination] of this.#destinations) {
        if (destination.used) destination.used = false
        else this.#destinations.delete(key)
      }
      if (this.#destinations.size < before) this.#publish()
      if (this.#destinations.size > 0) this.#sweepLater()
    })
  }

  /** What is known stays, for requests that have got the cluster. */
  close(): void {
    this.#onUpdate = undefined
    this.#onEndpoint = undefined
    this.#sweep?.()
    this.#sweep = undefined
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
