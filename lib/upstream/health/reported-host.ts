import type { JsonObject } from '../../core/errors.ts'
import type { Host } from '../host.ts'

/** Values that are replaced when an update changes them. */
export function identity(host: Host): readonly unknown[] {
  const { address, check, metadata, localityMetadata, hostname, proxyAddress, additionalAddresses } = host
  return [address, check, metadata, localityMetadata, hostname, proxyAddress, additionalAddresses]
}

/** What somebody elsewhere needs to tell one host from another. */
export function addressOf({ key, address }: Host): JsonObject {
  return {
    key: key.slice(0, key.lastIndexOf('@')),
    address: { ...address },
    weight: 1,
    health: 'healthy',
  } as JsonObject
}

/** What somebody elsewhere needs to connect to a host. */
export function endpointOf(host: Host): JsonObject {
  const { hostname, metadata, check, additionalAddresses, proxyAddress, addedTlvs } = host
  return {
    ...addressOf(host),
    ...(hostname !== '' && { hostname }),
    ...(metadata && { metadata }),
    ...(check && { check }),
    ...(additionalAddresses.length > 0 && { additionalAddresses }),
    ...(proxyAddress && { proxyAddress }),
    ...(addedTlvs && { addedTlvs }),
  } as unknown as JsonObject
}
