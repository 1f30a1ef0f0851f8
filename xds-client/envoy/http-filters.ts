import type { HttpFilterConfig } from '../../lib/config/listener.ts'
import type { Json } from '../../lib/core/errors.ts'
import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import { configSources } from './config-sources.ts'
import type { EnvoyContext, FilterParser } from './context.ts'
import { translateDiscovery } from './extension-config.ts'
import { findRouteParser } from './filter-overrides.ts'
import { consume } from './refusals.ts'
import type { ChainEntry } from './route-scope.ts'

/** Filters that Istio puts everywhere and that change nothing but telemetry here: accepted, reported. */
const HARMLESS: ReadonlySet<string> = new Set([
  'stats.PluginConfig',
  'istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig',
  'io.istio.http.peer_metadata.Config',
])
/** The same filters as older versions of Istio configure them: Wasm under a name of its own. */
const WASM = 'envoy.extensions.filters.http.wasm.v3.Wasm'
const HARMLESS_WASM: ReadonlySet<string> = new Set(['istio.stats', 'istio.metadata_exchange'])

/** The filters of one connection manager. */
export interface HttpFilters {
  readonly filters: readonly HttpFilterConfig[]
  /** Every instance name, those of filters we lack included. */
  readonly chain: ReadonlyMap<string, ChainEntry>
}

/** `http_filters`: unique names, one terminal filter, and that one last. */
export function translateHttpFilters(reader: FieldReader, context: EnvoyContext): HttpFilters {
  const filters: HttpFilterConfig[] = []
  const chain = new Map<string, ChainEntry>()
  const entries = reader.messages('http_filters')
  let terminals = 0
  entries.forEach((entry, index) => {
    const name = entry.string('name')
    if (name !== '' && chain.has(name)) entry.error('name', `a second HTTP filter "${name}"`)
    const last = index === entries.length - 1
    const found = translateHttpFilter(entry, { name, last }, context)
    const { parser, dispensable, delivered } = found
    chain.set(name, { parser, dispensable, ...(delivered && { delivered }) })
    if (found.config !== undefined) filters.push(found.config)
    // What is delivered last must end the chain, or is refused when it comes.
    if (parser?.terminal !== true && !(delivered && last)) return
    terminals++
    if (!last) entry.error(undefined, `"${name}" ends the filter chain and must be the last filter`)
  })
  if (terminals === 0) reader.error('http_filters', 'the last HTTP filter must be one that ends the chain (the router)')
  return { filters, chain }
}

interface Found {
  readonly parser: FilterParser | undefined
  readonly dispensable: boolean
  readonly delivered?: true
  readonly config?: HttpFilterConfig
}

interface Place {
  readonly name: string
  readonly last: boolean
}

function translateHttpFilter(reader: FieldReader, { name, last }: Place, context: EnvoyContext): Found {
  reader.unread('refuse')
  const optional = reader.bool('is_optional')
  const disabled = reader.bool('disabled')
  if (reader.has('config_discovery')) return translateDelivered(reader, { name, disabled, last }, context)
  const extension = reader.any('typed_config')
  const found = findParser(name, extension, context.filters)
  // An Any that could not be decoded has been reported already.
  if (extension === undefined && reader.has('typed_config')) return { parser: undefined, dispensable: true }
  if (found === undefined) return lacking(reader, extension, { name, optional, disabled })
  if (disabled && found.parser.terminal === true) {
    reader.error('disabled', `"${name}" ends the filter chain and cannot be disabled`)
  }
  const typeUrl = found.parser.typeUrls[0]
  const fields = found.fields ?? context.emptyFields?.(typeUrl, reader.path)
  if (fields === undefined) reader.error('typed_config', `is required by filter "${name}"`)
  const config = fields === undefined ? {} : (found.parser.parse(fields, configSources(context)) as Json)
  return {
    parser: found.parser,
    dispensable: false,
    config: { name, typeUrl, config, disabled },
  }
}

/** A filter that is delivered by name (ECDS). Routes may have settings for it; whether they fit shows when it comes. */
function translateDelivered(
  reader: FieldReader,
  { name, disabled, last }: Place & { readonly disabled: boolean },
  context: EnvoyContext,
): Found {
  const filter = translateDiscovery(reader, { name, place: 'http', last }, context)
  if (filter === undefined) return { parser: undefined, dispensable: true }
  return { parser: undefined, dispensable: false, delivered: true, config: { name, ...filter, disabled } }
}

/**
 * The factory of a filter, by the type of its configuration. Envoy does not look at the type of an empty Any, and
 * control planes count on it: they give a filter that only routes switch on an empty message of its per-route type.
 */
function findParser(
  name: string,
  extension: ExtensionReader | undefined,
  filters: ReadonlyMap<string, FilterParser>,
): { readonly parser: FilterParser; readonly fields: FieldReader | undefined } | undefined {
  if (extension !== undefined && extension.typeUrl !== '') {
    const parser = filters.get(extension.typeUrl)
    if (parser !== undefined) return { parser, fields: extension.fields }
    if (!extension.empty) return undefined
    const byRoute = findRouteParser(filters, extension.typeUrl)
    return byRoute && { parser: byRoute, fields: undefined }
  }
  for (const parser of filters.values()) {
    if (parser.name === name) return { parser, fields: undefined }
  }
  return undefined
}

function lacking(
  reader: FieldReader,
  extension: ExtensionReader | undefined,
  entry: { readonly name: string; readonly optional: boolean; readonly disabled: boolean },
): Found {
  const type = extension?.typeUrl ?? ''
  const dispensable = entry.optional || HARMLESS.has(type) || (type === WASM && HARMLESS_WASM.has(entry.name))
  if (extension !== undefined) consume(extension)
  if (dispensable || entry.disabled) {
    // Listed among the ignored paths; a route that switches it on is refused where routes are read.
    reader.ignore('typed_config')
  } else if (type === '') {
    reader.error('typed_config', `the type of filter "${entry.name}" is missing, and no filter has that name`)
  } else {
    reader.error('typed_config', `HTTP filter "${type}" is not available`)
  }
  if (dispensable || !entry.disabled) return { parser: undefined, dispensable }
  // Route tables that are delivered do not know the chain: where they switch it on, requests must not pass without it.
  const config = { name: entry.name, typeUrl: '', config: null, disabled: true, missing: true } as const
  return { parser: undefined, dispensable, config }
}
