import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type { CertificateConfig } from '../../../lib/tls/config.ts'
import type { EnvoyContext } from '../context.ts'
import { readDataSource } from '../data-source.ts'

/** `TlsCertificate`; undefined where it cannot be used, with its mistakes recorded. */
export function translateCertificate(reader: FieldReader, context: EnvoyContext): CertificateConfig | undefined {
  // Files are read once; staples are served under no policy that is available.
  reader.ignore('watched_directory', 'ocsp_staple', 'signed_certificate_timestamp')
  reader.refuse('private_key_provider', 'private key providers are not available; use private_key')
  reader.refuse('tls_params', 'parameters of a single certificate are not available')
  if (reader.has('pkcs12')) {
    reader.refuse('pkcs12', 'PKCS#12 is not available; use certificate_chain and private_key in PEM')
    reader.ignore('certificate_chain', 'private_key', 'password')
    return undefined
  }
  const certificateChain = readText(reader, 'certificate_chain', context)
  const privateKey = reader.has('private_key_provider') ? undefined : readText(reader, 'private_key', context)
  const password = reader.message('password')
  const passphrase = password && readDataSource(password, context)?.toString('utf8')
  if (certificateChain === undefined || privateKey === undefined) return undefined
  return { certificateChain, privateKey, ...(passphrase !== undefined && { passphrase }) }
}

function readText(reader: FieldReader, field: string, context: EnvoyContext): string | undefined {
  const source = reader.message(field)
  if (source === undefined) reader.error(field, 'is required')
  const bytes = readDataSource(source, context)
  if (bytes === undefined || bytes.length > 0) return bytes?.toString('utf8')
  reader.error(field, 'is empty')
  return undefined
}
