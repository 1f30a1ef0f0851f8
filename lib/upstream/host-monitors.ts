import type { HostMonitor } from '../core/attempt.ts'
import type { Failure } from '../core/failure.ts'
import type { Headers } from '../core/headers.ts'

/** Two that learn of the same attempts. */
class Pair implements HostMonitor {
  readonly first: HostMonitor
  readonly second: HostMonitor
  /** Undefined where neither of them has it: then nobody looks for the header. */
  readonly onCheckFailRequested: (() => void) | undefined
  readonly onDegraded: (() => void) | undefined
  readonly onUnavailable: ((status: number, headers: Headers) => void) | undefined
  readonly onLoadFields: ((fields: Headers) => void) | undefined

  constructor(first: HostMonitor, second: HostMonitor) {
    this.first = first
    this.second = second
    const wanted = first.onCheckFailRequested !== undefined || second.onCheckFailRequested !== undefined
    this.onCheckFailRequested = wanted ? this.#checkFailRequested : undefined
    const degrades = first.onDegraded !== undefined || second.onDegraded !== undefined
    this.onDegraded = degrades ? this.#degraded : undefined
    const asked = first.onUnavailable !== undefined || second.onUnavailable !== undefined
    this.onUnavailable = asked ? this.#unavailable : undefined
    const reads = first.onLoadFields !== undefined || second.onLoadFields !== undefined
    this.onLoadFields = reads ? this.#loadFields : undefined
  }

  readonly #checkFailRequested = (): void => {
    this.first.onCheckFailRequested?.()
    this.second.onCheckFailRequested?.()
  }

  readonly #degraded = (): void => {
    this.first.onDegraded?.()
    this.second.onDegraded?.()
  }

  readonly #unavailable = (status: number, headers: Headers): void => {
    this.first.onUnavailable?.(status, headers)
    this.second.onUnavailable?.(status, headers)
  }

  readonly #loadFields = (fields: Headers): void => {
    this.first.onLoadFields?.(fields)
    this.second.onLoadFields?.(fields)
  }

  onResponse(status: number, grpcStatus: number | undefined, elapsedMs: number): void {
    this.first.onResponse(status, grpcStatus, elapsedMs)
    this.second.onResponse(status, grpcStatus, elapsedMs)
  }

  onFailure(why: Failure, elapsedMs: number): void {
    this.first.onFailure(why, elapsedMs)
    this.second.onFailure(why, elapsedMs)
  }
}

/** `known` and `more` as one; one that is alone stays as it is: most hosts have one at most. */
export function joined(known: HostMonitor | undefined, more: HostMonitor): HostMonitor {
  return known === undefined ? more : new Pair(known, more)
}

/** `known` without `less`; harmless where that is no part of it. */
export function parted(known: HostMonitor | undefined, less: HostMonitor): HostMonitor | undefined {
  if (known === less) return undefined
  if (!(known instanceof Pair)) return known
  const first = parted(known.first, less)
  const second = parted(known.second, less)
  if (first === known.first && second === known.second) return known
  if (first === undefined) return second
  return second === undefined ? first : new Pair(first, second)
}
