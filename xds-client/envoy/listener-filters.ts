import type {
  FilterChainConfig,
  ListenerFilterConditionConfig,
  ListenerFilterConfig,
} from '../../lib/config/listener.ts'
import { inspectorPlace, wantsTlsInspector } from '../../lib/config/tls-inspector.ts'
import type { Json } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { configSources } from './config-sources.ts'
import type { EnvoyContext } from './context.ts'
import { translateDiscovery } from './extension-config.ts'
import { findExtensionParser } from './extension-parser.ts'
import { consume } from './refusals.ts'

/**
 * `listener_filters`. Where a filter chain is chosen by what only the TLS inspector finds and it is not listed, it is
 * added, as Envoy does.
 */
export function translateListenerFilters(
  reader: FieldReader,
  context: EnvoyContext,
  chains: readonly FilterChainConfig[],
): ListenerFilterConfig[] {
  const filters: ListenerFilterConfig[] = []
  const internal = reader.has('internal_listener')
  for (const entry of reader.messages('listener_filters')) {
    const filter = translateListenerFilter(entry, context, internal)
    if (filter !== undefined) filters.push(filter)
  }
  if (wantsTlsInspector(chains, filters)) injectTlsInspector(reader, context, filters)
  return filters
}

function translateListenerFilter(
  reader: FieldReader,
  context: EnvoyContext,
  internal: boolean,
): ListenerFilterConfig | undefined {
  reader.unread('refuse')
  const name = reader.string('name')
  const condition = reader.message('filter_disabled')
  const disabledFor = condition && translateCondition(condition)
  if (reader.has('config_discovery')) {
    const filter = translateDiscovery(reader, { name, place: 'listener', last: false }, context)
    return filter && { name, ...filter, ...(disabledFor && { disabledFor }) }
  }
  const extension = reader.any('typed_config')
  // An Any that could not be decoded has been reported already.
  if (extension === undefined && reader.has('typed_config')) return undefined
  const parser = findExtensionParser(context.listenerFilters, name, extension)
  if (parser === undefined) {
    if (extension !== undefined) consume(extension)
    const why = `listener filter "${extension?.typeUrl || name}" is not available`
    reader.error(extension === undefined ? undefined : 'typed_config', why)
    return undefined
  }
  const typeUrl = parser.typeUrls[0]
  const fields = extension?.fields ?? context.emptyFields?.(typeUrl, reader.path)
  if (fields === undefined) {
    reader.error('typed_config', `is required by filter "${name}"`)
    return undefined
  }
  if (!internal && parser.internalOnly !== undefined) reader.error('typed_config', parser.internalOnly)
  const config = parser.parse(fields, configSources(context)) as Json
  return { name, typeUrl, config, ...(disabledFor && { disabledFor }) }
}

/** `ListenerFilterChainMatchPredicate` */
function translateCondition(reader: FieldReader): ListenerFilterConditionConfig | undefined {
  reader.unread('refuse')
  const rule = reader.which('rule')
  switch (rule) {
    case 'any_match':
      if (reader.bool('any_match')) return { kind: 'any' }
      reader.error('any_match', 'must be true')
      return undefined
    case 'not_match': {
      const inner = reader.message('not_match')
      const of = inner && translateCondition(inner)
      return of && { kind: 'not', of }
    }
    case 'and_match':
    case 'or_match': {
      const rules = reader.message(rule)?.messages('rules') ?? []
      const of = rules.map(translateCondition).filter((c) => c !== undefined)
      return { kind: rule === 'and_match' ? 'and' : 'or', of }
    }
    case 'destination_port_range':
      return translatePorts(reader.message('destination_port_range'))
    default:
      return undefined
  }
}

/** `type.v3.Int32Range`: the end is not part of it. */
function translatePorts(reader: FieldReader | undefined): ListenerFilterConditionConfig {
  const start = reader?.number('start') ?? 0
  const end = reader?.number('end') ?? 0
  if (start >= end) reader?.error('end', `must be greater than start, which is ${start}`)
  return { kind: 'destination-ports', start, end }
}

function injectTlsInspector(reader: FieldReader, context: EnvoyContext, filters: ListenerFilterConfig[]): void {
  const name = 'envoy.filters.listener.tls_inspector'
  const parser = findExtensionParser(context.listenerFilters, name, undefined)
  const typeUrl = parser?.typeUrls[0] ?? ''
  const fields = parser && context.emptyFields?.(typeUrl, reader.path)
  if (parser === undefined || fields === undefined) {
    const why = `filter chains are chosen by what the TLS client says first, and listener filter "${name}" is not listed`
    reader.error('listener_filters', why)
    return
  }
  filters.splice(inspectorPlace(filters), 0, { name, typeUrl, config: parser.parse(fields) as Json })
}
