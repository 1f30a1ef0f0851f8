import type { FieldReader } from '../../lib/core/field-reader.ts'
import type {
  LeastRequestConfig,
  MaglevConfig,
  RandomConfig,
  RingHashConfig,
  RoundRobinConfig,
} from '../../lib/upstream/config.ts'
import { translateHashPolicies } from './hash-policies.ts'
import {
  type Localities,
  translateLocalities,
  translateLocalityWeights,
  translateSlowStart,
} from './locality-balancing.ts'

const MIN_RING_SIZE = 1024
const MAX_RING_SIZE = 8 * 1024 * 1024
const TABLE_SIZE = 65_537
const LARGEST_TABLE = 5_000_011

/** What `lb_policy` goes by: `common_lb_config`, and the member of `lb_config` that belongs to it. */
export interface LegacyScope {
  readonly common: FieldReader | undefined
  readonly config: FieldReader | undefined
  readonly localities: Localities
}

export function cluster(common: FieldReader | undefined, config: FieldReader | undefined): LegacyScope {
  return { common, config, localities: translateLocalities(common) }
}

export function roundRobin(fields: FieldReader): RoundRobinConfig {
  return {
    kind: 'round-robin',
    ...translateLocalities(fields.message('locality_lb_config')),
    ...translateSlowStart(fields.message('slow_start_config')),
  }
}

export function legacyRoundRobin({ config, common, localities }: LegacyScope): RoundRobinConfig {
  ignoreHashing(common)
  return { kind: 'round-robin', ...localities, ...translateSlowStart(config?.message('slow_start_config')) }
}

export function random(fields: FieldReader): RandomConfig {
  return { kind: 'random', ...translateLocalities(fields.message('locality_lb_config')) }
}

export function leastRequest(fields: FieldReader): LeastRequestConfig {
  const fullScan = fields.bool('enable_full_scan') || fields.enumName('selection_method') === 'FULL_SCAN'
  return {
    ...numbers(fields),
    ...translateLocalities(fields.message('locality_lb_config')),
    ...(fullScan && { fullScan: true as const }),
  }
}

export function legacyLeastRequest({ config, common, localities }: LegacyScope): LeastRequestConfig {
  ignoreHashing(common)
  return { ...numbers(config), ...localities }
}

function numbers(fields: FieldReader | undefined): LeastRequestConfig {
  const bias = fields?.message('active_request_bias')
  const activeRequestBias = bias?.number('default_value') ?? 1
  const activeRequestBiasKey = bias?.string('runtime_key') ?? ''
  if (activeRequestBias < 0) fields?.error('active_request_bias', `must not be negative, is ${activeRequestBias}`)
  return {
    kind: 'least-request',
    choiceCount: fields?.number('choice_count') ?? 2,
    activeRequestBias,
    ...(activeRequestBiasKey !== '' && { activeRequestBiasKey }),
    ...translateSlowStart(fields?.message('slow_start_config')),
  }
}

/** Without effect on policies that do not hash, as in Envoy. */
function ignoreHashing(common: FieldReader | undefined): void {
  common?.ignore('consistent_hashing_lb_config')
}

type Hashing = Pick<RingHashConfig, 'byHostname' | 'balanceFactor' | 'hashPolicies'>

/** `ConsistentHashingLbConfig`; the deprecated fields of `older` hold where it is not set. */
function translateHashing(reader: FieldReader | undefined, older: FieldReader | undefined): Hashing {
  const ofPolicy = reader?.typeName.includes('load_balancing_policies') === true
  const byHostname = reader?.bool('use_hostname_for_hashing')
  const balanceFactor = reader?.number('hash_balance_factor')
  const olderByHostname = older?.bool('use_hostname_for_hashing') === true
  const olderFactor = older?.number('hash_balance_factor')
  const factor = reader === undefined ? olderFactor : balanceFactor
  return {
    byHostname: byHostname ?? olderByHostname,
    // 0 is none, as in Envoy.
    ...(factor !== undefined && factor > 0 && { balanceFactor: factor }),
    ...(ofPolicy && reader !== undefined && translateHashPolicies(reader)),
  }
}

export function ringHash(fields: FieldReader): RingHashConfig {
  return {
    ...ring(fields),
    ...translateHashing(fields.message('consistent_hashing_lb_config'), fields),
    ...translateLocalityWeights(fields),
  }
}

export function legacyRingHash({ common, config, localities }: LegacyScope): RingHashConfig {
  return {
    ...ring(config),
    ...translateHashing(common?.message('consistent_hashing_lb_config'), undefined),
    ...(localities.localities?.kind === 'weighted' && { localities: localities.localities }),
  }
}

function ring(fields: FieldReader | undefined): RingHashConfig {
  const minSize = fields?.number('minimum_ring_size') ?? MIN_RING_SIZE
  const maxSize = fields?.number('maximum_ring_size') ?? MAX_RING_SIZE
  if (minSize > maxSize) {
    fields?.error('minimum_ring_size', `is ${minSize}, more than maximum_ring_size, which is ${maxSize}`)
  }
  const murmur = fields?.enumName('hash_function') === 'MURMUR_HASH_2'
  return { kind: 'ring-hash', minSize, maxSize, hash: murmur ? 'murmur2' : 'xx', byHostname: false }
}

export function maglev(fields: FieldReader): MaglevConfig {
  return {
    ...table(fields),
    ...translateHashing(fields.message('consistent_hashing_lb_config'), undefined),
    ...translateLocalityWeights(fields),
  }
}

export function legacyMaglev({ common, config, localities }: LegacyScope): MaglevConfig {
  return {
    ...table(config),
    ...translateHashing(common?.message('consistent_hashing_lb_config'), undefined),
    ...(localities.localities?.kind === 'weighted' && { localities: localities.localities }),
  }
}

function table(fields: FieldReader | undefined): MaglevConfig {
  const tableSize = fields?.number('table_size') ?? TABLE_SIZE
  if (tableSize > LARGEST_TABLE) fields?.error('table_size', `is ${tableSize}, the limit is ${LARGEST_TABLE}`)
  else if (!isPrime(tableSize)) fields?.error('table_size', `must be a prime number, is ${tableSize}`)
  return { kind: 'maglev', tableSize, byHostname: false }
}

function isPrime(number: number): boolean {
  if (number < 2) return false
  for (let by = 2; by * by <= number; by++) if (number % by === 0) return false
  return true
}
