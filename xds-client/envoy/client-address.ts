import type { OriginalIpDetectionConfig } from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { httpStatus } from '../../lib/core/http-status.ts'
import type { CidrConfig } from '../../lib/match/config.ts'
import { translateCidr } from './address.ts'
import { refuseExtension, typedExtension } from './refusals.ts'

const XFF = 'envoy.extensions.http.original_ip_detection.xff.v3.XffConfig'
const CUSTOM_HEADER = 'envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig'

/** How a connection manager finds out who the client is, and who is internal. */
export interface ClientAddress {
  readonly useRemoteAddress: boolean
  readonly xffTrustedHops: number
  readonly originalIpDetection: readonly OriginalIpDetectionConfig[]
  readonly internalCidrs: readonly CidrConfig[]
  readonly internalUnixSockets: boolean
}

/** The client address settings; detection extensions exclude the two older settings. */
export function translateClientAddress(reader: FieldReader): ClientAddress {
  const useRemoteAddress = reader.bool('use_remote_address')
  const xffTrustedHops = reader.number('xff_num_trusted_hops') ?? 0
  const originalIpDetection: OriginalIpDetectionConfig[] = []
  for (const entry of reader.messages('original_ip_detection_extensions')) {
    const detection = translateDetection(entry)
    if (detection !== undefined) originalIpDetection.push(detection)
  }
  if (reader.has('original_ip_detection_extensions')) {
    if (useRemoteAddress) reader.error('use_remote_address', 'excludes original_ip_detection_extensions')
    if (xffTrustedHops > 0) reader.error('xff_num_trusted_hops', 'excludes original_ip_detection_extensions')
  }
  const internal = reader.message('internal_address_config')
  return {
    useRemoteAddress,
    xffTrustedHops,
    originalIpDetection,
    // Unset: no address is internal, as in Envoy since 1.33.
    internalCidrs: (internal?.messages('cidr_ranges') ?? []).map(translateCidr),
    internalUnixSockets: internal?.bool('unix_sockets') ?? false,
  }
}

function translateDetection(entry: FieldReader): OriginalIpDetectionConfig | undefined {
  const extension = typedExtension(entry)
  if (extension === undefined) return undefined
  switch (extension.typeUrl) {
    case XFF:
      return translateXff(extension.fields)
    case CUSTOM_HEADER:
      return translateCustomHeader(extension.fields)
    default:
      refuseExtension(entry, 'typed_config', extension, `IP detection "${extension.typeUrl}" is not available`)
      return undefined
  }
}

function translateXff(fields: FieldReader): OriginalIpDetectionConfig {
  const trustedHops = fields.number('xff_num_trusted_hops') ?? 0
  const trusted = fields.message('xff_trusted_cidrs')
  const trustedCidrs = trusted?.messages('cidrs').map(translateCidr)
  if (trustedHops > 0 && trusted !== undefined) fields.error('xff_trusted_cidrs', 'excludes xff_num_trusted_hops')
  const skipAppend = fields.optionalBool('skip_xff_append') ?? true
  return { kind: 'xff', trustedHops, ...(trustedCidrs && { trustedCidrs }), skipAppend }
}

function translateCustomHeader(fields: FieldReader): OriginalIpDetectionConfig {
  const header = fields.string('header_name').toLowerCase()
  const trusted = fields.bool('allow_extension_to_set_address_as_trusted')
  const reject = fields.message('reject_with_status')
  if (reject === undefined) return { kind: 'custom-header', header, trusted }
  // Envoy takes only errors here, and 403 for anything else.
  const status = httpStatus(reject)
  return { kind: 'custom-header', header, trusted, rejectStatus: status >= 400 ? status : 403 }
}
