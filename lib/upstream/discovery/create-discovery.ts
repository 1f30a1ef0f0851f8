import { type Address, formatHostPort } from '../../core/address.ts'
import type { ClusterConfig, EndpointConfig } from '../config.ts'
import type { ResolvedEndpoint } from '../host.ts'
import type { Discovery, DiscoveryOptions } from './discovery.ts'
import { DnsDiscovery } from './dns-discovery.ts'
import { EdsDiscovery } from './eds.ts'
import { ForwardProxyDiscovery } from './forward-proxy.ts'
import { OriginalDstDiscovery } from './original-dst.ts'
import { SrvDiscovery } from './srv-discovery.ts'
import { StaticDiscovery } from './static.ts'

/** The discovery of a cluster by its `type`. Throws on a name server that is no IP address; nothing runs before `start`. */
export function createDiscovery(config: ClusterConfig, options: DiscoveryOptions): Discovery {
  switch (config.type) {
    case 'static':
      return new StaticDiscovery(config.localities)
    case 'eds':
      return new EdsDiscovery(config, options)
    case 'strict-dns':
      return new DnsDiscovery(config, options, strictEndpoints)
    case 'logical-dns':
      return new DnsDiscovery(config, options, logicalEndpoints)
    case 'srv':
      return new SrvDiscovery(config, options)
    case 'dynamic-forward-proxy':
      if (config.forwardProxy?.subClusters !== undefined) return new StaticDiscovery([])
      return new ForwardProxyDiscovery(config, options)
    case 'original-dst':
      return new OriginalDstDiscovery(config, options)
    case 'aggregate':
    case 'composite':
      // Their hosts are those of other clusters.
      return new StaticDiscovery([])
  }
}

/** STRICT_DNS: every address is a host; addresses that vanish from the answer are removed. */
function strictEndpoints(endpoint: EndpointConfig, addresses: readonly string[]): readonly ResolvedEndpoint[] {
  return addresses.map((host) => withAddress(endpoint, host))
}

/**
 * LOGICAL_DNS: one host with its name as identity; new connections go to whichever of its addresses answers first, old
 * ones live on.
 */
function logicalEndpoints(endpoint: EndpointConfig, addresses: readonly string[]): readonly ResolvedEndpoint[] {
  if (endpoint.address.kind !== 'ip') return [endpoint]
  const key = formatHostPort(endpoint.address.host, endpoint.address.port)
  const { port } = endpoint.address
  const additionalAddresses = addresses.slice(1).map((host): Address => ({ kind: 'ip', host, port }))
  const first = withAddress(endpoint, addresses[0])
  return [{ ...first, key, ...(additionalAddresses.length > 0 && { additionalAddresses }) }]
}

function withAddress(endpoint: EndpointConfig, host: string): EndpointConfig {
  if (endpoint.address.kind !== 'ip') return endpoint
  const { host: name, port } = endpoint.address
  return { ...endpoint, hostname: endpoint.hostname ?? name, address: { kind: 'ip', host, port } }
}
