import type { Json } from '../core/errors.ts'
import type { FractionConfig, HeaderMatchConfig, MetadataMatchConfig } from '../match/config.ts'

/** What a log line or a generated body looks like; `%...%` operators as in Envoy's access logs. */
export type FormatConfig =
  | { readonly kind: 'text'; readonly text: string; readonly omitEmpty?: boolean; readonly contentType?: string }
  | { readonly kind: 'json'; readonly json: Json; readonly omitEmpty?: boolean; readonly contentType?: string }

/** `op` compares the actual value with `value`. */
export interface ComparisonConfig {
  readonly op: 'EQ' | 'GE' | 'LE' | 'NE'
  readonly value: number
  /** A whole number of the runtime under it goes before `value`. */
  readonly runtimeKey?: string
}

export type AccessLogFilterConfig =
  | { readonly kind: 'status' | 'duration'; readonly comparison: ComparisonConfig }
  | { readonly kind: 'not-health-check' | 'traceable' }
  | { readonly kind: 'runtime'; readonly fraction: FractionConfig }
  | { readonly kind: 'and' | 'or'; readonly filters: readonly AccessLogFilterConfig[] }
  | { readonly kind: 'header'; readonly header: HeaderMatchConfig }
  | { readonly kind: 'response-flag'; readonly flags: readonly string[] }
  | { readonly kind: 'grpc-status'; readonly statuses: readonly number[]; readonly exclude: boolean }
  | { readonly kind: 'metadata'; readonly matcher: MetadataMatchConfig; readonly matchIfKeyNotFound: boolean }
  | { readonly kind: 'log-type'; readonly types: readonly string[]; readonly exclude: boolean }

/** One access log: where it goes, how it looks, which exchanges it takes. */
export interface AccessLogConfig {
  readonly sink: { readonly kind: 'stdout' | 'stderr' } | { readonly kind: 'file'; readonly path: string }
  /** Undefined: Envoy's default text format. */
  readonly format?: FormatConfig
  readonly filter?: AccessLogFilterConfig
}
