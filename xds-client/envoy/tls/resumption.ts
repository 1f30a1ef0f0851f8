import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type { DownstreamTlsConfig, KeyLogConfig } from '../../../lib/tls/config.ts'
import { translateCidr } from '../address.ts'
import type { EnvoyContext } from '../context.ts'
import { translateTicketKeys } from './secret.ts'
import { translateSecretReference } from './secret-reference.ts'

type Resumption = Pick<DownstreamTlsConfig, 'sessionTickets' | 'ticketKeys' | 'sessionTimeoutS'>

/** How clients of a listener may resume their sessions; `delivered`: the key of the secret that has the keys of tickets. */
export function translateResumption(
  reader: FieldReader,
  context: EnvoyContext,
): { readonly resumption: Resumption; readonly delivered: string | undefined } {
  const secret = translateSecretReference(
    reader.message('session_ticket_keys_sds_secret_config'),
    context,
    'ticket-keys',
  )
  // There is no stateful cache of sessions, so none has to be switched off.
  reader.bool('disable_stateful_session_resumption')
  const timeoutMs = reader.durationMs('session_timeout')
  const own = reader.message('session_ticket_keys')
  const ticketKeys = secret?.kind === 'static' ? secret.secret.keys : own && translateTicketKeys(own, context)
  const resumption = {
    sessionTickets: !reader.bool('disable_stateless_session_resumption'),
    ...(ticketKeys && { ticketKeys }),
    ...(timeoutMs !== undefined && { sessionTimeoutS: Math.ceil(timeoutMs / 1000) }),
  }
  return { resumption, delivered: secret?.kind === 'delivered' ? secret.key : undefined }
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
