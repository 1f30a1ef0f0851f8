import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { HashPolicyConfig } from '../../lib/router/config.ts'
import { durationMs } from './durations.ts'
import { translateRegexRewrite } from './regex.ts'

/** `hash_policy` of a route, of a cluster's protocol options or of a balancer, in order. */
export function translateHashPolicies(reader: FieldReader): { readonly hashPolicies?: readonly HashPolicyConfig[] } {
  const hashPolicies = reader.messages('hash_policy').flatMap((policy) => {
    policy.unread('refuse')
    const translated = translatePolicy(policy)
    const terminal = policy.bool('terminal')
    if (translated === undefined) return []
    return [terminal ? { ...translated, terminal: true as const } : translated]
  })
  return hashPolicies.length === 0 ? {} : { hashPolicies }
}

function translatePolicy(reader: FieldReader): HashPolicyConfig | undefined {
  switch (reader.which('policy_specifier')) {
    case 'header': {
      const header = reader.message('header')
      const rewrite = header?.message('regex_rewrite')
      const name = header?.string('header_name').toLowerCase() ?? ''
      return { kind: 'header', name, ...(rewrite && { rewrite: translateRegexRewrite(rewrite) }) }
    }
    case 'cookie':
      return translateCookie(reader.message('cookie'))
    case 'connection_properties':
      return reader.message('connection_properties')?.bool('source_ip') ? { kind: 'source-ip' } : undefined
    case 'query_parameter':
      return { kind: 'query-parameter', name: reader.message('query_parameter')?.string('name') ?? '' }
    case 'filter_state':
      return { kind: 'filter-state', key: reader.message('filter_state')?.string('key') ?? '' }
    default:
      return undefined
  }
}

function translateCookie(reader: FieldReader | undefined): HashPolicyConfig {
  const ttlMs = durationMs(reader, 'ttl')
  const path = reader?.string('path') ?? ''
  const attributes = (reader?.messages('attributes') ?? []).map((attribute) => ({
    name: attribute.string('name'),
    value: attribute.string('value'),
  }))
  return {
    kind: 'cookie',
    name: reader?.string('name') ?? '',
    // Whole seconds, as Envoy.
    ...(ttlMs !== undefined && { ttlS: Math.trunc(ttlMs / 1000) }),
    ...(path !== '' && { path }),
    ...(attributes.length > 0 && { attributes }),
  }
}
