import type { JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type {
  ApiSourceConfig,
  ConfigSourceConfig,
  DynamicConfig,
  GrpcTargetConfig,
  RuntimeLayerConfig,
} from '../config.ts'
import { parseXdstp } from '../protocol/resource-name.ts'
import { translateApiSource } from './api-source.ts'
import { sourceOf } from './authorities.ts'
import type { EnvoyContext } from './context.ts'
import { type NodeContext, translateNodeContext, withNodeContext } from './node-context.ts'

/** What of a bootstrap belongs to `DynamicConfig`, while it is not known yet whether there is any. */
export type DynamicParts = Omit<DynamicConfig, 'runtime' | 'node'>

/** Ways to find configuration that do not exist here. */
export function refuseDelegates(reader: FieldReader): void {
  reader.refuse('xds_delegate_extension', 'keeping resources by an extension is not available; use --state-dir')
  reader.refuse('xds_config_tracker_extension', 'is not available')
}

/** `dynamic_resources` and `cluster_manager.load_stats_config`. */
export function translateDynamic(bootstrap: FieldReader, context: EnvoyContext): DynamicParts {
  const reader = bootstrap.message('dynamic_resources')
  reader?.unread('refuse')
  const ads = translateAds(reader?.message('ads_config'), context)
  const nodeContext = translateNodeContext(bootstrap, nodeJson(bootstrap.message('node')))
  const ldsLocator = translateLocator(reader, 'lds', nodeContext)
  const cdsLocator = translateLocator(reader, 'cds', nodeContext)
  const lds = topSource(reader, 'lds', ldsLocator, context)
  const cds = topSource(reader, 'cds', cdsLocator, context)
  const loadStats = translateLoadStats(bootstrap.message('cluster_manager')?.message('load_stats_config'), context)
  return {
    ...(ads && { ads }),
    ...(lds && { lds }),
    ...(ldsLocator !== '' && { ldsLocator }),
    ...(cds && { cds }),
    ...(cdsLocator !== '' && { cdsLocator }),
    ...(loadStats && { loadStats }),
  }
}

/** Clusters by which management servers may be reached: those whose endpoints nobody delivers. */
export function managementClusters(resources: FieldReader | undefined): ReadonlySet<string> {
  const names = new Set<string>()
  for (const cluster of resources?.messages('clusters') ?? []) {
    if (cluster.enumName('type') !== 'EDS') names.add(cluster.string('name'))
  }
  return names
}

/** Whether anything but the bootstrap itself says what is served. */
export function isDelivered(parts: DynamicParts, layers: readonly RuntimeLayerConfig[]): boolean {
  const { lds, cds, ads, loadStats } = parts
  if (lds !== undefined || cds !== undefined || ads !== undefined || loadStats !== undefined) return true
  return layers.some(({ kind }) => kind === 'rtds' || kind === 'disk')
}

/** For requests and `/config_dump`, with the names of protobuf fields. */
export function nodeJson(reader: FieldReader | undefined): JsonObject {
  return reader?.toJson() ?? {}
}

function translateAds(reader: FieldReader | undefined, context: EnvoyContext): ApiSourceConfig | undefined {
  const source = translateApiSource(reader, context)
  if (source?.api === 'rest') reader?.error('api_type', 'REST cannot be ADS: use GRPC or DELTA_GRPC')
  return source
}

type TopService = 'lds' | 'cds'

const COLLECTED: Readonly<Record<TopService, string>> = Object.freeze({
  lds: 'envoy.config.listener.v3.Listener',
  cds: 'envoy.config.cluster.v3.Cluster',
})

/** A collection is asked for where its authority is, or where its service is. */
function topSource(
  reader: FieldReader | undefined,
  service: TopService,
  locator: string,
  context: EnvoyContext,
): ConfigSourceConfig | undefined {
  const source = sourceOf(locator, reader?.message(`${service}_config`), context)
  if (reader !== undefined && source === undefined && locator !== '' && !reader.has(`${service}_config`)) {
    const field = `${service}_resources_locator`
    reader.error(field, `needs ${service}_config: "${locator}" is of an authority that the bootstrap has no source for`)
  }
  return source
}

/** With what of the node belongs to it. */
function translateLocator(reader: FieldReader | undefined, service: TopService, context: NodeContext): string {
  const field = `${service}_resources_locator`
  const locator = reader?.string(field) ?? ''
  if (reader === undefined || locator === '') return ''
  if (!locator.startsWith('xdstp:')) reader.error(field, `"${locator}" must begin with xdstp:`)
  const type = parseXdstp(locator)?.typeName
  if (type !== undefined && type !== COLLECTED[service]) {
    reader.error(field, `"${locator}" must be a collection of ${COLLECTED[service]}`)
  }
  return withNodeContext(locator, context)
}

function translateLoadStats(reader: FieldReader | undefined, context: EnvoyContext): GrpcTargetConfig | undefined {
  const source: ConfigSourceConfig['source'] | undefined = translateApiSource(reader, context)
  if (source === undefined || reader === undefined) return undefined
  if (source.api !== 'grpc') reader.error('api_type', 'must be GRPC: load is reported on streams of its own')
  return source.targets[0]
}
