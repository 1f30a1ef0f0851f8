import type { ConfigSources } from '../../lib/core/config-sources.ts'
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
export function parseOnDemand(fields: FieldReader, sources?: ConfigSources): OnDemandConfig {
  fields.unread('refuse')
  const odcds = fields.message('odcds')
  return odcds === undefined ? {} : { clusters: parseClusters(odcds, sources) }
}

function parseClusters(fields: FieldReader, sources: ConfigSources | undefined): ClusterDemandConfig {
  fields.unread('refuse')
  const locator = fields.string('resources_locator')
  if (locator !== '' && !locator.startsWith('xdstp:')) {
    fields.error('resources_locator', `"${locator}" must begin with xdstp:`)
  }
  const timeoutMs = fields.durationMs('timeout') ?? DEFAULT_TIMEOUT_MS
  if (timeoutMs < 0) fields.error('timeout', 'must not be negative')
  const source = fields.message('source')
  if (source === undefined) fields.error('source', 'is required')
  else if (sources !== undefined) return { source: sources.demandedClusters(source, locator) ?? '', timeoutMs }
  else checkSource(source)
  return { source: '', timeoutMs }
}

/** Where nobody translates sources, only what the gateway is connected to can be meant. */
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
