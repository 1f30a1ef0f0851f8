import type { Address, EndpointAddress } from '../../lib/core/address.ts'
import { canonicalIp, isIp } from '../../lib/core/address.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { CidrConfig } from '../../lib/match/config.ts'
import { WHY } from './refusals.ts'

/** `ip`: the host must be an IP address; `name`: it may be a DNS name. */
export type HostKind = 'ip' | 'name'

/** `config.core.v3.Address`; undefined where it cannot be used, with the mistake recorded. */
export function translateAddress(reader: FieldReader | undefined, hosts: HostKind): Address | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  switch (reader.which('address')) {
    case 'socket_address':
      return translateSocketAddress(reader.message('socket_address'), hosts)
    case 'pipe':
      return translatePipe(reader.message('pipe'))
    case 'envoy_internal_address':
      reader.refuse('envoy_internal_address', 'an internal address cannot be listened on: set internal_listener')
      return undefined
    default:
      return undefined
  }
}

/** As `translateAddress`, for what is connected to: it may be an internal listener too. */
export function translateEndpointAddress(reader: FieldReader, hosts: HostKind): EndpointAddress | undefined {
  if (reader.which('address') !== 'envoy_internal_address') return translateAddress(reader, hosts)
  reader.unread('refuse')
  const internal = reader.message('envoy_internal_address')
  const listener = internal?.string('server_listener_name') ?? ''
  const endpointId = internal?.string('endpoint_id') ?? ''
  return { kind: 'internal', listener, ...(endpointId !== '' && { endpointId }) }
}

/** `config.core.v3.SocketAddress` */
export function translateSocketAddress(reader: FieldReader | undefined, hosts: HostKind): Address | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  if (reader.enumName('protocol') === 'UDP') reader.error('protocol', WHY.udp)
  reader.refuse('resolver_name', 'custom resolvers are not available')
  reader.refuse('network_namespace_filepath', 'network namespaces are not available')
  reader.refuse('named_port', 'named ports are not available; use port_value')
  const compat = reader.bool('ipv4_compat')
  const host = reader.string('address')
  const port = reader.number('port_value') ?? 0
  if (hosts === 'ip' && host !== '' && !isIp(host)) {
    reader.error('address', `malformed IP address "${host}"`)
  }
  const dualStack = compat && host.includes(':')
  return { kind: 'ip', host: isIp(host) ? canonicalIp(host) : host, port, ...(dualStack && { dualStack }) }
}

function translatePipe(reader: FieldReader | undefined): Address | undefined {
  if (reader === undefined) return undefined
  const path = reader.string('path')
  if (path.startsWith('@')) reader.error('path', 'abstract Unix sockets are not available')
  const mode = reader.number('mode') ?? 0
  return mode === 0 ? { kind: 'pipe', path } : { kind: 'pipe', path, mode }
}

/** `config.core.v3.CidrRange`; an unset prefix length is 0, as in Envoy. */
export function translateCidr(reader: FieldReader): CidrConfig {
  reader.unread('refuse')
  const address = reader.string('address_prefix')
  const prefixLength = reader.number('prefix_len') ?? 0
  if (address !== '' && !isIp(address)) {
    reader.error('address_prefix', `malformed IP address "${address}"`)
  } else if (prefixLength > (address.includes(':') ? 128 : 32)) {
    reader.error('prefix_len', `${prefixLength} is longer than the address`)
  }
  const canonical = canonicalIp(address)
  // A range of v4-mapped addresses is the IPv4 range that matchers will see.
  const mapped = address.includes(':') && !canonical.includes(':') && prefixLength >= 96
  return mapped
    ? { address: canonical, prefixLength: prefixLength - 96 }
    : { address: prefixLength < 96 && address.includes(':') ? address.toLowerCase() : canonical, prefixLength }
}
