import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { BalancerConfig } from '../../lib/upstream/config.ts'
import { consume, typedExtension } from './refusals.ts'

const POLICIES = 'envoy.extensions.load_balancing_policies.'

type Translate = (fields: FieldReader) => BalancerConfig

/** Load-balancing extensions that are available, by type URL. */
const EXTENSIONS: ReadonlyMap<string, Translate> = new Map<string, Translate>([
  [`${POLICIES}round_robin.v3.RoundRobin`, roundRobin],
  [`${POLICIES}random.v3.Random`, random],
  [`${POLICIES}least_request.v3.LeastRequest`, leastRequest],
])

/** Members of the oneof `lb_config`, by the policy each belongs to. */
const LB_CONFIGS: ReadonlyMap<string, string> = new Map([
  ['ring_hash_lb_config', 'RING_HASH'],
  ['maglev_lb_config', 'MAGLEV'],
  ['original_dst_lb_config', 'CLUSTER_PROVIDED'],
  ['least_request_lb_config', 'LEAST_REQUEST'],
  ['round_robin_lb_config', 'ROUND_ROBIN'],
])

/**
 * The policy of a cluster: the first entry of `load_balancing_policy` that is available, where that is set, otherwise
 * `lb_policy` with its `lb_config`. Policies that would choose other hosts are refused, never replaced.
 */
export function translateBalancer(cluster: FieldReader): BalancerConfig {
  const policy = cluster.message('load_balancing_policy')
  const legacy = cluster.enumName('lb_policy')
  if (policy !== undefined) {
    for (const field of LB_CONFIGS.keys()) cluster.ignore(field)
    return firstAvailable(policy)
  }
  return translateLegacy(cluster, legacy)
}

function firstAvailable(reader: FieldReader): BalancerConfig {
  const names: string[] = []
  let chosen: BalancerConfig | undefined
  for (const entry of reader.messages('policies')) {
    const extension = typedExtension(entry.message('typed_extension_config'))
    if (extension === undefined) continue
    const translate = chosen === undefined ? EXTENSIONS.get(extension.typeUrl) : undefined
    if (translate !== undefined) chosen = translate(extension.fields)
    else consume(extension)
    names.push(extension.typeUrl)
  }
  if (chosen !== undefined) return chosen
  const asked = names.length === 0 ? 'the list is empty' : `asked for ${names.join(', ')}`
  reader.error('policies', `no load-balancing policy of the list is available (${asked})`)
  return { kind: 'round-robin' }
}

function translateLegacy(cluster: FieldReader, policy: string): BalancerConfig {
  const field = cluster.which('lb_config')
  const config = field === undefined ? undefined : cluster.message(field)
  const owner = field === undefined ? policy : LB_CONFIGS.get(field)
  if (field !== undefined && owner !== policy) {
    config?.toJson()
    cluster.error(field, `belongs to lb_policy ${owner}, but lb_policy is ${policy}`)
  }
  switch (policy) {
    case 'ROUND_ROBIN':
      return config !== undefined && owner === policy ? legacyRoundRobin(config) : { kind: 'round-robin' }
    case 'RANDOM':
      return { kind: 'random' }
    case 'LEAST_REQUEST':
      return config !== undefined && owner === policy
        ? legacyLeastRequest(config)
        : { kind: 'least-request', choiceCount: 2, activeRequestBias: 1 }
    case 'LOAD_BALANCING_POLICY_CONFIG':
      cluster.error('load_balancing_policy', 'is required by lb_policy LOAD_BALANCING_POLICY_CONFIG')
      return { kind: 'round-robin' }
    default:
      if (owner === policy) config?.toJson()
      cluster.error('lb_policy', `${policy} is not available`)
      return { kind: 'round-robin' }
  }
}

function legacyRoundRobin(fields: FieldReader): BalancerConfig {
  fields.ignore('slow_start_config')
  return { kind: 'round-robin' }
}

function roundRobin(fields: FieldReader): BalancerConfig {
  fields.ignore('slow_start_config', 'locality_lb_config')
  return { kind: 'round-robin' }
}

function random(fields: FieldReader): BalancerConfig {
  fields.ignore('locality_lb_config')
  return { kind: 'random' }
}

function leastRequest(fields: FieldReader): BalancerConfig {
  fields.ignore('locality_lb_config', 'enable_full_scan', 'selection_method')
  return legacyLeastRequest(fields)
}

function legacyLeastRequest(fields: FieldReader): BalancerConfig {
  fields.ignore('slow_start_config')
  const bias = fields.message('active_request_bias')
  const activeRequestBias = bias?.number('default_value') ?? 1
  const activeRequestBiasKey = bias?.string('runtime_key') ?? ''
  if (activeRequestBias < 0) fields.error('active_request_bias', `must not be negative, is ${activeRequestBias}`)
  return {
    kind: 'least-request',
    choiceCount: fields.number('choice_count') ?? 2,
    activeRequestBias,
    ...(activeRequestBiasKey !== '' && { activeRequestBiasKey }),
  }
}
