import type { ConfigSources } from '../../lib/core/config-sources.ts'
import type { Json } from '../../lib/core/errors.ts'
import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import { sourceOf } from './authorities.ts'
import { configSources } from './config-sources.ts'
import type { EnvoyContext } from './context.ts'
import { type ExtensionReference, referenceKey } from './references.ts'
import { consume, typedExtension } from './refusals.ts'
import type { ExtensionConfig } from './translated.ts'

const HTTP_MANAGER = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'

/** Where a filter that is delivered stands. */
export interface DeliveredPlace {
  readonly name: string
  readonly place: ExtensionConfig['place']
  /** Of its chain. */
  readonly last: boolean
}

/** What stands in its place until it is bound: its fallback, or nothing. */
export interface DeliveredFilter {
  readonly typeUrl: string
  readonly config: Json
  readonly missing?: true
  readonly extension: string
}

/**
 * `config_discovery` of a filter (`ExtensionConfigSource`): its configuration is a resource with the name of the filter.
 * Undefined where it cannot be had, with the mistakes recorded.
 */
export function translateDiscovery(
  filter: FieldReader,
  at: DeliveredPlace,
  context: EnvoyContext,
): DeliveredFilter | undefined {
  const reader = filter.message('config_discovery')
  if (reader === undefined) return undefined
  reader.unread('refuse')
  const { name, place, last } = at
  const types = reader.strings('type_urls')
  const typeUrls = types.map((type) => type.slice(type.lastIndexOf('/') + 1))
  typeUrls.forEach((type, i) => {
    if (findFilter(type, context, place) !== undefined) return
    reader.error(`type_urls[${i}]`, `${place} filter "${type}" is not available`)
  })
  const without = reader.bool('apply_default_config_without_warming')
  const fallback = translateFallback(reader, at, typeUrls, context)
  if (without && fallback === undefined && !reader.has('default_config')) {
    reader.error('apply_default_config_without_warming', 'needs default_config')
  }
  const source = sourceOf(name, reader.message('config_source'), context)
  if (source === undefined) return undefined
  if (context.references === undefined) {
    filter.error('config_discovery', 'filters that are delivered are not available here')
    return undefined
  }
  const key = referenceKey(name, source)
  const extension: ExtensionReference = { place, typeUrls, last, fallback, applyFallbackWithoutWarming: without }
  context.references.add({ kind: 'extension', name, key, source, extension })
  if (fallback === undefined) return { typeUrl: '', config: null, missing: true, extension: key }
  return { ...fallback, extension: key }
}

/** `config.core.v3.TypedExtensionConfig` as the extension discovery service delivers it. */
export function translateExtensionConfig(reader: FieldReader, context: EnvoyContext): ExtensionConfig | undefined {
  reader.unread('refuse')
  const name = reader.string('name')
  const extension = typedExtension(reader)
  if (extension === undefined) {
    if (!reader.has('typed_config')) reader.error('typed_config', 'is required')
    return undefined
  }
  for (const place of ['http', 'network', 'listener'] as const) {
    const filter = parseFilter(extension, context, place)
    if (filter === undefined) continue
    const { typeUrl, config, terminal } = filter
    referToClusters(filter, context)
    return { name, place, sentType: extension.typeUrl, typeUrl, config, terminal }
  }
  consume(extension)
  const why = extension.typeUrl === HTTP_MANAGER ? 'cannot be delivered by itself' : 'is not available'
  reader.error('typed_config', `filter "${extension.typeUrl}" ${why}`)
  return undefined
}

function referToClusters({ clusters }: Parsed, { references }: EnvoyContext): void {
  for (const name of clusters) {
    if (name !== '') references?.add({ kind: 'cluster', name, key: name, source: undefined })
  }
}

function translateFallback(
  reader: FieldReader,
  { place, last }: DeliveredPlace,
  typeUrls: readonly string[],
  context: EnvoyContext,
): { readonly typeUrl: string; readonly config: Json } | undefined {
  const extension = reader.any('default_config')
  if (extension === undefined) return undefined
  const filter = parseFilter(extension, context, place)
  if (filter === undefined) {
    consume(extension)
    reader.error('default_config', `${place} filter "${extension.typeUrl}" is not available`)
    return undefined
  }
  referToClusters(filter, context)
  if (!typeUrls.includes(extension.typeUrl)) {
    reader.error('default_config', `has the type "${extension.typeUrl}", which is not among type_urls`)
  }
  if (place !== 'listener' && filter.terminal !== last) {
    const why = last
      ? 'stands last and does not end the filter chain'
      : 'ends the filter chain and must be the last filter'
    reader.error('default_config', why)
  }
  return { typeUrl: filter.typeUrl, config: filter.config }
}

interface Parser {
  readonly typeUrls: readonly string[]
  readonly terminal?: boolean
  parse(fields: FieldReader, sources?: ConfigSources): unknown
  clusters?(config: unknown): readonly string[]
}

function findFilter(type: string, context: EnvoyContext, place: ExtensionConfig['place']): Parser | undefined {
  if (place === 'http') return context.filters.get(type)
  return place === 'network' ? context.networkFilters.get(type) : context.listenerFilters.get(type)
}

interface Parsed {
  readonly typeUrl: string
  readonly config: Json
  readonly terminal: boolean
  readonly clusters: readonly string[]
}

function parseFilter(
  extension: ExtensionReader,
  context: EnvoyContext,
  place: ExtensionConfig['place'],
): Parsed | undefined {
  const parser = findFilter(extension.typeUrl, context, place)
  if (parser === undefined) return undefined
  const config = parser.parse(extension.fields, configSources(context)) as Json
  const clusters = parser.clusters?.(config) ?? []
  return { typeUrl: parser.typeUrls[0], config, terminal: parser.terminal === true, clusters }
}
