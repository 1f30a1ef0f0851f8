interface HashPolicyRest {
  /** Where there is a hash by now, the policies that follow do not count. */
  readonly terminal?: true
}

/** All values of a header, or what a regex makes of each. */
export interface HeaderHashConfig extends HashPolicyRest {
  readonly kind: 'header'
  /** Lower case. */
  readonly name: string
  readonly rewrite?: { readonly regex: string; readonly substitution: string }
}

/** A cookie; one that is missing is made where it is to have a lifetime (0: as long as the browser's session). */
export interface CookieHashConfig extends HashPolicyRest {
  readonly kind: 'cookie'
  readonly name: string
  readonly ttlS?: number
  readonly path?: string
  readonly attributes?: readonly { readonly name: string; readonly value: string }[]
}

/** What requests stick to a host by, where the cluster's balancer hashes. */
export type HashPolicyConfig =
  | HeaderHashConfig
  | CookieHashConfig
  | (HashPolicyRest & { readonly kind: 'source-ip' })
  | (HashPolicyRest & { readonly kind: 'query-parameter'; readonly name: string })
  | (HashPolicyRest & { readonly kind: 'filter-state'; readonly key: string })
