import type { FieldReader } from '../../lib/core/field-reader.ts'
import { compileCidrs } from '../../lib/match/cidr.ts'
import type { CidrConfig } from '../../lib/match/config.ts'

/** What a TLV leaves for later filters, matchers and logs. */
export interface TlvRule {
  readonly type: number
  readonly namespace: string
  readonly key: string
  readonly base64: boolean
}

/** A parsed `ProxyProtocol`. Plain data. */
export interface ProxyProtocolConfig {
  /** Connections without a header pass. */
  readonly optional: boolean
  readonly disallowedVersions: readonly (1 | 2)[]
  /** One for a type. */
  readonly rules: readonly TlvRule[]
  /** Types of TLVs that the upstream side may pass on. */
  readonly passThrough: 'all' | readonly number[]
  readonly location: 'metadata' | 'filter-state'
  /** '' or ending with a dot. */
  readonly statPrefix: string
  /** Direct peers whose headers are believed; undefined: every one, as in Envoy. */
  readonly trustedSources?: readonly CidrConfig[]
  /** Together with `trustedSources`: so are peers on Unix sockets, whom the mode of its file has let in. */
  readonly trustsUnix?: boolean
}

/** Where metadata goes that names no namespace. */
export const NAMESPACE = 'envoy.filters.listener.proxy_protocol'

/** `envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol` */
export function parseProxyProtocol(fields: FieldReader): ProxyProtocolConfig {
  // Every field decides whom the gateway believes.
  fields.unread('refuse')
  const statPrefix = fields.string('stat_prefix')
  return {
    optional: fields.bool('allow_requests_without_proxy_protocol'),
    disallowedVersions: parseVersions(fields),
    rules: parseRules(fields),
    passThrough: parsePassThrough(fields.message('pass_through_tlvs')),
    location: parseLocation(fields),
    statPrefix: statPrefix === '' || statPrefix.endsWith('.') ? statPrefix : `${statPrefix}.`,
  }
}

/** The same with `trusted_sources`, which Envoy does not have: at least one address range or `unix`. */
export function parseTrustedProxyProtocol(fields: FieldReader): ProxyProtocolConfig {
  const names = fields.strings('trusted_sources')
  const trustsUnix = names.includes('unix')
  const trustedSources = names.flatMap((text, i) => {
    const range = text === 'unix' ? undefined : parseRange(text)
    if (range !== undefined) return [range]
    if (text !== 'unix') {
      fields.error(`trusted_sources[${i}]`, `"${text}" is neither an IP address, a range of them nor unix`)
    }
    return []
  })
  if (!fields.has('trusted_sources')) fields.error('trusted_sources', 'must name at least one address range')
  return { ...parseProxyProtocol(fields), trustedSources, ...(trustsUnix && { trustsUnix }) }
}

function parseRange(text: string): CidrConfig | undefined {
  const [, address, length] = /^([^/]+)(?:\/([0-9]{1,3}))?$/.exec(text) ?? []
  if (address === undefined) return undefined
  const range = { address, prefixLength: Number(length ?? (address.includes(':') ? 128 : 32)) }
  try {
    compileCidrs([range])
    return range
  } catch {
    return undefined
  }
}

function parseVersions(fields: FieldReader): readonly (1 | 2)[] {
  const versions = new Set<1 | 2>()
  for (const name of fields.enumNames('disallowed_versions')) {
    if (name === 'V1') versions.add(1)
    else if (name === 'V2') versions.add(2)
    else fields.error('disallowed_versions', `"${name}" is neither V1 nor V2`)
  }
  if (versions.size === 2) fields.error('disallowed_versions', 'must leave one version')
  return [...versions]
}

function parseRules(fields: FieldReader): readonly TlvRule[] {
  const rules = new Map<number, TlvRule>()
  for (const rule of fields.messages('rules')) {
    const type = tlvType(rule, 'tlv_type', rule.number('tlv_type') ?? 0)
    const pair = rule.message('on_tlv_present')
    if (pair === undefined) {
      rule.error('on_tlv_present', 'is required')
      continue
    }
    const key = pair.string('key')
    if (key === '') pair.error('key', 'must not be empty')
    const encoding = pair.enumName('value_string_encoding')
    if (!['', 'UNSPECIFIED', 'SANITIZED_UTF8', 'BASE64'].includes(encoding)) {
      pair.error('value_string_encoding', `"${encoding}" is none of SANITIZED_UTF8 and BASE64`)
    }
    // The last rule for a type holds, as in Envoy.
    rules.set(type, {
      type,
      namespace: pair.string('metadata_namespace') || NAMESPACE,
      key,
      base64: encoding === 'BASE64',
    })
  }
  return [...rules.values()]
}

function parsePassThrough(fields: FieldReader | undefined): 'all' | readonly number[] {
  if (fields === undefined) return []
  const kind = fields.enumName('match_type')
  const types = fields.numbers('tlv_type').map((type, i) => tlvType(fields, `tlv_type[${i}]`, type))
  if (kind === 'INCLUDE') return types
  if (kind !== '' && kind !== 'INCLUDE_ALL') fields.error('match_type', `"${kind}" is neither INCLUDE_ALL nor INCLUDE`)
  else if (types.length > 0) fields.error('tlv_type', 'has no effect with INCLUDE_ALL')
  return 'all'
}

function tlvType(fields: FieldReader, name: string, type: number): number {
  if (!Number.isInteger(type) || type < 0 || type > 255) fields.error(name, `must be from 0 to 255, not ${type}`)
  return type
}

function parseLocation(fields: FieldReader): ProxyProtocolConfig['location'] {
  const name = fields.enumName('tlv_location')
  if (name === 'FILTER_STATE') return 'filter-state'
  if (name !== '' && name !== 'DYNAMIC_METADATA') {
    fields.error('tlv_location', `"${name}" is neither DYNAMIC_METADATA nor FILTER_STATE`)
  }
  return 'metadata'
}
