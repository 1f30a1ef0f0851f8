import type { ExtensionReader, FieldReader } from '../core/field-reader.ts'
import type { MatcherTreeConfig } from '../match/config.ts'
import { parseMatcherTree } from '../match/parse-tree.ts'
import type { RbacActionConfig, RbacConfig, RbacEffect, RbacPolicyConfig } from './config.ts'
import { parseAudit } from './parse-audit.ts'
import { parsePermission, parsePrincipal } from './parse-condition.ts'

const EFFECTS: ReadonlyMap<string, RbacEffect> = new Map([
  ['', 'allow'],
  ['ALLOW', 'allow'],
  ['DENY', 'deny'],
  ['LOG', 'log'],
])

const ACTION = 'envoy.config.rbac.v3.Action'
const CEL = 'CEL conditions are not available yet'

/**
 * Reads the pair of fields that Envoy's RBAC filters have twice (`rules` and `matcher`, `shadow_rules` and
 * `shadow_matcher`): the matcher wins. Undefined where neither is set: nothing is enforced.
 */
export function parseRbacPair(fields: FieldReader, rules: string, matcher: string): RbacConfig | undefined {
  const tree = fields.message(matcher)
  if (tree !== undefined) {
    if (fields.has(rules)) fields.ignore(rules)
    return { kind: 'matcher', tree: parseRbacTree(tree) }
  }
  const reader = fields.message(rules)
  if (reader === undefined) return undefined
  // Nobody is kept out by what stands in the shadow.
  if (rules.startsWith('shadow_')) reader.ignore('audit_logging_options')
  return parseRbacRules(reader)
}

/** `config.rbac.v3.RBAC`. Mistakes go to the reader; what is answered then is never used. */
export function parseRbacRules(reader: FieldReader): RbacConfig {
  reader.unread('refuse')
  const audit = parseAudit(reader.message('audit_logging_options'))
  const effect = parseEffect(reader)
  const policies = [...reader.messageMap('policies')].map(([name, policy]) => parsePolicy(name, policy))
  policies.sort((a, b) => (a.name < b.name ? -1 : 1))
  return { kind: 'rules', effect, policies, ...(audit && { audit }) }
}

function parseEffect(reader: FieldReader): RbacEffect {
  const word = reader.enumName('action')
  const effect = EFFECTS.get(word)
  if (effect === undefined) reader.error('action', `unknown action "${word}"`)
  return effect ?? 'allow'
}

/** `config.rbac.v3.Policy` */
function parsePolicy(name: string, reader: FieldReader): RbacPolicyConfig {
  for (const field of ['condition', 'checked_condition', 'cel_config']) reader.refuse(field, CEL)
  const permissions = reader.messages('permissions').map(parsePermission)
  const principals = reader.messages('principals').map(parsePrincipal)
  if (permissions.length === 0) reader.error('permissions', 'must not be empty')
  if (principals.length === 0) reader.error('principals', 'must not be empty')
  return { name, permissions, principals }
}

/** A matcher tree whose leaves are `config.rbac.v3.Action`. */
function parseRbacTree(reader: FieldReader): MatcherTreeConfig<RbacActionConfig> {
  return parseMatcherTree(reader, parseAction)
}

function parseAction(extension: ExtensionReader, at: FieldReader): RbacActionConfig | undefined {
  if (extension.typeUrl !== ACTION) {
    extension.fields.toJson()
    at.error('typed_config', `"${extension.typeUrl}" is no action of RBAC: ${ACTION} is`)
    return undefined
  }
  const name = extension.fields.string('name')
  if (name === '') extension.fields.error('name', 'must not be empty')
  return { name, effect: parseEffect(extension.fields) }
}
