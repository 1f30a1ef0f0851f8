import type { FieldReader } from '../../lib/core/field-reader.ts'

/** A parsed `OnDemand` or `PerRouteConfig`. */
export interface OnDemandConfig {
  /** Undefined: clusters are not asked for. */
  readonly clusters?: ClusterDemandConfig
}

export interface ClusterDemandConfig {
  /** Key of the source, as `Demand.cluster` takes it; '' for ADS. */
  readonly source: string
  readonly timeoutMs: number
}

/** Envoy's. */
const DEFAULT_TIMEOUT_MS = 5_000

/** `envoy.extensions.filters.http.on_demand.v3.OnDemand`, and `PerRouteConfig`, which has the same fields. */
export function parseOnDemand(fields: FieldReader): OnDemandConfig {
  fields.unread('refuse')
  const odcds = fields.message('odcds')
  return odcds === undefined ? {} : { clusters: parseClusters(odcds) }
}

function parseClusters(fields: FieldReader): ClusterDemandConfig {
  fields.unread('refuse')
  fields.refuse('resources_locator', 'collections of clusters by xdstp:// are not available')
  const timeoutMs = fields.durationMs('timeout') ?? DEFAULT_TIMEOUT_MS
  if (timeoutMs < 0) fields.error('timeout', 'must not be negative')
  const source = fields.message('source')
  if (source === undefined) fields.error('source', 'is required')
  else checkSource(source)
  return { source: '', timeoutMs }
}

/** The filter only says whom to ask; what it names must be what the gateway is connected to. */
function checkSource(fields: FieldReader): void {
  fields.unread('refuse')
  fields.ignore('resource_api_version', 'initial_fetch_timeout')
  for (const kind of ['path', 'path_config_source', 'api_config_source']) {
    fields.refuse(kind, 'clusters on demand come by ads (or self) alone')
  }
  // Which of them is set is all that they say.
  const known = ['ads', 'self'].filter((kind) => fields.message(kind) !== undefined)
  if (known.length !== 1) fields.error(undefined, 'ads or self is required')
}
