import type { Json } from '../../core/errors.ts'
import type { ComparisonConfig, FormatConfig } from '../../telemetry/config.ts'
import type { NativeFraction, NativeHeaderMatch, NativeMetadataMatch } from './matches.ts'

/**
 * What a log line or a generated body looks like, with `%...%` operators as in Envoy's access logs. A bare string is text
 * (a log line ends with the newline it has), `json` is an object whose strings are formats.
 */
export type NativeFormat =
  | string
  | {
      readonly text: string
      /** Operators without a value become empty instead of `-`. Default: false. */
      readonly omitEmpty?: boolean
      /** Of generated bodies. Default: text/plain. */
      readonly contentType?: string
    }
  | {
      readonly json: Json
      /** Leaves out keys without a value instead of writing null. Default: false. */
      readonly omitEmpty?: boolean
      /** Of generated bodies. Default: application/json. */
      readonly contentType?: string
    }
  | FormatConfig

/** Which exchanges are logged (or which local replies are mapped). */
export type NativeLogFilter =
  | { readonly kind: 'status' | 'duration'; readonly comparison: ComparisonConfig }
  | { readonly kind: 'not-health-check' | 'traceable' }
  | { readonly kind: 'runtime'; readonly fraction: NativeFraction }
  | { readonly kind: 'and' | 'or'; readonly filters: readonly NativeLogFilter[] }
  | { readonly kind: 'header'; readonly header: NativeHeaderMatch }
  /** Envoy's short flags (`UF`, `UT`, ...); an empty list takes every exchange with a flag. */
  | { readonly kind: 'response-flag'; readonly flags: readonly string[] }
  | { readonly kind: 'grpc-status'; readonly statuses: readonly number[]; readonly exclude?: boolean }
  | { readonly kind: 'metadata'; readonly matcher: NativeMetadataMatch; readonly matchIfKeyNotFound?: boolean }
  | { readonly kind: 'log-type'; readonly types: readonly string[]; readonly exclude?: boolean }

/** One access log. */
export interface NativeAccessLog {
  /** Default: `stdout`. */
  readonly sink?: 'stdout' | 'stderr' | { readonly file: string }
  /** Default: Envoy's text format. */
  readonly format?: NativeFormat
  /** Default: every exchange. */
  readonly filter?: NativeLogFilter
}
