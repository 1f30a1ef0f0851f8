import type { FieldReader } from '../../lib/core/field-reader.ts'
import { parseInlineSource } from '../../lib/telemetry/parse.ts'

export interface DirectResponseConfig {
  /** The bytes to send; '' for none. Base64, since configuration is JSON. */
  readonly base64: string
}

/** `envoy.extensions.filters.network.direct_response.v3.Config` */
export function parseDirectResponse(fields: FieldReader): DirectResponseConfig {
  fields.unread('refuse')
  const source = fields.message('response')
  return { base64: source === undefined ? '' : parseInlineSource(source).toString('base64') }
}
