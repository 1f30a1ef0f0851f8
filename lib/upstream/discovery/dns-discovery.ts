import { formatAddress, isIp } from '../../core/address.ts'
import type { ClusterConfig, EndpointConfig } from '../config.ts'
import type { ResolvedEndpoint, ResolvedLocality } from '../host.ts'
import { type AddressFilter, compileAddressFilter, lookupOf } from './address-filter.ts'
import type { Discovery, DiscoveryOptions, OnMembership } from './discovery.ts'
import { DEFAULT_DNS } from './discovery.ts'
import type { DnsResult } from './dns/resolver.ts'
import { isAbsence } from './dns/resolver.ts'
import { NameRefresh } from './name-refresh.ts'

/**
 * What the addresses of one configured endpoint become: one host each (STRICT_DNS), or one for all (LOGICAL_DNS). There
 * is at least one address; for a pipe it is ''.
 */
export type EndpointsOf = (endpoint: EndpointConfig, addresses: readonly string[]) => readonly ResolvedEndpoint[]

/** One configured endpoint with what its name stands for. The last good answer stays through failures. */
interface Target {
  readonly endpoint: EndpointConfig
  endpoints: readonly ResolvedEndpoint[]
  failing: boolean
  /** Undefined where the address is an IP address or a pipe. */
  refresh: NameRefresh<DnsResult> | undefined
}

/** The part that STRICT_DNS and LOGICAL_DNS share: a name per endpoint, refreshed on its own, published together. */
export class DnsDiscovery implements Discovery {
  readonly #config: ClusterConfig
  readonly #options: DiscoveryOptions
  readonly #endpointsOf: EndpointsOf
  readonly #admits: AddressFilter | undefined
  readonly #targets: readonly (readonly Target[])[]
  #onUpdate: OnMembership | undefined = undefined

  constructor(config: ClusterConfig, options: DiscoveryOptions, endpointsOf: EndpointsOf) {
    this.#config = config
    this.#options = options
    this.#endpointsOf = endpointsOf
    this.#admits = config.dns?.addresses && compileAddressFilter(config.dns.addresses)
    this.#targets = config.localities.map(({ endpoints }) => endpoints.map((endpoint) => this.#target(endpoint)))
  }

  async start(onUpdate: OnMembership): Promise<void> {
    this.#onUpdate = onUpdate
    const all = this.#targets.flat()
    // Addresses that are known already do not wait for names.
    if (all.some((target) => target.endpoints.length > 0)) this.#publish()
    await Promise.all(all.map((target) => target.refresh?.start()))
  }

  close(): void {
    this.#onUpdate = undefined
    for (const targets of this.#targets) for (const target of targets) target.refresh?.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #target(endpoint: EndpointConfig): Target {
    const target: Target = { endpoint, endpoints: [], failing: false, refresh: undefined }
    const name = endpoint.address.kind === 'ip' ? endpoint.address.host : ''
    if (name === '' || isIp(name)) {
      target.endpoints = this.#endpointsOf(endpoint, [name])
      return target
    }
    const { clock, random, stats, dns: resolvers } = this.#options
    const dns = this.#config.dns ?? DEFAULT_DNS
    const resolver = resolvers.for(dns.resolvers, dns.asking)
    const options = { ask: lookupOf(name, { resolver, dns, admits: this.#admits }), dns, clock, random }
    const onAttempt = (): void => {
      stats.updateAttempt.v++
    }
    target.refresh = new NameRefresh(options, onAttempt, (result) => this.#take(target, name, result))
    return target
  }

  #take(target: Target, name: string, result: DnsResult): void {
    const { stats, log } = this.#options
    if (!result.ok) {
      stats.updateFailure.v++
      if (isAbsence(result.reason)) stats.updateEmpty.v++
      // Once per outage: a name that is gone for a day would fill the log.
      if (!target.failing) {
        const fields = { cluster: this.#config.name, name, reason: result.reason, kept: target.endpoints.length }
        log.warn('DNS resolution failed, the last good addresses stay', fields)
      }
      target.failing = true
      return
    }
    stats.updateSuccess.v++
    target.failing = false
    const endpoints = this.#endpointsOf(target.endpoint, result.addresses)
    if (sameAddresses(target.endpoints, endpoints)) {
      stats.updateNoRebuild.v++
      return
    }
    target.endpoints = endpoints
    this.#publish()
  }

  #publish(): void {
    const localities = this.#config.localities.map(
      (locality, i): ResolvedLocality => ({
        ...locality,
        endpoints: this.#targets[i].flatMap((target) => target.endpoints),
      }),
    )
    this.#onUpdate?.(localities)
  }
}

/** As sets: name servers rotate their answers. */
function sameAddresses(a: readonly ResolvedEndpoint[], b: readonly ResolvedEndpoint[]): boolean {
  if (a.length !== b.length) return false
  const known = new Set(a.flatMap(hostsOf))
  const found = b.flatMap(hostsOf)
  return found.length === known.size && found.every((host) => known.has(host))
}

function hostsOf(endpoint: ResolvedEndpoint): string[] {
  const { additionalAddresses = [] } = endpoint
  return [endpoint, ...additionalAddresses.map((address) => ({ ...endpoint, address }))].map(hostOf)
}

function hostOf(endpoint: ResolvedEndpoint): string {
  return endpoint.address.kind === 'ip' ? endpoint.address.host : formatAddress(endpoint.address)
}
