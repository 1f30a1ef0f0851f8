import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type { DownstreamTlsConfig, KeyLogConfig } from '../../../lib/tls/config.ts'
import { translateCidr } from '../address.ts'
import type { EnvoyContext } from '../context.ts'
import { readDataSource } from '../data-source.ts'
import { WHY } from '../refusals.ts'

type Resumption = Pick<DownstreamTlsConfig, 'sessionTickets' | 'ticketKeys' | 'sessionTimeoutS'>

/** How clients of a listener may resume their sessions. */
export function translateResumption(reader: FieldReader, context: EnvoyContext): Resumption {
  reader.refuse('session_ticket_keys_sds_secret_config', WHY.secrets)
  // There is no stateful cache of sessions, so none has to be switched off.
  reader.bool('disable_stateful_session_resumption')
  const timeoutMs = reader.durationMs('session_timeout')
  const ticketKeys = reader
    .message('session_ticket_keys')
    ?.messages('keys')
    .map((key) => readDataSource(key, context)?.toString('base64') ?? '')
  return {
    sessionTickets: !reader.bool('disable_stateless_session_resumption'),
    ...(ticketKeys && { ticketKeys }),
    ...(timeoutMs !== undefined && { sessionTimeoutS: Math.ceil(timeoutMs / 1000) }),
  }
}

/** `TlsKeyLog`. */
export function translateKeyLog(reader: FieldReader | undefined): KeyLogConfig | undefined {
  if (reader === undefined) return undefined
  return {
    path: reader.string('path'),
    localRanges: reader.messages('local_address_range').map(translateCidr),
    remoteRanges: reader.messages('remote_address_range').map(translateCidr),
  }
}
