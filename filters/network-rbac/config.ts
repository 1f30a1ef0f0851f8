import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { RbacConfig } from '../../lib/rbac/config.ts'
import { parseRbacPair } from '../../lib/rbac/parse.ts'
import { asksOfRequests } from '../../lib/rbac/request-conditions.ts'

export interface NetworkRbacConfig {
  readonly statPrefix: string
  /** Undefined: nothing is enforced. */
  readonly rules?: RbacConfig
  /** Decides nothing: what it would have decided is counted and left as metadata. */
  readonly shadowRules?: RbacConfig
  readonly shadowStatPrefix: string
  /** Each chunk anew, instead of the connection once. */
  readonly continuous: boolean
  /** How long a connection that is not let in is kept waiting for its end; 0: not at all. */
  readonly delayDenyMs: number
}

/** `envoy.extensions.filters.network.rbac.v3.RBAC` */
export function parseNetworkRbac(fields: FieldReader): NetworkRbacConfig {
  fields.unread('refuse')
  const statPrefix = fields.string('stat_prefix')
  if (statPrefix === '') fields.error('stat_prefix', 'must not be empty')
  const rules = parsePair(fields, 'rules', 'matcher')
  const shadowRules = parsePair(fields, 'shadow_rules', 'shadow_matcher')
  const delayDenyMs = fields.durationMs('delay_deny') ?? 0
  if (delayDenyMs < 0) fields.error('delay_deny', `${delayDenyMs} ms is less than nothing`)
  return {
    statPrefix,
    ...(rules && { rules }),
    ...(shadowRules && { shadowRules }),
    shadowStatPrefix: fields.string('shadow_rules_stat_prefix'),
    continuous: parseEnforcement(fields),
    delayDenyMs,
  }
}

/** Refuses what only requests have. Envoy refuses headers too, and lets paths pass that never match. */
function parsePair(fields: FieldReader, rules: string, matcher: string): RbacConfig | undefined {
  const config = parseRbacPair(fields, rules, matcher)
  const asked = config && asksOfRequests(config)
  if (asked !== undefined) fields.error(config?.kind === 'matcher' ? matcher : rules, `${asked}: connections have none`)
  return config
}

function parseEnforcement(fields: FieldReader): boolean {
  const word = fields.enumName('enforcement_type')
  if (word === 'CONTINUOUS') return true
  if (word !== '' && word !== 'ONE_TIME_ON_FIRST_BYTE') fields.error('enforcement_type', `unknown type "${word}"`)
  return false
}
