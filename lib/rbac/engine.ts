import type { MatcherTreeConfig } from '../match/config.ts'
import { mapActions } from '../match/map-actions.ts'
import { compileMatcherTree, type MatcherTree } from '../match/tree.ts'
import type { RbacAttributes } from './attributes.ts'
import { type Condition, compileCondition, some } from './condition.ts'
import type { RbacActionConfig, RbacConfig, RbacEffect, RbacPolicyConfig } from './config.ts'

/** What a set of rules says of one request or connection. */
export interface Verdict {
  readonly allowed: boolean
  /** The policy that matched, '' for none. */
  readonly policy: string
  /** For access logs: only where the rules were made for them (`log`). */
  readonly logHint: boolean | undefined
}

/** Never throws, keeps nothing, allocates nothing. */
export type RbacEngine = (attributes: RbacAttributes) => Verdict

/**
 * Compiles one set of rules.
 *
 * @throws Error for a pattern, template or address range that is none.
 */
export function compileRbac(config: RbacConfig): RbacEngine {
  return config.kind === 'rules' ? compileRules(config.effect, config.policies) : compileTree(config.tree)
}

interface CompiledPolicy {
  readonly permitted: Condition
  readonly principal: Condition
  readonly verdict: Verdict
}

function compileRules(effect: RbacEffect, configs: readonly RbacPolicyConfig[]): RbacEngine {
  const policies = configs.map(
    ({ name, permissions, principals }): CompiledPolicy => ({
      permitted: some(permissions.map(compileCondition)),
      principal: some(principals.map(compileCondition)),
      verdict: verdictOf(effect !== 'deny', name, effect === 'log' ? true : undefined),
    }),
  )
  const otherwise = verdictOf(effect !== 'allow', '', effect === 'log' ? false : undefined)
  return (attributes) => {
    for (const policy of policies) {
      if (policy.permitted(attributes) && policy.principal(attributes)) return policy.verdict
    }
    return otherwise
  }
}

function compileTree(config: MatcherTreeConfig<RbacActionConfig>): RbacEngine {
  const effects = effectsOf(config)
  const hints = effects.has('log')
  const withVerdicts = mapActions(config, ({ name, effect }) =>
    verdictOf(effect !== 'deny', name, hints ? effect === 'log' : undefined),
  )
  const find: MatcherTree<Verdict> = compileMatcherTree(withVerdicts)
  const otherwise = verdictOf(false, '', undefined)
  return (attributes) => find(attributes) ?? otherwise
}

function verdictOf(allowed: boolean, policy: string, logHint: boolean | undefined): Verdict {
  return Object.freeze({ allowed, policy, logHint })
}

function effectsOf(tree: MatcherTreeConfig<RbacActionConfig>): ReadonlySet<RbacEffect> {
  const effects = new Set<RbacEffect>()
  mapActions(tree, ({ effect }) => effects.add(effect))
  return effects
}
