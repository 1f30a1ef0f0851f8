import type { Json } from '../../core/errors.ts'
import type {
  FractionConfig,
  HeaderMatchConfig,
  QueryParameterMatchConfig,
  StringMatchConfig,
  ValueMatchConfig,
} from '../../match/config.ts'
import type { PathMatchConfig } from '../../router/config.ts'

/** A text to compare with; a bare string must be equal. Regexes are RE2 and match the whole text. */
export type NativeStringMatch =
  | string
  | { readonly exact: string; readonly ignoreCase?: boolean }
  | { readonly prefix: string; readonly ignoreCase?: boolean }
  | { readonly suffix: string; readonly ignoreCase?: boolean }
  | { readonly contains: string; readonly ignoreCase?: boolean }
  | { readonly regex: string }
  | StringMatchConfig

/** A condition on one request header. With neither of `value`, `range`, `present` and `match` it must be present. */
export interface NativeHeaderMatch {
  /** In any case. `:method`, `:path`, `:authority` and `:scheme` stand for the request line. */
  readonly name: string
  readonly value?: NativeStringMatch
  /** A whole number from `start` up to, and without, `end`. */
  readonly range?: { readonly start: number; readonly end: number }
  /** False: the header must be absent. */
  readonly present?: boolean
  /** The long form of the three above. */
  readonly match?: HeaderMatchConfig['match']
  /** Holds where the condition does not. Default: false. */
  readonly invert?: boolean
  /** A missing header counts as an empty one. Default: false, it never matches. */
  readonly treatMissingAsEmpty?: boolean
}

/** A condition on one query parameter. Without `value` it must be present. */
export interface NativeQueryParameterMatch {
  readonly name: string
  readonly value?: NativeStringMatch
  /** The long form of `value`. */
  readonly match?: QueryParameterMatchConfig['match']
}

/** A condition on one cookie. */
export interface NativeCookieMatch {
  readonly name: string
  readonly value: NativeStringMatch
  /** Holds where the condition does not. Default: false. */
  readonly invert?: boolean
}

/** A condition on dynamic metadata, which filters before it have set. */
export interface NativeMetadataMatch {
  readonly namespace: string
  /** Keys that lead to the value. */
  readonly path: readonly string[]
  readonly value: ValueMatchConfig
  /** Holds where the condition does not. Default: false. */
  readonly invert?: boolean
}

/** A share of all requests, decided by one draw per request. */
export type NativeFraction =
  | {
      /** 0 to 100, to four places behind the point. */
      readonly percent: number
      /** A key of `runtime` whose number replaces the share (in millionths). */
      readonly runtimeKey?: string
    }
  | FractionConfig

/**
 * Which requests a route takes: all conditions that are set must hold. At most one of the conditions on the path may be
 * set; without one every path matches.
 */
export interface NativeRouteMatch {
  /** The path begins with this text: `/api` takes `/api`, `/api/x` and `/apix`. */
  readonly prefix?: string
  /** The path, without its query, is this text. */
  readonly exact?: string
  /** The path is this text or goes on with a slash: `/api` takes `/api` and `/api/x`, and not `/apix`. */
  readonly pathSeparatedPrefix?: string
  /** RE2; the whole path without its query matches. */
  readonly regex?: string
  /** Envoy's URI template: `/users/{id}/files/{rest=**}`. */
  readonly template?: string
  /** CONNECT requests only. */
  readonly connect?: true
  /** The long form of the conditions above. */
  readonly path?: PathMatchConfig
  /** For `prefix`, `exact` and `pathSeparatedPrefix`. Default: true. */
  readonly caseSensitive?: boolean
  /** One of these methods, as clients spell them: `['GET', 'HEAD']`. */
  readonly methods?: readonly string[]
  readonly headers?: readonly NativeHeaderMatch[]
  readonly queryParameters?: readonly NativeQueryParameterMatch[]
  readonly cookies?: readonly NativeCookieMatch[]
  /** gRPC requests only. Default: false. */
  readonly grpc?: boolean
  readonly fraction?: NativeFraction
  readonly metadata?: readonly NativeMetadataMatch[]
  /** Whether the client presented a certificate, and whether it was validated. */
  readonly tls?: { readonly presented?: boolean; readonly validated?: boolean }
}

/** A range of addresses: `10.0.0.0/8`, or one address. */
export type NativeCidr = string | { readonly address: string; readonly prefixLength: number }

/** Metadata by namespace, as Envoy's `filter_metadata`. */
export type NativeMetadata = { readonly [namespace: string]: Json }
