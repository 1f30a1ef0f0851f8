import type { FieldReader } from '../../lib/core/field-reader.ts'
import { parseRuntimeFraction } from '../../lib/match/parse.ts'
import type { MirrorConfig } from '../../lib/router/config.ts'
import { checkCluster, type RouteScope } from './route-scope.ts'

/** `request_mirror_policies` of any level; undefined where there are none. */
export function translateMirrors(reader: FieldReader, scope: RouteScope, route = ''): MirrorConfig[] | undefined {
  const policies = reader.messages('request_mirror_policies')
  return policies.length === 0 ? undefined : policies.map((policy) => translateMirror(policy, { ...scope, route }))
}

function translateMirror(reader: FieldReader, scope: RouteScope & { route: string }): MirrorConfig {
  reader.unread('refuse')
  reader.ignore('trace_sampled')
  reader.refuse('request_headers_mutations', 'changing headers of mirrored requests is not available')
  const cluster = reader.string('cluster')
  const clusterHeader = reader.string('cluster_header').toLowerCase()
  if ((cluster === '') === (clusterHeader === '')) {
    reader.error('cluster', 'exactly one of cluster and cluster_header must be set')
  }
  checkCluster(reader, 'cluster', cluster, scope)
  const fraction = reader.message('runtime_fraction')
  const hostRewrite = reader.string('host_rewrite_literal')
  return {
    ...(cluster !== '' && { cluster }),
    ...(clusterHeader !== '' && { clusterHeader }),
    ...(fraction && { fraction: parseRuntimeFraction(fraction) }),
    appendShadow: !reader.bool('disable_shadow_host_suffix_append'),
    ...(hostRewrite !== '' && { hostRewrite }),
  }
}
