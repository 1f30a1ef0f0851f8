import type { Json } from '../../lib/core/errors.ts'
import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import type { FilterConfigs, FilterOverrideConfig } from '../../lib/router/config.ts'
import { configSources } from './config-sources.ts'
import type { FilterParser } from './context.ts'
import { consume } from './refusals.ts'
import type { ChainEntry, RouteScope } from './route-scope.ts'

const WRAPPER = 'envoy.config.route.v3.FilterConfig'
const FIELD = 'typed_per_filter_config'

/**
 * `typed_per_filter_config`, of any level: settings by instance name of a filter.
 *
 * | entry | meaning |
 * |---|---|
 * | a filter's own type | these settings; switches the filter on |
 * | `FilterConfig{config: <type>}` | the same |
 * | `FilterConfig{config: {}}` | switches the filter on, its own settings hold |
 * | `FilterConfig{disabled: true}` | switches it off |
 * | a name that the chain does not have | reported, without effect |
 * | a type that no filter claims | refused, unless `is_optional` |
 */
export function translateFilterOverrides(reader: FieldReader, scope: RouteScope): FilterConfigs | undefined {
  const entries = reader.anyMap(FIELD)
  if (entries.size === 0) return undefined
  const result: Record<string, FilterOverrideConfig> = Object.create(null)
  let any = false
  for (const [name, extension] of entries) {
    const entry = scope.chain?.get(name)
    if (scope.chain !== undefined && (entry === undefined || entry.dispensable)) {
      reportUnused(name, extension, scope)
      continue
    }
    const override = translateEntry(name, extension, scope)
    if (override === undefined || !mayHave(name, extension, override, entry)) continue
    result[name] = override
    any = true
  }
  return any ? result : undefined
}

/**
 * Settings for a filter that is not there, or that does nothing: every field of them is reported. Their type must still be
 * one that some filter takes, except for a filter we do without.
 */
function reportUnused(name: string, extension: ExtensionReader, scope: RouteScope): void {
  const wrapped = extension.typeUrl === WRAPPER
  const own = wrapped ? extension.fields.any('config') : extension
  const optional = (wrapped && extension.fields.bool('is_optional')) || scope.chain?.get(name)?.dispensable === true
  const type = own?.typeUrl ?? ''
  if (type !== '' && !optional && findRouteParser(scope.context.filters, type) === undefined) {
    own?.fields.error(undefined, noTaker(name, type))
  }
  if (wrapped) extension.fields.ignore('config', 'disabled', 'is_optional')
  else extension.fields.unread('report')
}

/** Whether the filter of that name may have these settings; records the mistake where it may not. */
function mayHave(
  name: string,
  extension: ExtensionReader,
  override: FilterOverrideConfig,
  entry: ChainEntry | undefined,
): boolean {
  if (entry === undefined || entry.delivered === true) return true
  if (entry.parser === undefined) {
    if (override.disabled !== true)
      extension.fields.error(undefined, `"${name}" switches on a filter that is not available`)
    return false
  }
  const { config } = override
  if (config !== undefined && !takesOfRoutes(entry.parser, config.typeUrl)) {
    extension.fields.error(undefined, `settings of type "${config.typeUrl}" are not for filter "${name}"`)
    return false
  }
  if (override.disabled === true && entry.parser.terminal === true) {
    extension.fields.error(undefined, `"${name}" ends the filter chain and cannot be disabled`)
    return false
  }
  return true
}

function translateEntry(name: string, extension: ExtensionReader, scope: RouteScope): FilterOverrideConfig | undefined {
  if (extension.typeUrl !== WRAPPER) return translateOwn(name, extension, { scope, optional: false })
  const wrapper = extension.fields
  const optional = wrapper.bool('is_optional')
  const disabled = wrapper.bool('disabled')
  const config = wrapper.any('config')
  if (disabled) {
    if (config !== undefined) consume(config)
    return { disabled: true }
  }
  if (config === undefined && !wrapper.has('config')) {
    wrapper.error('config', `the settings of filter "${name}" are empty: set config, or disabled`)
    return undefined
  }
  if (config === undefined || config.typeUrl === '') return { disabled: false }
  return translateOwn(name, config, { scope, optional })
}

function translateOwn(
  name: string,
  extension: ExtensionReader,
  how: { readonly scope: RouteScope; readonly optional: boolean },
): FilterOverrideConfig | undefined {
  const parser = findRouteParser(how.scope.context.filters, extension.typeUrl)
  if (parser === undefined) {
    consume(extension)
    if (how.optional) return undefined
    const { typeUrl } = extension
    extension.fields.error(
      undefined,
      typeUrl === '' ? `the settings of filter "${name}" are empty` : noTaker(name, typeUrl),
    )
    return undefined
  }
  const { context, table, virtualHost } = how.scope
  const sources = configSources(context, `${table}/${virtualHost}`)
  const value = (parser.parseRoute?.(extension.fields, sources) ?? parser.parse(extension.fields, sources)) as Json
  return { disabled: false, config: { typeUrl: extension.typeUrl, value } }
}

function noTaker(name: string, type: string): string {
  return `no filter takes settings of type "${type}" (filter "${name}")`
}

/** The filter that takes per-route settings of this type. */
export function findRouteParser(filters: ReadonlyMap<string, FilterParser>, typeUrl: string): FilterParser | undefined {
  for (const parser of filters.values()) {
    if (takesOfRoutes(parser, typeUrl)) return parser
  }
  return undefined
}

function takesOfRoutes({ routeTypeUrls, typeUrls }: FilterParser, typeUrl: string): boolean {
  return (routeTypeUrls ?? typeUrls).includes(typeUrl)
}
