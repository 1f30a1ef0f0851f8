import type { HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'

const ESCAPED_SLASHES: Readonly<Record<string, HttpConnectionManagerConfig['escapedSlashes']>> = {
  IMPLEMENTATION_SPECIFIC_DEFAULT: 'keep',
  KEEP_UNCHANGED: 'keep',
  REJECT_REQUEST: 'reject',
  UNESCAPE_AND_REDIRECT: 'redirect',
  UNESCAPE_AND_FORWARD: 'forward',
}

type PathNormalization = Pick<
  HttpConnectionManagerConfig,
  'normalizePath' | 'normalizePathKey' | 'mergeSlashes' | 'escapedSlashes'
>

/** Of connection managers that do not say. */
const NORMALIZE_PATH_KEY = 'http_connection_manager.normalize_path'

/** How request paths are made uniform before routes and filters see them. */
export function translatePathNormalization(reader: FieldReader): PathNormalization {
  const options = reader.message('path_normalization_options')
  options?.refuse('forwarding_transformation', 'use normalize_path and merge_slashes')
  options?.refuse('http_filter_transformation', 'use normalize_path and merge_slashes')
  const normalize = reader.optionalBool('normalize_path')
  return {
    normalizePath: normalize ?? false,
    ...(normalize === undefined && { normalizePathKey: NORMALIZE_PATH_KEY }),
    mergeSlashes: reader.bool('merge_slashes'),
    escapedSlashes: ESCAPED_SLASHES[reader.enumName('path_with_escaped_slashes_action')] ?? 'keep',
  }
}
