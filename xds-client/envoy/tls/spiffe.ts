import type { ExtensionReader, FieldReader } from '../../../lib/core/field-reader.ts'
import type { TrustDomainConfig } from '../../../lib/tls/config.ts'
import type { EnvoyContext } from '../context.ts'
import { readDataSource } from '../data-source.ts'
import { consume, refuseExtension } from '../refusals.ts'

const SPIFFE = 'envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig'

/** `custom_validator_config`: the SPIFFE validator; undefined where there is none, or another, which is refused. */
export function translateValidator(
  reader: FieldReader,
  context: EnvoyContext,
): readonly TrustDomainConfig[] | undefined {
  const config = reader.message('custom_validator_config')
  if (config === undefined) return undefined
  config.string('name')
  const extension: ExtensionReader | undefined = config.any('typed_config')
  if (extension === undefined) {
    reader.error('custom_validator_config', 'has no typed_config')
    return undefined
  }
  if (extension.typeUrl !== SPIFFE) {
    refuseExtension(
      reader,
      'custom_validator_config',
      extension,
      `the validator "${extension.typeUrl}" is not available`,
    )
    return undefined
  }
  const { fields } = extension
  fields.unread('refuse')
  const bundles = fields.message('trust_bundles')
  if (bundles === undefined) return translateDomains(fields, context)
  consume(extension)
  const bytes = readDataSource(bundles, context)
  if (bytes === undefined) return undefined
  if (context.tlsFormats === undefined) {
    fields.error('trust_bundles', 'trust bundles are not available here')
    return undefined
  }
  try {
    return context.tlsFormats.trustBundles(bytes.toString('utf8'))
  } catch (error) {
    fields.error('trust_bundles', (error as Error).message)
    return undefined
  }
}

/** Undefined where one of them has no authorities, which is recorded. */
function translateDomains(fields: FieldReader, context: EnvoyContext): readonly TrustDomainConfig[] | undefined {
  const domains = fields.messages('trust_domains').map((domain) => {
    domain.unread('refuse')
    const name = domain.string('name')
    const bytes = readDataSource(domain.message('trust_bundle'), context)
    if (!domain.has('trust_bundle')) domain.error('trust_bundle', 'is required')
    return bytes && { name, trustedCa: bytes.toString('utf8') }
  })
  const found = domains.filter((domain) => domain !== undefined)
  return found.length === domains.length ? found : undefined
}
