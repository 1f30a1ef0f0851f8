import type { HashPolicyConfig } from '../../../core/hash-policy.ts'

/** Names of headers are compared in lower case. */
export function readHashPolicy(policy: HashPolicyConfig): HashPolicyConfig {
  const own = structuredClone(policy)
  return own.kind === 'header' ? { ...own, name: own.name.toLowerCase() } : own
}
