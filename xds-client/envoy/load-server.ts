import type { FieldReader } from '../../lib/core/field-reader.ts'
import { translateConfigSource } from './config-source.ts'
import type { EnvoyContext } from './context.ts'

/**
 * `Cluster.lrs_server`: the key of the server that the cluster's load is reported to, besides that of the bootstrap. What is
 * no server of streams, or is not there, is reported as ignored: Envoy does not read the field.
 */
export function translateLoadServer(reader: FieldReader, context: EnvoyContext): string | undefined {
  const at = reader.message('lrs_server')
  if (at === undefined) return undefined
  const kind = at.which('config_source_specifier')
  const usable =
    context.loadServers !== undefined &&
    ((kind === 'self' && context.self !== undefined && context.self.source.kind !== 'file') ||
      (kind === 'ads' && context.hasAds !== false) ||
      (kind === 'api_config_source' && at.message('api_config_source')?.enumName('api_type') !== 'REST'))
  const source = usable ? translateConfigSource(at, context) : undefined
  if (source === undefined) {
    if (!usable) {
      at.toJson()
      reader.ignore('lrs_server')
    }
    return undefined
  }
  context.loadServers?.set(source.key, source)
  return source.key
}
