import { TLS_GROUPS } from '../../../lib/config/defaults.ts'
import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type { UpstreamTlsConfig } from '../../../lib/tls/config.ts'
import type { EnvoyContext } from '../context.ts'
import { readDataSource } from '../data-source.ts'

/**
 * `GoogleGrpc.ChannelCredentials` as a TLS context without a name: undefined for plain TCP, which is what none, and those
 * of local connections, come to.
 */
export function translateChannelTls(
  reader: FieldReader | undefined,
  context: EnvoyContext,
): UpstreamTlsConfig | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  switch (reader.which('credential_specifier')) {
    case 'ssl_credentials':
      return translateSsl(reader.message('ssl_credentials'), context)
    case 'local_credentials':
      reader.message('local_credentials')
      return undefined
    default:
      reader.refuse('google_default', "Google's application default credentials are not available; use ssl_credentials")
      return undefined
  }
}

function translateSsl(reader: FieldReader | undefined, context: EnvoyContext): UpstreamTlsConfig | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  const text = (field: string): string | undefined => readDataSource(reader.message(field), context)?.toString('utf8')
  const trustedCa = text('root_certs')
  const certificateChain = text('cert_chain')
  const privateKey = text('private_key')
  if ((certificateChain === undefined) !== (privateKey === undefined)) {
    reader.error('private_key', 'and cert_chain go together')
  }
  const own = certificateChain !== undefined && privateKey !== undefined
  const config: UpstreamTlsConfig = {
    certificates: own ? [{ certificateChain, privateKey }] : [],
    alpn: ['h2'],
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    groups: TLS_GROUPS,
    validation: {
      ...(trustedCa !== undefined && { trustedCa }),
      systemRoots: trustedCa === undefined,
      sans: [],
      acceptUntrusted: false,
    },
    sni: '',
    autoSni: 'none',
    autoSanValidation: false,
    maxSessionKeys: 1,
  }
  for (const { path, message } of context.checks.tls(config)) reader.error(FIELDS[path] ?? 'root_certs', message)
  return config
}

const FIELDS: Readonly<Record<string, string>> = {
  'certificates[0].certificateChain': 'cert_chain',
  'certificates[0].privateKey': 'private_key',
}
