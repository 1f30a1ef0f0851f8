import type {
  ClientCertificateActionConfig,
  ClientCertificateField,
  ClientCertificateHeaderConfig,
} from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { parseMatcherTree } from '../../lib/match/parse-tree.ts'
import { consume } from './refusals.ts'

const MODES: ReadonlyMap<string, ClientCertificateActionConfig['mode']> = new Map([
  ['FORWARD_ONLY', 'forward-only'],
  ['APPEND_FORWARD', 'append-forward'],
  ['SANITIZE_SET', 'sanitize-set'],
  ['ALWAYS_FORWARD_ONLY', 'always-forward-only'],
])

const FIELDS: readonly ClientCertificateField[] = ['cert', 'chain', 'subject', 'issuer', 'uri', 'dns']

const ACTION =
  'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ForwardClientCertConfig'

/** `forward_client_cert_details` and what belongs to it; undefined: SANITIZE, the default, whatever the request. */
export function translateClientCert(reader: FieldReader): ClientCertificateHeaderConfig | undefined {
  const usual = translateAction(reader)
  const matcher = reader.message('forward_client_cert_matcher')
  if (matcher === undefined) return usual.mode === 'sanitize' ? undefined : usual
  const byRequest = parseMatcherTree<ClientCertificateActionConfig>(matcher, (action, at) => {
    if (action.typeUrl === ACTION) return translateAction(action.fields.unread('refuse'))
    consume(action)
    at.error('typed_config', `must be a ${ACTION}, is "${action.typeUrl}"`)
    return undefined
  })
  return { ...usual, byRequest }
}

/** The pair of fields that a connection manager and `ForwardClientCertConfig` have. */
function translateAction(reader: FieldReader): ClientCertificateActionConfig {
  const mode = MODES.get(reader.enumName('forward_client_cert_details')) ?? 'sanitize'
  // Without effect in the modes that tell nothing of their own, in Envoy too.
  const details = reader.message('set_current_client_cert_details')
  const fields = FIELDS.filter((field) => details?.bool(field) === true)
  const json = details?.enumName('format') === 'JSON'
  return { mode, fields, ...(json && { format: 'json' }) }
}
