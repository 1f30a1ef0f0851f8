import type {
  CidrConfig,
  FilterStateMatchConfig,
  HeaderMatchConfig,
  MatcherTreeConfig,
  MetadataMatchConfig,
  StringMatchConfig,
} from '../match/config.ts'

/** What becomes of those whom a policy matches. `log` lets everybody in and leaves a hint for access logs. */
export type RbacEffect = 'allow' | 'deny' | 'log'

/** One question about a request or a connection: what Envoy's Permission and Principal can ask. */
export type ConditionConfig =
  | { readonly kind: 'any' }
  | { readonly kind: 'and' | 'or'; readonly of: readonly ConditionConfig[] }
  | { readonly kind: 'not'; readonly of: ConditionConfig }
  | { readonly kind: 'header'; readonly header: HeaderMatchConfig }
  /** Of the path without query and fragment. */
  | { readonly kind: 'path'; readonly string: StringMatchConfig }
  | { readonly kind: 'path-template'; readonly template: string }
  | { readonly kind: 'metadata'; readonly metadata: MetadataMatchConfig; readonly source: 'dynamic' | 'route' }
  | { readonly kind: 'filter-state'; readonly state: FilterStateMatchConfig }
  /**
   * `remote-ip`: the client, as X-Forwarded-For or a PROXY header tell. `connection-ip`: without X-Forwarded-For.
   * `direct-remote-ip`: the peer of the socket. `destination-ip`: where the client wanted to go.
   */
  | {
      readonly kind: 'remote-ip' | 'connection-ip' | 'direct-remote-ip' | 'destination-ip'
      readonly range: CidrConfig
    }
  /** From `start` up to, not including, `end`. */
  | { readonly kind: 'destination-port'; readonly start: number; readonly end: number }
  /** Connections without one have the name ''. */
  | { readonly kind: 'server-name'; readonly string: StringMatchConfig }
  /** A verified certificate; `name`: one of its URIs or DNS names, or its subject, matches. */
  | { readonly kind: 'authenticated'; readonly name?: StringMatchConfig }
  /** A verified certificate with such a name. */
  | { readonly kind: 'san'; readonly type: 'uri' | 'dns' | 'email' | 'ip'; readonly name: StringMatchConfig }

/** Matches whoever meets one of the principals and asks for one of the permissions. */
export interface RbacPolicyConfig {
  readonly name: string
  readonly permissions: readonly ConditionConfig[]
  readonly principals: readonly ConditionConfig[]
}

/** What a leaf of a matcher tree says; `name` is reported as the policy. */
export interface RbacActionConfig {
  readonly name: string
  readonly effect: RbacEffect
}

/** Which verdicts are written down, and by whom. */
export interface RbacAuditConfig {
  readonly when: 'deny' | 'allow' | 'both'
  readonly loggers: readonly 'stdout'[]
}

/** One set of rules. Plain data. */
export type RbacConfig =
  /** `allow` without policies denies all, `deny` without policies allows all. Policies are in the order of their names. */
  | {
      readonly kind: 'rules'
      readonly effect: RbacEffect
      readonly policies: readonly RbacPolicyConfig[]
      readonly audit?: RbacAuditConfig
    }
  /** What no leaf decides is denied. */
  | { readonly kind: 'matcher'; readonly tree: MatcherTreeConfig<RbacActionConfig> }
