import type { Address } from '../../lib/core/address.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import type { AddedTlvConfig, EndpointConfig } from '../../lib/upstream/config.ts'
import { translateAddress } from './address.ts'
import { translateTlvs } from './proxy-header.ts'
import { consume } from './refusals.ts'

const PROXY_ADDRESS = 'envoy.http11_proxy_transport_socket.proxy_address'
const PROXY_PROTOCOL = 'envoy.transport_sockets.proxy_protocol'
const PER_HOST = 'envoy.config.core.v3.PerHostConfig'

/** What the metadata of an endpoint or a locality says: objects by namespace, and what transports read of it. */
export type HostMetadata = Pick<EndpointConfig, 'metadata' | 'proxyAddress' | 'addedTlvs'>

/** `metadata` of an endpoint or a locality (which has no TLVs to add); typed metadata that nothing reads is reported. */
export function translateHostMetadata(reader: FieldReader, of: 'endpoint' | 'locality'): HostMetadata {
  const source = reader.message('metadata')
  if (source === undefined) return {}
  const metadata: JsonObject = Object.create(null)
  for (const [namespace, value] of source.messageMap('filter_metadata')) metadata[namespace] = value.toJson()
  const typed = source.anyMap('typed_filter_metadata')
  const proxyAddress = proxyOf(source, typed.get(PROXY_ADDRESS))
  const tlvs = of === 'endpoint' ? typed.get(PROXY_PROTOCOL) : undefined
  const addedTlvs = tlvs === undefined ? [] : tlvsOf(source, tlvs)
  for (const [namespace, extension] of typed) {
    if (namespace === PROXY_ADDRESS || extension === tlvs) continue
    consume(extension)
    source.ignore('typed_filter_metadata')
  }
  return {
    metadata,
    ...(proxyAddress && { proxyAddress }),
    ...(addedTlvs.length > 0 && { addedTlvs }),
  }
}

function tlvsOf(metadata: FieldReader, extension: ExtensionReader): AddedTlvConfig[] {
  if (extension.typeUrl === PER_HOST) return translateTlvs(extension.fields)
  consume(extension)
  metadata.error('typed_filter_metadata', `"${PROXY_PROTOCOL}" must be "${PER_HOST}", is "${extension.typeUrl}"`)
  return []
}

function proxyOf(metadata: FieldReader, extension: ExtensionReader | undefined): Address | undefined {
  if (extension === undefined) return undefined
  if (extension.typeUrl === 'envoy.config.core.v3.Address') return translateAddress(extension.fields, 'ip')
  consume(extension)
  metadata.error('typed_filter_metadata', `"${PROXY_ADDRESS}" must be an address, is "${extension.typeUrl}"`)
  return undefined
}
