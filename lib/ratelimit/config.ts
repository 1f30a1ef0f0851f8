import type { CidrConfig, HeaderMatchConfig, MatchInputConfig, QueryParameterMatchConfig } from '../match/config.ts'
import type { MetadataPath } from '../match/value.ts'

/** Rate limits as data: what requests are counted by. How many may pass is said where the counting is. */

interface KeyAndValue {
  readonly key: string
  readonly value: string
}

interface NamedValue {
  /** Of a header: lower case, pseudo headers included. */
  readonly name: string
  readonly key: string
  /** Where it is missing, the descriptor does without the entry; otherwise there is no descriptor. */
  readonly skipIfAbsent: boolean
}

/** Adds one entry to a descriptor, or says that there is none for a request. */
export type RateLimitActionConfig =
  /** Our own name, the cluster that the route forwards to, the client's address. */
  | { readonly kind: 'source-cluster' | 'destination-cluster' | 'remote-address' }
  | { readonly kind: 'masked-remote-address'; readonly v4Bits: number; readonly v6Bits: number }
  | ({ readonly kind: 'request-header' } & NamedValue)
  | ({ readonly kind: 'query-parameter' } & NamedValue)
  | ({ readonly kind: 'generic-key' } & KeyAndValue)
  | ({
      readonly kind: 'header-match'
      readonly headers: readonly HeaderMatchConfig[]
      /** Whether the headers are to match, or not to. */
      readonly expected: boolean
    } & KeyAndValue)
  | ({
      readonly kind: 'query-match'
      readonly parameters: readonly QueryParameterMatchConfig[]
      readonly expected: boolean
    } & KeyAndValue)
  /** `value` is a `%...%` format; `otherwise` stands for one that prints nothing. */
  | ({
      readonly kind: 'address-match'
      readonly ranges: readonly CidrConfig[]
      readonly inverted: boolean
      readonly otherwise: string
    } & KeyAndValue)
  | {
      readonly kind: 'metadata'
      readonly source: 'dynamic' | 'route'
      readonly namespace: string
      readonly path: MetadataPath
      readonly key: string
      /** Where there is no text; '': none. */
      readonly otherwise: string
      readonly skipIfAbsent: boolean
    }
  | { readonly kind: 'input'; readonly key: string; readonly input: MatchInputConfig }

export type RateLimitUnit = 'second' | 'minute' | 'hour' | 'day' | 'month' | 'year'

/** Another limit than the rate limit service has for the descriptor. */
export type RateLimitOverrideConfig =
  | { readonly kind: 'fixed'; readonly requestsPerUnit: number; readonly unit: RateLimitUnit }
  | { readonly kind: 'metadata'; readonly namespace: string; readonly path: MetadataPath }

/** How much a request counts: a number, or a `%...%` format that prints one. */
export type HitsConfig = (
  | { readonly kind: 'number'; readonly number: number }
  | { readonly kind: 'format'; readonly format: string }
) & {
  /** They are given back instead of taken. */
  readonly negative?: true
}

/** Whether answers say how much is left, for what this descriptor is counted by. */
export type RateLimitHeaders = 'off' | 'draft-03'

/** Makes one descriptor of a request (Envoy's RateLimit). */
export interface RateLimitConfig {
  readonly actions: readonly RateLimitActionConfig[]
  /** Default: 0. */
  readonly stage?: number
  /** Of the runtime: switches it off. */
  readonly disableKey?: string
  readonly limit?: RateLimitOverrideConfig
  /** Default: 1. */
  readonly hits?: HitsConfig
  /** Counted when the exchange has ended, instead of when it begins. */
  readonly onStreamDone?: true
  /** Undefined: as the filter says. */
  readonly headers?: RateLimitHeaders
}
