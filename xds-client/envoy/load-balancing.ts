import type { FieldReader } from '../../lib/core/field-reader.ts'
import type {
  BalancerConfig,
  ClusterConfig,
  ListBalancerConfig,
  OverrideHostConfig,
  RoundRobinConfig,
  SubsetConfig,
} from '../../lib/upstream/config.ts'
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
import { translateSubsets } from './subsets.ts'
import { clientWeighted, overrideHost } from './told-balancers.ts'

const POLICIES = 'envoy.extensions.load_balancing_policies.'

type Translate<C extends BalancerConfig> = (fields: FieldReader) => C

/** Extensions that choose among all hosts of a list, by type URL. */
const LISTS: ReadonlyMap<string, Translate<ListBalancerConfig>> = new Map<string, Translate<ListBalancerConfig>>([
  [`${POLICIES}round_robin.v3.RoundRobin`, roundRobin],
  [`${POLICIES}random.v3.Random`, random],
  [`${POLICIES}least_request.v3.LeastRequest`, leastRequest],
  [`${POLICIES}ring_hash.v3.RingHash`, ringHash],
  [`${POLICIES}maglev.v3.Maglev`, maglev],
  [`${POLICIES}client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin`, clientWeighted],
  [`${POLICIES}wrr_locality.v3.WrrLocality`, wrrLocality],
])

/** Those that another may be a fallback to. */
const FALLBACKS: ReadonlyMap<string, Translate<ListBalancerConfig | SubsetConfig>> = new Map<
  string,
  Translate<ListBalancerConfig | SubsetConfig>
>([...LISTS, [`${POLICIES}subset.v3.Subset`, subset]])

/** Load-balancing extensions that are available, by type URL. */
const EXTENSIONS: ReadonlyMap<string, Translate<BalancerConfig>> = new Map<string, Translate<BalancerConfig>>([
  ...FALLBACKS,
  [`${POLICIES}override_host.v3.OverrideHost`, overrideHostOr],
])

/** Of clusters that choose themselves. */
const PROVIDED = `${POLICIES}cluster_provided.v3.ClusterProvided`

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
  readonly wantedHealth?: ClusterConfig['wantedHealth']
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
  return { balancer: withSubsets(reader, balancer), ...translateCommon(common) }
}

/** Of a cluster that chooses hosts by itself, whose policy must say so: `lb_policy`, or the only entry that is available. */
export function checkProvided(reader: FieldReader): void {
  const policy = reader.message('load_balancing_policy')
  const legacy = reader.enumName('lb_policy')
  if (policy === undefined) {
    if (legacy !== 'CLUSTER_PROVIDED') reader.error('lb_policy', `must be CLUSTER_PROVIDED, is ${legacy}`)
    return
  }
  let provided = false
  for (const entry of policy.messages('policies')) {
    const extension = typedExtension(entry.message('typed_extension_config'))
    if (extension === undefined) continue
    consume(extension)
    provided ||= extension.typeUrl === PROVIDED
  }
  if (!provided) policy.error('policies', `must name ${PROVIDED}: this type of cluster chooses hosts by itself`)
}

/** `lb_subset_config`, which without selectors is as if it were not there. */
function withSubsets(reader: FieldReader, within: BalancerConfig): BalancerConfig {
  const field = 'lb_subset_config'
  const fields = reader.message(field)
  if (fields === undefined) return within
  if (reader.has('load_balancing_policy')) reader.error(field, 'cannot be combined with load_balancing_policy')
  const subsets = translateSubsets(fields)
  if (within.kind === 'subset' || within.kind === 'override-host' || subsets.selectors.length === 0) return within
  if (subsets.localityWeights === true && within.localities?.kind !== 'weighted') {
    fields.error('locality_weight_aware', 'needs locality_weighted_lb_config in common_lb_config')
  }
  return { ...subsets, within }
}

