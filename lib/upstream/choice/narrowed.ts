import type { PickContext, PickMetadata, UpstreamHost, WantedHosts } from '../../core/attempt.ts'
import type { ConnectionInfo } from '../../core/connection.ts'
import type { JsonObject } from '../../core/errors.ts'
import type { HashPolicyConfig } from '../../core/hash-policy.ts'
import type { Hash64 } from '../../core/hash64.ts'
import type { Protocol } from '../../core/head.ts'

/** A choice of host with the priorities that it may not come from: what an aggregate asks of a member. */
export class Narrowed implements PickContext, Record<keyof PickContext, unknown> {
  readonly #context: PickContext
  readonly spentPriorities: readonly number[]

  constructor(context: PickContext, spentPriorities: readonly number[]) {
    this.#context = context
    this.spentPriorities = spentPriorities
  }

  get excluded(): readonly UpstreamHost[] {
    // Undefined is what makes no further picks worth while.
    return this.#context.excluded as readonly UpstreamHost[]
  }

  get downstream(): ConnectionInfo {
    // Undefined is what asks for nothing of a connection.
    return this.#context.downstream as ConnectionInfo
  }

  get authority(): string | undefined {
    return this.#context.authority
  }

  get protocol(): Protocol | undefined {
    return this.#context.protocol
  }

  get filterState(): PickContext['filterState'] {
    return this.#context.filterState
  }

  get attempt(): number {
    return this.#context.attempt ?? 1
  }

  get spentHosts(): readonly UpstreamHost[] | undefined {
    return this.#context.spentHosts
  }

  get labels(): JsonObject | undefined {
    return this.#context.labels
  }

  get wanted(): WantedHosts | undefined {
    return this.#context.wanted
  }

  get metadata(): PickMetadata | undefined {
    return this.#context.metadata
  }

  get selectionAttempts(): number {
    return this.#context.selectionAttempts ?? 0
  }

  hash(own?: readonly HashPolicyConfig[]): Hash64 | undefined {
    return this.#context.hash?.(own)
  }

  header(name: string): string | undefined {
    return this.#context.header?.(name)
  }

  rejects(host: UpstreamHost): boolean {
    return this.#context.rejects?.(host) === true
  }
}
