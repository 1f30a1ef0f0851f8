import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { ClusterChoiceConfig, WeightedClusterConfig } from '../../lib/router/config.ts'
import { translateFilterOverrides } from './filter-overrides.ts'
import { translateHeaderEdits } from './header-edits.ts'
import { translateMetadataMatch } from './metadata.ts'
import { refuseTrue } from './refusals.ts'
import { checkCluster, type RouteScope } from './route-scope.ts'

const MAX_SUM = 0xffff_ffff

/** `config.route.v3.WeightedCluster`; the weights must add up to 1…2³²−1. */
export function translateWeightedClusters(
  reader: FieldReader,
  scope: RouteScope & { route: string },
): ClusterChoiceConfig {
  reader.unread('refuse')
  reader.ignore('total_weight')
  refuseTrue(reader, 'use_hash_policy', 'is not available')
  const prefix = reader.string('runtime_key_prefix')
  const clusters = reader.messages('clusters').map((entry) => translateEntry(entry, scope, prefix))
  const sum = clusters.reduce((total, cluster) => total + cluster.weight, 0)
  if (clusters.length > 0 && (sum < 1 || sum > MAX_SUM)) {
    reader.error('clusters', `the weights must add up to 1…${MAX_SUM}, they are ${sum}`)
  }
  const randomHeader = reader.string('header_name').toLowerCase()
  return { kind: 'weighted', clusters, ...(randomHeader !== '' && { randomHeader }) }
}

function translateEntry(
  reader: FieldReader,
  scope: RouteScope & { route: string },
  prefix: string,
): WeightedClusterConfig {
  reader.unread('refuse')
  const name = reader.string('name')
  const clusterHeader = reader.string('cluster_header').toLowerCase()
  if ((name === '') === (clusterHeader === '')) {
    reader.error('name', 'exactly one of name and cluster_header must be set')
  }
  checkCluster(reader, 'name', name, scope)
  const weight = reader.number('weight')
  if (weight === undefined) reader.error('weight', 'is required')
  const requestHeaders = translateHeaderEdits(reader, 'request', scope.context)
  const responseHeaders = translateHeaderEdits(reader, 'response', scope.context)
  const filterConfigs = translateFilterOverrides(reader, scope)
  const hostRewrite = reader.string('host_rewrite_literal')
  const metadataMatch = translateMetadataMatch(reader, 'metadata_match')
  return {
    ...(name !== '' && { name }),
    ...(clusterHeader !== '' && { clusterHeader }),
    weight: weight ?? 0,
    ...(prefix !== '' && { runtimeKey: `${prefix}.${name}` }),
    ...(requestHeaders && { requestHeaders }),
    ...(responseHeaders && { responseHeaders }),
    ...(filterConfigs && { filterConfigs }),
    ...(hostRewrite !== '' && { hostRewrite }),
    ...(metadataMatch && { metadataMatch }),
  }
}
