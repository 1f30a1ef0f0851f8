import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type { CertificateConfig } from '../../../lib/tls/config.ts'
import type { EnvoyContext } from '../context.ts'
import { readDataSource } from '../data-source.ts'

/** `TlsCertificate`; undefined where it cannot be used, with its mistakes recorded. */
export function translateCertificate(reader: FieldReader, context: EnvoyContext): CertificateConfig | undefined {
  // Envoy does not read it either.
  reader.ignore('signed_certificate_timestamp')
  // Every file is watched; of a directory that is swapped as a whole the file shows it.
  watchDirectory(reader, context)
  reader.refuse('private_key_provider', 'private key providers are not available; use private_key')
  reader.refuse('tls_params', 'parameters of a single certificate are not available')
  const password = reader.message('password')
  const passphrase = password && readDataSource(password, context)?.toString('utf8')
  const staple = reader.message('ocsp_staple')
  const response = staple && readDataSource(staple, context)
  const pair = reader.has('pkcs12') ? readPkcs12(reader, passphrase, context) : readPair(reader, passphrase, context)
  return pair && { ...pair, ...(response && { ocspStaple: response.toString('base64') }) }
}

function readPair(
  reader: FieldReader,
  passphrase: string | undefined,
  context: EnvoyContext,
): CertificateConfig | undefined {
  const certificateChain = readText(reader, 'certificate_chain', context)
  const privateKey = reader.has('private_key_provider') ? undefined : readText(reader, 'private_key', context)
  if (certificateChain === undefined || privateKey === undefined) return undefined
  return { certificateChain, privateKey, ...(passphrase !== undefined && { passphrase }) }
}

function readPkcs12(
  reader: FieldReader,
  passphrase: string | undefined,
  context: EnvoyContext,
): CertificateConfig | undefined {
  reader.refuse('certificate_chain', 'is in the PKCS#12 file')
  reader.refuse('private_key', 'is in the PKCS#12 file')
  const bytes = readDataSource(reader.message('pkcs12'), context)
  if (bytes === undefined) return undefined
  if (context.tlsFormats === undefined) {
    reader.error('pkcs12', 'PKCS#12 is not available here')
    return undefined
  }
  try {
    return context.tlsFormats.pkcs12(bytes, passphrase)
  } catch (error) {
    reader.error('pkcs12', (error as Error).message)
    return undefined
  }
}

/** `watched_directory`: says where to look for changes, besides the files themselves. */
export function watchDirectory(reader: FieldReader, context: EnvoyContext): void {
  const directory = reader.message('watched_directory')
  if (directory !== undefined) context.watchDirectory?.(directory.string('path'))
}

function readText(reader: FieldReader, field: string, context: EnvoyContext): string | undefined {
  const source = reader.message(field)
  if (source === undefined) reader.error(field, 'is required')
  const bytes = readDataSource(source, context)
  if (bytes === undefined || bytes.length > 0) return bytes?.toString('utf8')
  reader.error(field, 'is empty')
  return undefined
}
