/** Configuration of matchers: plain data, already validated by whoever produced it. Regexes are RE2, full match. */

export type StringMatchConfig =
  | { readonly kind: 'exact' | 'prefix' | 'suffix' | 'contains'; readonly value: string; readonly ignoreCase?: boolean }
  | { readonly kind: 'regex'; readonly value: string }

/** Envoy's HeaderMatcher. `name` is lower-case; `:method`, `:path`, `:authority`, `:scheme` are allowed. */
export interface HeaderMatchConfig {
  readonly name: string
  readonly match:
    | { readonly kind: 'string'; readonly string: StringMatchConfig }
    | { readonly kind: 'range'; readonly start: number; readonly end: number }
    | { readonly kind: 'present'; readonly present: boolean }
  readonly invert?: boolean
  readonly treatMissingAsEmpty?: boolean
}

export interface QueryParameterMatchConfig {
  readonly name: string
  /** `present: false` asks for its absence; unset means true. */
  readonly match:
    | { readonly kind: 'string'; readonly string: StringMatchConfig }
    | { readonly kind: 'present'; readonly present?: boolean }
}

export interface CookieMatchConfig {
  readonly name: string
  readonly string: StringMatchConfig
  readonly invert?: boolean
}

/** Envoy's ValueMatcher. */
export type ValueMatchConfig =
  | { readonly kind: 'null' }
  | { readonly kind: 'double'; readonly exact?: number; readonly start?: number; readonly end?: number }
  | { readonly kind: 'string'; readonly string: StringMatchConfig }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'present'; readonly present: boolean }
  | { readonly kind: 'list'; readonly oneOf: ValueMatchConfig }
  | { readonly kind: 'or'; readonly values: readonly ValueMatchConfig[] }

/** Envoy's MetadataMatcher: a namespace, a walk by keys, and the value expected there. */
export interface MetadataMatchConfig {
  readonly namespace: string
  readonly path: readonly string[]
  readonly value: ValueMatchConfig
  readonly invert?: boolean
}

/** Envoy's FilterStateMatcher: what a filter has left under a key, as text or as an address. */
export type FilterStateMatchConfig =
  | { readonly key: string; readonly string: StringMatchConfig }
  | { readonly key: string; readonly ranges: readonly CidrConfig[]; readonly invert?: boolean }

/** A share of requests: `numerator` of `denominator`; a runtime key overrides the numerator. */
export interface FractionConfig {
  readonly numerator: number
  readonly denominator: 100 | 10_000 | 1_000_000
  readonly runtimeKey?: string
}

export interface CidrConfig {
  readonly address: string
  readonly prefixLength: number
}

/**
 * `xds.type.matcher.v3.Matcher` over one action type. Inputs and custom matchers are named by type URL and carry their
 * parsed configuration.
 */
export interface MatcherTreeConfig<A> {
  readonly list?: readonly { readonly predicate: PredicateConfig; readonly onMatch: OnMatchConfig<A> }[]
  readonly tree?: {
    readonly input: MatchInputConfig
    /** `range`: keys are ranges of addresses, `10.0.0.0/8`; the longest that the value is in comes first. */
    readonly kind: 'exact' | 'prefix' | 'range'
    readonly map: readonly (readonly [string, OnMatchConfig<A>])[]
    /** Ranges after which no shorter one is tried, also where nothing was found. */
    readonly exclusive?: readonly string[]
  }
  readonly onNoMatch?: OnMatchConfig<A>
}

export type OnMatchConfig<A> =
  | { readonly action: A; readonly keepMatching?: boolean }
  | { readonly matcher: MatcherTreeConfig<A>; readonly keepMatching?: boolean }

export type PredicateConfig =
  | { readonly kind: 'single'; readonly input: MatchInputConfig; readonly string: StringMatchConfig }
  | { readonly kind: 'and' | 'or'; readonly predicates: readonly PredicateConfig[] }
  | { readonly kind: 'not'; readonly predicate: PredicateConfig }

/** Where a matcher takes its value from. */
export type MatchInputConfig =
  | { readonly kind: 'request-header' | 'response-header' | 'query-parameter'; readonly name: string }
  | { readonly kind: 'response-status' }
  | { readonly kind: 'metadata'; readonly namespace: string; readonly path: readonly string[] }
  | { readonly kind: 'filter-state'; readonly key: string }
  | { readonly kind: 'source-ip' | 'direct-source-ip' | 'destination-ip' | 'destination-port' | 'server-name' }
  | { readonly kind: 'source-port' | 'source-type' | 'transport-protocol' | 'application-protocol' }
  /** Of the client's certificate, where it was verified. */
  | { readonly kind: 'uri-san' | 'dns-san' | 'subject' }
