import type { ClientCertificateField, ClientCertificateHeaderConfig } from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'

const MODES: ReadonlyMap<string, ClientCertificateHeaderConfig['mode']> = new Map([
  ['FORWARD_ONLY', 'forward-only'],
  ['APPEND_FORWARD', 'append-forward'],
  ['SANITIZE_SET', 'sanitize-set'],
  ['ALWAYS_FORWARD_ONLY', 'always-forward-only'],
])

const FIELDS: readonly ClientCertificateField[] = ['cert', 'chain', 'subject', 'issuer', 'uri', 'dns']

/** `forward_client_cert_details` and what belongs to it; undefined: SANITIZE, the default. */
export function translateClientCert(reader: FieldReader): ClientCertificateHeaderConfig | undefined {
  const mode = MODES.get(reader.enumName('forward_client_cert_details'))
  // Without effect in the modes that tell nothing of their own, in Envoy too.
  const details = reader.message('set_current_client_cert_details')
  const fields = FIELDS.filter((field) => details?.bool(field) === true)
  const json = details?.enumName('format') === 'JSON'
  if (json && (mode === 'append-forward' || mode === 'sanitize-set')) {
    details?.error('format', 'the JSON format of x-forwarded-client-cert is not available')
  }
  return mode === undefined ? undefined : { mode, fields }
}
