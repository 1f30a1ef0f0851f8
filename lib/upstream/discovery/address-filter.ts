import { compileCidrs } from '../../match/cidr.ts'
import type { AddressFilterConfig, DnsConfig } from './config.ts'
import type { DnsResolver, DnsResult } from './dns/resolver.ts'

/** Whether an IP address may be connected to, in any of its spellings. */
export type AddressFilter = (ip: string) => boolean

/** What a lookup is called that brought nothing but addresses that may not be connected to. */
export const DENIED = 'EDENIED'

/** @throws Error where a range is none. */
export function compileAddressFilter(config: AddressFilterConfig): AddressFilter {
  const among = compileCidrs(config.ranges)
  return config.kind === 'allow' ? among : (ip) => !among(ip)
}

/** Asks for a name as configured, and again whenever it is called. */
export function lookupOf(
  name: string,
  { resolver, dns, admits }: { resolver: DnsResolver; dns: DnsConfig; admits: AddressFilter | undefined },
): () => Promise<DnsResult> {
  return async () => {
    const answer = await resolver.resolve(name, dns.family, dns.queryTimeoutMs)
    return admits === undefined ? answer : admitted(answer, admits)
  }
}

/** The answer without what may not be connected to; nothing left is a failure. */
export function admitted(result: DnsResult, admits: AddressFilter): DnsResult {
  if (!result.ok) return result
  const addresses = result.addresses.filter(admits)
  if (addresses.length === result.addresses.length) return result
  return addresses.length > 0 ? { ...result, addresses } : { ok: false, reason: DENIED }
}
