import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import type { ClusterConfig, OriginalDstConfig } from '../../lib/upstream/config.ts'
import type { EnvoyContext } from './context.ts'
import { clusterResolvers } from './dns.ts'
import { durationMs } from './durations.ts'
import { metadataKey } from './told-balancers.ts'

export const AGGREGATE = 'envoy.extensions.clusters.aggregate.v3.ClusterConfig'
export const COMPOSITE = 'envoy.extensions.clusters.composite.v3.ClusterConfig'
export const ORIGINAL_DST = 'envoy.extensions.clusters.original_dst.v3.OriginalDstCluster'

const CLEANUP_MS = 5_000
const ORIGINAL_DST_HEADER = 'x-envoy-original-dst-host'

type TypeParts = Pick<ClusterConfig, 'type' | 'localities' | 'members' | 'originalDst'>

/** `cluster_type` of an aggregate: the priorities of other clusters in one row. */
export function translateAggregate(
  cluster: FieldReader,
  { fields }: ExtensionReader,
  context: EnvoyContext,
): TypeParts {
  fields.unread('refuse')
  withoutEndpoints(cluster, context, 'an aggregate cluster')
  const members = fields.strings('clusters')
  checkMembers(cluster, fields, members)
  return { type: 'aggregate', localities: [], members }
}

/** `cluster_type` of a composite: the attempts of a request go to other clusters in turn. */
export function translateComposite(
  cluster: FieldReader,
  { fields }: ExtensionReader,
  context: EnvoyContext,
): TypeParts {
  fields.unread('refuse')
  withoutEndpoints(cluster, context, 'a composite cluster')
  const members = fields.messages('clusters').map((entry) => entry.string('name'))
  checkMembers(cluster, fields, members)
  return { type: 'composite', localities: [], members }
}

function checkMembers(cluster: FieldReader, fields: FieldReader, members: readonly string[]): void {
  const name = cluster.string('name')
  if (members.includes(name)) fields.error('clusters', `"${name}" is the cluster itself`)
}

/** `type: ORIGINAL_DST` with `original_dst_lb_config`, or the extension, which has the same fields. */
export function translateOriginalDst(
  cluster: FieldReader,
  fields: FieldReader | undefined,
  context: EnvoyContext,
): TypeParts {
  fields?.unread('refuse')
  withoutEndpoints(cluster, context, 'a cluster of type ORIGINAL_DST')
  const byHeader = fields?.bool('use_http_header') === true
  const header = fields?.string('http_header_name') || ORIGINAL_DST_HEADER
  const key = fields?.message('metadata_key')
  const metadata = key && metadataKey(key)
  const port = fields?.number('upstream_port_override')
  if (port === 0) fields?.error('upstream_port_override', 'port 0 cannot be connected to')
  const originalDst: OriginalDstConfig = {
    ...(byHeader && { header: header.toLowerCase() }),
    ...(metadata && { metadata }),
    ...(port !== undefined && { port }),
    cleanupMs: durationMs(cluster, 'cleanup_interval') ?? CLEANUP_MS,
  }
  return { type: 'original-dst', localities: [], originalDst }
}

/** What belongs to clusters that list hosts, or look them up. */
function withoutEndpoints(cluster: FieldReader, context: EnvoyContext, kind: string): void {
  const assignment = cluster.message('load_assignment')
  assignment?.toJson()
  if (assignment !== undefined) cluster.error('load_assignment', `${kind} has no endpoints of its own`)
  cluster.refuse('eds_cluster_config', 'belongs to clusters of type EDS')
  cluster.ignore('dns_refresh_rate', 'dns_failure_refresh_rate', 'respect_dns_ttl', 'dns_jitter', 'dns_lookup_family')
  clusterResolvers(cluster, context)
}
