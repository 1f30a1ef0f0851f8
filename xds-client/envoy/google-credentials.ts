import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { FileMetadataConfig, ServiceAccountConfig } from '../config.ts'
import type { EnvoyContext } from './context.ts'
import { readDataSource } from './data-source.ts'
import { consume } from './refusals.ts'
import { translateServiceAccount } from './service-account.ts'

const FILE_METADATA = 'envoy.config.grpc_credential.v3.FileBasedMetadataConfig'
const FILE_METADATA_NAME = 'envoy.grpc_credentials.file_based_metadata'

/** Factories of credentials; '' is that which reads channel_credentials and call_credentials alone. */
const FACTORIES: ReadonlySet<string> = new Set(['', 'envoy.grpc_credentials.default', FILE_METADATA_NAME])

/** RFC 9110 section 5.5 forbids these in field values. */
const BAD_VALUE = /[\0\r\n]/

/** What each call carries to say who calls. */
export interface CallMetadata {
  /** Flat, as in `Headers.raw`. */
  readonly headers: readonly string[]
  readonly files: readonly FileMetadataConfig[]
  readonly serviceAccount?: ServiceAccountConfig
  /** Some of it is secret. */
  readonly bearer: boolean
}

/** `call_credentials` and `credentials_factory_name` of a GoogleGrpc. */
export function translateCallCredentials(reader: FieldReader, context: EnvoyContext): CallMetadata {
  const factory = reader.string('credentials_factory_name')
  if (!FACTORIES.has(factory)) reader.error('credentials_factory_name', `"${factory}" is not available`)
  reader.refuse('config', 'no factory of credentials takes it; use call_credentials')
  const headers: string[] = []
  const files: FileMetadataConfig[] = []
  let serviceAccount: ServiceAccountConfig | undefined
  for (const entry of reader.messages('call_credentials')) {
    entry.unread('refuse')
    const kind = entry.which('credential_specifier')
    if (kind === 'access_token') {
      const token = entry.string('access_token')
      if (BAD_VALUE.test(token)) entry.error('access_token', 'must not contain NUL, CR or LF')
      headers.push('authorization', `Bearer ${token}`)
    } else if (kind === 'google_iam') {
      translateIam(entry.message('google_iam'), headers)
    } else if (kind === 'service_account_jwt_access') {
      if (serviceAccount !== undefined) entry.error(kind, 'a second service account is not available')
      serviceAccount = translateServiceAccount(entry.message(kind))
    } else if (kind === 'from_plugin') {
      translatePlugin(entry.message('from_plugin'), context, { headers, files })
    } else if (kind !== undefined) {
      entry.refuse(kind, 'is not available: use service_account_jwt_access, access_token, or from_plugin with a file')
    }
  }
  const bearer = headers.length > 0 || files.length > 0 || serviceAccount !== undefined
  return { headers, files, ...(serviceAccount && { serviceAccount }), bearer }
}

/** `GoogleIAMCredentials` */
function translateIam(reader: FieldReader | undefined, headers: string[]): void {
  if (reader === undefined) return
  reader.unread('refuse')
  const [token, selector] = [reader.string('authorization_token'), reader.string('authority_selector')]
  for (const value of [token, selector]) {
    if (BAD_VALUE.test(value)) reader.error(undefined, 'must not contain NUL, CR or LF')
  }
  headers.push('x-goog-iam-authorization-token', token, 'x-goog-iam-authority-selector', selector)
}

interface Into {
  readonly headers: string[]
  readonly files: FileMetadataConfig[]
}

function translatePlugin(reader: FieldReader | undefined, context: EnvoyContext, into: Into): void {
  if (reader === undefined) return
  reader.unread('refuse')
  const name = reader.string('name')
  const extension = reader.any('typed_config')
  if (extension?.typeUrl !== FILE_METADATA) {
    if (extension !== undefined) consume(extension)
    reader.error('typed_config', `credentials "${extension?.typeUrl || name}" are not available`)
    return
  }
  const fields = extension.fields
  fields.unread('refuse')
  const header = (fields.string('header_key') || 'authorization').toLowerCase()
  const prefix = fields.string('header_prefix')
  const data = fields.message('secret_data')
  if (data === undefined) {
    fields.error('secret_data', 'is required')
  } else if (data.which('specifier') === 'filename') {
    // Read anew for each call, so it need not be there now.
    const path = data.string('filename')
    data.ignore('watched_directory')
    if (context.readFile === undefined) data.error('filename', 'files are not available here')
    into.files.push({ header, prefix, path })
  } else {
    const value = prefix + (readDataSource(data, context)?.toString('utf8').trim() ?? '')
    if (BAD_VALUE.test(value)) fields.error('secret_data', 'holds more than one line')
    into.headers.push(header, value)
  }
}
