import type { Cluster } from '../core/attempt.ts'
import type { HashPolicyConfig } from '../core/hash-policy.ts'
import type { RetryPolicyConfig } from '../core/retry-policy.ts'
import { HashPolicies } from './hash-policy.ts'
import { compileRetryPolicy, type RetryPolicy } from './retry/policy.ts'

/** What clusters say of requests, compiled when the first request meets it. Their configuration has been checked. */
export class ClusterPolicies {
  readonly #retries = new WeakMap<RetryPolicyConfig, RetryPolicy>()
  readonly #hashes = new WeakMap<readonly HashPolicyConfig[], HashPolicies>()

  /** The retry policy of a cluster of its own; undefined: it has none. */
  retryOf({ retries }: Cluster): RetryPolicy | undefined {
    const config = retries?.policy
    if (config === undefined) return undefined
    const known = this.#retries.get(config)
    if (known !== undefined) return known
    const compiled = compileRetryPolicy(config)
    this.#retries.set(config, compiled)
    return compiled
  }

  /** The same for the same list. */
  hashesOf(configs: readonly HashPolicyConfig[]): HashPolicies {
    const known = this.#hashes.get(configs)
    if (known !== undefined) return known
    const compiled = new HashPolicies(configs)
    this.#hashes.set(configs, compiled)
    return compiled
  }
}