/** What holds for all policies. */
function translateCommon(common: FieldReader | undefined): Omit<Balancing, 'balancer'> {
  common?.ignore('update_merge_window', 'close_connections_on_host_set_change')
  const wantedHealth = translateWantedHealth(common?.message('override_host_status'))
  const panicThreshold = percentage(common, 'healthy_panic_threshold')
  return {
    ...(panicThreshold !== undefined && { panicThreshold }),
    ...(common?.bool('ignore_new_hosts_until_first_hc') && { ignoreUnchecked: true }),
    ...(wantedHealth && { wantedHealth }),
  }
}

/** `core.v3.HealthStatusSet`; what is unknown is healthy. */
function translateWantedHealth(reader: FieldReader | undefined): ClusterConfig['wantedHealth'] {
  if (reader === undefined) return undefined
  const words = reader.enumNames('statuses').map((status) => STATUSES.get(status))
  return [...new Set(words.filter((word) => word !== undefined))]
}

type Health = NonNullable<ClusterConfig['wantedHealth']>[number]

const STATUSES: ReadonlyMap<string, Health> = new Map<string, Health>([
  ['UNKNOWN', 'healthy'],
  ['HEALTHY', 'healthy'],
  ['UNHEALTHY', 'unhealthy'],
  ['DRAINING', 'draining'],
  ['TIMEOUT', 'timeout'],
  ['DEGRADED', 'degraded'],
])

function translateList(reader: FieldReader, policy: FieldReader, common: FieldReader | undefined): BalancerConfig {
  for (const field of LB_CONFIGS.keys()) reader.ignore(field)
  for (const field of OF_LB_POLICY) {
    common?.refuse(field, 'belongs to lb_policy: load_balancing_policy has settings of its own')
  }
  return firstAvailable(policy, EXTENSIONS)
}

/** `Subset` */
function subset(fields: FieldReader): SubsetConfig {
  const redundantKeys = fields.bool('allow_redundant_keys')
  const within = firstIn(fields, 'subset_lb_policy', FALLBACKS)
  return { ...translateSubsets(fields), ...(redundantKeys && { redundantKeys: true as const }), within }
}

/** `OverrideHost` */
function overrideHostOr(fields: FieldReader): OverrideHostConfig {
  return { ...overrideHost(fields), otherwise: firstIn(fields, 'fallback_policy', FALLBACKS) }
}

/** `WrrLocality`: localities by weight, then a host by the policy within. */
function wrrLocality(fields: FieldReader): ListBalancerConfig {
  const within = firstIn(fields, 'endpoint_picking_policy', LISTS)
  return { ...within, localities: { kind: 'weighted' } }
}

/** The policy in a field that must be set. */
function firstIn<C extends BalancerConfig>(
  fields: FieldReader,
  name: string,
  available: ReadonlyMap<string, Translate<C>>,
): C | RoundRobinConfig {
  const policy = fields.message(name)
  if (policy !== undefined) return firstAvailable(policy, available)
  fields.error(name, 'is required')
  return { kind: 'round-robin' }
}

/** `config.cluster.v3.LoadBalancingPolicy` */
function firstAvailable<C extends BalancerConfig>(
  reader: FieldReader,
  available: ReadonlyMap<string, Translate<C>>,
): C | RoundRobinConfig {
  const names: string[] = []
  let chosen: C | undefined
  for (const entry of reader.messages('policies')) {
    const extension = typedExtension(entry.message('typed_extension_config'))
    if (extension === undefined) continue
    const translate = chosen === undefined ? available.get(extension.typeUrl) : undefined
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
    case 'CLUSTER_PROVIDED':
      scope.config?.toJson()
      reader.error('lb_policy', 'CLUSTER_PROVIDED belongs to types of clusters that choose hosts by themselves')
      return { kind: 'round-robin' }
    default:
      scope.config?.toJson()
      reader.error('lb_policy', `${policy} is not available`)
      return { kind: 'round-robin' }
  }
}
