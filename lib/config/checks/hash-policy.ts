import type { HashPolicyConfig } from '../../core/hash-policy.ts'
import type { Spot } from './spot.ts'
import { checkHeaderName, checkRegexRewrite } from './texts.ts'

/** Names of headers, and what is made of their values. */
export function checkHashPolicy(policy: HashPolicyConfig, spot: Spot): void {
  if (policy.kind !== 'header') return
  if (!policy.name.startsWith(':')) checkHeaderName(policy.name, spot.field('name'))
  if (policy.rewrite !== undefined) checkRegexRewrite(policy.rewrite, spot.field('rewrite', policy.rewrite))
}
