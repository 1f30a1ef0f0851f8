import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { BalancerConfig } from '../../lib/upstream/config.ts'
import {
  cluster,
  type LegacyScope,
  leastRequest,
  legacyLeastRequest,
  legacyMaglev,
  legacyRingHash,
  legacyRoundRobin,
  maglev,
  random,
  ringHash,
  roundRobin,
} from './balancers.ts'
import { percentage } from './locality-balancing.ts'
import { consume, typedExtension } from './refusals.ts'

const POLICIES = 'envoy.extensions.load_balancing_policies.'

type Translate = (fields: FieldReader) => BalancerConfig

/** Load-balancing extensions that are available, by type URL. */
const EXTENSIONS: ReadonlyMap<string, Translate> = new Map<string, Translate>([
  [`${POLICIES}round_robin.v3.RoundRobin`, roundRobin],
  [`${POLICIES}random.v3.Random`, random],
  [`${POLICIES}least_request.v3.LeastRequest`, leastRequest],
  [`${POLICIES}ring_hash.v3.RingHash`, ringHash],
  [`${POLICIES}maglev.v3.Maglev`, maglev],
])

/** Members of the oneof `lb_config`, by the policy each belongs to. */
const LB_CONFIGS: ReadonlyMap<string, string> = new Map([
  ['ring_hash_lb_config', 'RING_HASH'],
  ['maglev_lb_config', 'MAGLEV'],
  ['original_dst_lb_config', 'CLUSTER_PROVIDED'],
  ['least_request_lb_config', 'LEAST_REQUEST'],
  ['round_robin_lb_config', 'ROUND_ROBIN'],
])

/** Of `common_lb_config`, what belongs to `lb_policy` alone. */
const OF_LB_POLICY = ['zone_aware_lb_config', 'locality_weighted_lb_config', 'consistent_hashing_lb_config'] as const

export interface Balancing {
  readonly balancer: BalancerConfig
  readonly panicThreshold?: number
  readonly ignoreUnchecked?: boolean
}

/**
 * The policy of a cluster: the first entry of `load_balancing_policy` that is available, where that is set, otherwise
 * `lb_policy` with its `lb_config`. Policies that would choose other hosts are refused, never replaced.
 */
export function translateBalancing(reader: FieldReader): Balancing {
  const policy = reader.message('load_balancing_policy')
  const legacy = reader.enumName('lb_policy')
  const common = reader.message('common_lb_config')
  const balancer =
    policy === undefined ? translateLegacy(reader, legacy, common) : translateList(reader, policy, common)
  return { balancer, ...translateCommon(common) }
}

/** What holds for all policies. */
function translateCommon(common: FieldReader | undefined): Omit<Balancing, 'balancer'> {
  common?.ignore('update_merge_window', 'close_connections_on_host_set_change', 'override_host_status')
  const panicThreshold = percentage(common, 'healthy_panic_threshold')
  return {
    ...(panicThreshold !== undefined && { panicThreshold }),
    ...(common?.bool('ignore_new_hosts_until_first_hc') && { ignoreUnchecked: true }),
  }
}

function translateList(reader: FieldReader, policy: FieldReader, common: FieldReader | undefined): BalancerConfig {
  for (const field of LB_CONFIGS.keys()) reader.ignore(field)
  for (const field of OF_LB_POLICY) {
    common?.refuse(field, 'belongs to lb_policy: load_balancing_policy has settings of its own')
  }
  return firstAvailable(policy)
}

/** `config.cluster.v3.LoadBalancingPolicy` */
export function firstAvailable(reader: FieldReader): BalancerConfig {
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

function translateLegacy(reader: FieldReader, policy: string, common: FieldReader | undefined): BalancerConfig {
  const field = reader.which('lb_config')
  const config = field === undefined ? undefined : reader.message(field)
  const owner = field === undefined ? policy : LB_CONFIGS.get(field)
  if (field !== undefined && owner !== policy) {
    config?.toJson()
    reader.error(field, `belongs to lb_policy ${owner}, but lb_policy is ${policy}`)
  }
  const scope: LegacyScope = cluster(common, owner === policy ? config : undefined)
  switch (policy) {
    case 'ROUND_ROBIN':
      return legacyRoundRobin(scope)
    case 'RANDOM':
      return { kind: 'random', ...scope.localities }
    case 'LEAST_REQUEST':
      return legacyLeastRequest(scope)
    case 'RING_HASH':
      return legacyRingHash(scope)
    case 'MAGLEV':
      return legacyMaglev(scope)
    case 'LOAD_BALANCING_POLICY_CONFIG':
      reader.error('load_balancing_policy', 'is required by lb_policy LOAD_BALANCING_POLICY_CONFIG')
      return { kind: 'round-robin' }
    default:
      scope.config?.toJson()
      reader.error('lb_policy', `${policy} is not available`)
      return { kind: 'round-robin' }
  }
}
