import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { ConfigSourceConfig } from '../config.ts'
import { parseXdstp } from '../protocol/resource-name.ts'
import { translateConfigSource } from './config-source.ts'
import type { EnvoyContext } from './context.ts'

/** Where resources come from whose names say no more than whose they are: `config_sources` and `default_config_source`. */
export interface Authorities {
  /** The first one that has an authority's name wins. */
  readonly sources: readonly { readonly names: ReadonlySet<string>; readonly source: ConfigSourceConfig }[]
  /** Of all other authorities, and of names without one. */
  readonly fallback?: ConfigSourceConfig
}

/** `Bootstrap.config_sources` and `default_config_source`: each is one stream of all types, as in Envoy. */
export function translateAuthorities(bootstrap: FieldReader, context: EnvoyContext): Authorities {
  const sources: { names: ReadonlySet<string>; source: ConfigSourceConfig }[] = []
  for (const reader of bootstrap.messages('config_sources')) {
    const names = authorityNames(reader)
    if (names.size === 0) reader.error('authorities', 'at least one authority is required')
    const source = aggregatedSource(reader, context)
    if (source !== undefined) sources.push({ names, source })
  }
  const last = bootstrap.message('default_config_source')
  const fallback = last && aggregatedSource(last, context)
  return { sources, ...(fallback && { fallback }) }
}

/** The names of `ConfigSource.authorities`, each once. */
function authorityNames(reader: FieldReader): ReadonlySet<string> {
  const names = new Set<string>()
  for (const authority of reader.messages('authorities')) {
    const name = authority.string('name')
    if (names.has(name)) authority.error('name', `a second authority "${name}"`)
    names.add(name)
  }
  return names
}

function aggregatedSource(reader: FieldReader, context: EnvoyContext): ConfigSourceConfig | undefined {
  const source = translateConfigSource(reader, context)
  if (source === undefined) return undefined
  if (source.source.kind !== 'api') {
    const kind = reader.which('config_source_specifier')
    reader.error(kind, 'must be an api_config_source: other sources have no authorities')
    return undefined
  }
  if (source.source.aggregated !== true) {
    reader
      .message('api_config_source')
      ?.error('api_type', 'must be AGGREGATED_GRPC or AGGREGATED_DELTA_GRPC: authorities are asked for all types')
  }
  return source
}

/**
 * The source of one resource: of a name that begins with `xdstp:` the one next to it where that lists the name's authority,
 * then that of the bootstrap for the authority, then what is next to it; of all other names what is next to it. Undefined
 * where there is none, with the mistakes recorded that are in what is next to it.
 */
export function sourceOf(
  name: string,
  at: FieldReader | undefined,
  context: EnvoyContext,
): ConfigSourceConfig | undefined {
  const given = translateConfigSource(at, context)
  const known = authoritySource(name, context.authorities)
  if (known === undefined) return given
  const authority = parseXdstp(name)?.authority ?? ''
  if (given !== undefined && at !== undefined && authorityNames(at).has(authority)) return given
  return given === undefined ? known : { ...known, initialFetchTimeoutMs: given.initialFetchTimeoutMs }
}

/** The source of the bootstrap for a name that begins with `xdstp:`; undefined where there is none, and for other names. */
export function authoritySource(name: string, authorities: Authorities | undefined): ConfigSourceConfig | undefined {
  const parsed = authorities === undefined ? undefined : parseXdstp(name)
  if (parsed === undefined || authorities === undefined) return undefined
  const { sources, fallback } = authorities
  return sources.find(({ names }) => names.has(parsed.authority))?.source ?? fallback
}
