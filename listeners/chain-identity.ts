import { hash } from 'node:crypto'
import type { FilterChainConfig } from '../lib/config/listener.ts'
import type { DownstreamTlsConfig } from '../lib/tls/config.ts'

/** What of a chain must be as it was for an update to leave it alone. */
export interface ChainIdentity {
  /** Chains of two snapshots are told apart by what chooses them. */
  readonly key: string
  /**
   * Equal where connections can go on with the next snapshot's HTTP: everything below it stays as it was. Other
   * certificates, authorities, revocation lists and ticket keys are for new handshakes and leave connections alone.
   */
  readonly below: string
  /** Of TLS with its secrets; '' on plaintext. */
  readonly tls: string
}

/**
 * Short, whatever is in it: thousands of chains keep theirs. `otherwise`: it is the listener's default chain, which may
 * have the name of another, and no match as well.
 */
export function identityOf(chain: FilterChainConfig, otherwise: boolean): ChainIdentity {
  const { name, match, tls, networkFilters, http } = chain
  return {
    key: keyOf({ name, match }, otherwise),
    below: digest([tls && withoutSecrets(tls), networkFilters, http !== undefined]),
    tls: tls === undefined ? '' : digest(tls),
  }
}

/** What a chain is known by from one version of its listener to the next. */
export function keyOf({ name, match }: Pick<FilterChainConfig, 'name' | 'match'>, otherwise: boolean): string {
  return digest([name, match, otherwise])
}

function digest(value: unknown): string {
  return hash('sha256', JSON.stringify(value), 'base64')
}

function withoutSecrets({ certificates: _, ticketKeys: __, validation, ...tls }: DownstreamTlsConfig): unknown {
  if (validation === undefined) return tls
  const { trustedCa, crl, trustDomains, ...rules } = validation
  const domains = trustDomains?.map(({ name }) => name)
  return [tls, rules, trustedCa !== undefined, crl !== undefined, domains]
}
