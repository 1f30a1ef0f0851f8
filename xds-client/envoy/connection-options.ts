import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { AddressOrderConfig, ClusterConfig, KeepaliveConfig } from '../../lib/upstream/config.ts'
import { translateSocketAddress } from './address.ts'
import { refuseTrue } from './refusals.ts'

/** Where the connections of clusters come from. */
export type BindAddresses = Pick<ClusterConfig, 'bindAddress' | 'extraBindAddresses'>

const ANY: ReadonlySet<string> = new Set(['0.0.0.0', '::'])

/** `config.core.v3.BindConfig`: the local addresses of upstream connections; none: the system's choice. */
export function translateBindConfig(reader: FieldReader | undefined): BindAddresses {
  if (reader === undefined) return {}
  refuseTrue(reader, 'freebind', 'is not available')
  reader.ignore('socket_options', 'validate_network_namespaces')
  reader.refuse('additional_source_addresses', 'is deprecated and not available; use extra_source_addresses')
  reader.refuse('local_address_selector', 'is not available')
  const bindAddress = sourceAddress(reader.message('source_address'))
  const extraBindAddresses = reader.messages('extra_source_addresses').flatMap((extra) => {
    extra.ignore('socket_options')
    return sourceAddress(extra.message('address')) ?? []
  })
  if (bindAddress === undefined) {
    if (extraBindAddresses.length > 0) reader.error('extra_source_addresses', 'needs source_address')
    return {}
  }
  if (extraBindAddresses.length > 0) return { bindAddress, extraBindAddresses }
  return ANY.has(bindAddress) ? {} : { bindAddress }
}

function sourceAddress(at: FieldReader | undefined): string | undefined {
  const address = translateSocketAddress(at, 'ip')
  if (at === undefined || address?.kind !== 'ip') return undefined
  if (address.port !== 0) at.error('port_value', 'must be 0: the port of an upstream connection cannot be chosen')
  return address.host
}

/** `UpstreamConnectionOptions` */
export function translateConnectionOptions(
  reader: FieldReader | undefined,
): Pick<ClusterConfig, 'keepalive' | 'addressOrder'> {
  reader?.ignore('set_local_interface_name_on_upstream_connections')
  const keepalive = translateKeepalive(reader?.message('tcp_keepalive'))
  const addressOrder = translateOrder(reader?.message('happy_eyeballs_config'))
  return { ...(keepalive && { keepalive }), ...(addressOrder && { addressOrder }) }
}

/** What is 0 or unset is the system's; the idle time has to be said, and on Linux is two hours. */
function translateKeepalive(reader: FieldReader | undefined): KeepaliveConfig | undefined {
  if (reader === undefined) return undefined
  const probes = reader.number('keepalive_probes')
  const intervalS = reader.number('keepalive_interval')
  return {
    idleS: reader.number('keepalive_time') || 7200,
    ...(intervalS && { intervalS }),
    ...(probes && { probes }),
  }
}

function translateOrder(reader: FieldReader | undefined): AddressOrderConfig | undefined {
  if (reader === undefined) return undefined
  const version = reader.enumName('first_address_family_version')
  return {
    firstFamily: version === 'V4' ? 'v4' : version === 'V6' ? 'v6' : 'given',
    firstFamilyCount: reader.number('first_address_family_count') || 1,
  }
}
