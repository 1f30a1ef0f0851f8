import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { ConfigSourceConfig, FileSourceConfig } from '../config.ts'
import { translateApiSource } from './api-source.ts'
import type { EnvoyContext } from './context.ts'
import { durationMs } from './durations.ts'
import { refuseV2 } from './refusals.ts'
import { apiSourceKey } from './source-key.ts'

/** Envoy's default. */
const INITIAL_FETCH_MS = 15_000

const ADS = Object.freeze({ kind: 'ads' })

/** What ADS delivers, with Envoy's default of 15 s to wait. */
export const ADS_SOURCE: ConfigSourceConfig = Object.freeze({
  key: '',
  source: ADS,
  initialFetchTimeoutMs: INITIAL_FETCH_MS,
})

/**
 * `config.core.v3.ConfigSource`; undefined where it cannot be used, with the mistakes recorded. Sources that differ in
 * nothing but how long to wait have the same key.
 */
export function translateConfigSource(
  reader: FieldReader | undefined,
  context: EnvoyContext,
): ConfigSourceConfig | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  // For which names it stands (`sourceOf`); of names without an authority it says nothing.
  for (const authority of reader.messages('authorities')) authority.string('name')
  refuseV2(reader, 'resource_api_version')
  const initialFetchTimeoutMs = durationMs(reader, 'initial_fetch_timeout') ?? INITIAL_FETCH_MS
  const kind = reader.which('config_source_specifier')
  switch (kind) {
    case 'ads':
      return translateAds(reader, context, initialFetchTimeoutMs)
    case 'self':
      return translateSelf(reader, context, initialFetchTimeoutMs)
    case 'api_config_source': {
      const source = translateApiSource(reader.message('api_config_source'), context)
      return source && { key: apiSourceKey(source), source, initialFetchTimeoutMs }
    }
    case 'path':
      return fileSource({ kind: 'file', path: reader.string('path') }, initialFetchTimeoutMs)
    case 'path_config_source':
      return translatePath(reader.message('path_config_source'), initialFetchTimeoutMs)
    default:
      reader.error(undefined, 'says no source: one of ads, api_config_source, path_config_source and self')
      return undefined
  }
}

function translateAds(
  reader: FieldReader,
  context: EnvoyContext,
  initialFetchTimeoutMs: number,
): ConfigSourceConfig | undefined {
  reader.message('ads')
  if (context.hasAds === false) {
    reader.error('ads', 'the bootstrap has no dynamic_resources.ads_config')
    return undefined
  }
  return initialFetchTimeoutMs === INITIAL_FETCH_MS ? ADS_SOURCE : { key: '', source: ADS, initialFetchTimeoutMs }
}

/** The server that the resource which says so came from. */
function translateSelf(
  reader: FieldReader,
  context: EnvoyContext,
  initialFetchTimeoutMs: number,
): ConfigSourceConfig | undefined {
  const self = reader.message('self')
  if (self !== undefined) refuseV2(self, 'transport_api_version')
  if (context.self === undefined) {
    reader.error('self', 'means the server that a resource came from, and this one is static')
    return undefined
  }
  if (context.self.source.kind === 'file') {
    // As in Envoy: a file holds resources of one type.
    reader.error('self', 'means the server that a resource came from, and this one is from a file')
    return undefined
  }
  return { ...context.self, initialFetchTimeoutMs }
}

function translatePath(reader: FieldReader | undefined, initialFetchTimeoutMs: number): ConfigSourceConfig | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  reader.ignore('poll_interval')
  const watched = reader.message('watched_directory')
  watched?.ignore('watch_modify')
  const watchedDirectory = watched?.string('path') ?? ''
  const path = reader.string('path')
  return fileSource({ kind: 'file', path, ...(watchedDirectory !== '' && { watchedDirectory }) }, initialFetchTimeoutMs)
}

function fileSource(source: FileSourceConfig, initialFetchTimeoutMs: number): ConfigSourceConfig {
  const watched = source.watchedDirectory === undefined ? '' : `@${source.watchedDirectory}`
  return { key: `file:${source.path}${watched}`, source, initialFetchTimeoutMs }
}
