import type { Json } from '../../lib/core/errors.ts'
import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import type { ClusterConfig, CredentialConfig, UpstreamFilterConfig } from '../../lib/upstream/config.ts'
import { configSources } from './config-sources.ts'
import type { EnvoyContext, FilterParser } from './context.ts'
import { translateDiscovery } from './extension-config.ts'
import { checkedName } from './header-edits.ts'
import { consume, refuseExtension } from './refusals.ts'
import { translateSecretReference } from './tls/secret-reference.ts'

const FILTERS = 'envoy.extensions.filters.http.'
const UPSTREAM_CODEC = `${FILTERS}upstream_codec.v3.UpstreamCodec`
const CREDENTIAL_INJECTOR = `${FILTERS}credential_injector.v3.CredentialInjector`
/** What of a cluster they are. */
export type UpstreamFilterParts = Pick<ClusterConfig, 'credential' | 'filters'>

const GENERIC = 'envoy.extensions.http.injected_credentials.generic.v3.Generic'

/**
 * `HttpProtocolOptions.http_filters`: what stands between the router and the connection. The codec must be the last; one
 * credential injector has a place of its own, before all filters; the others are filters that say they can stand there.
 */
export function translateUpstreamFilters(options: FieldReader, context: EnvoyContext): UpstreamFilterParts {
  let credential: CredentialConfig | undefined
  const filters: UpstreamFilterConfig[] = []
  const entries = options.messages('http_filters')
  entries.forEach((filter, i) => {
    filter.unread('refuse')
    const name = filter.string('name')
    const optional = filter.bool('is_optional')
    const disabled = filter.bool('disabled')
    if (filter.has('config_discovery')) {
      const delivered = translateDelivered(filter, name, context)
      // Nothing upstream can switch a filter on again.
      if (delivered !== undefined && !disabled) filters.push(delivered)
      return
    }
    const extension = filter.any('typed_config')
    if (extension === undefined) {
      if (!optional && !disabled) requireConfig(filter)
      return
    }
    const last = i === entries.length - 1
    if (extension.typeUrl === UPSTREAM_CODEC) readCodec(filter, extension, { disabled, last })
    else if (disabled) disregard(filter, extension)
    else if (extension.typeUrl === CREDENTIAL_INJECTOR) {
      if (credential !== undefined) filter.error(undefined, 'a second credential injector is not available')
      credential = translateInjector(extension.fields, context)
    } else if (context.filters.get(extension.typeUrl)?.upstream === true) {
      filters.push(translateFilter(name, extension, context))
    } else if (optional) disregard(filter, extension)
    else refuseExtension(filter, 'typed_config', extension, `upstream filter "${extension.typeUrl}" is not available`)
  })
  const codec = entries.at(-1)?.any('typed_config')?.typeUrl
  if (codec !== undefined && codec !== UPSTREAM_CODEC) {
    options.error('http_filters', 'the last upstream filter must be the codec (envoy.filters.http.upstream_codec)')
  }
  return { ...(credential && { credential }), ...(filters.length > 0 && { filters }) }
}

function translateFilter(name: string, extension: ExtensionReader, context: EnvoyContext): UpstreamFilterConfig {
  const parser = context.filters.get(extension.typeUrl) as FilterParser
  const config = parser.parse(extension.fields, configSources(context)) as Json
  return { name, typeUrl: parser.typeUrls[0], config }
}

/** A filter that is delivered by name (ECDS). */
function translateDelivered(
  filter: FieldReader,
  name: string,
  context: EnvoyContext,
): UpstreamFilterConfig | undefined {
  const types = filter.message('config_discovery')?.strings('type_urls') ?? []
  types.forEach((type, i) => {
    const typeUrl = type.slice(type.lastIndexOf('/') + 1)
    const parser = context.filters.get(typeUrl)
    if (parser === undefined || parser.upstream === true) return
    filter.error(`config_discovery.type_urls[${i}]`, `upstream filter "${typeUrl}" is not available`)
  })
  const delivered = translateDiscovery(filter, { name, place: 'http', last: false }, context)
  return delivered && { name, ...delivered }
}

/** An Any that could not be decoded has been reported already. */
function requireConfig(filter: FieldReader): void {
  if (filter.has('typed_config')) return
  filter.error('typed_config', `is required: nothing else says what the upstream filter "${filter.string('name')}" is`)
}

/** Nothing upstream can switch a filter on again. */
function disregard(filter: FieldReader, extension: ExtensionReader): void {
  consume(extension)
  filter.ignore('typed_config')
}

function readCodec(
  filter: FieldReader,
  extension: ExtensionReader,
  { disabled, last }: { readonly disabled: boolean; readonly last: boolean },
): void {
  consume(extension)
  if (disabled) filter.error('disabled', 'the codec cannot be disabled')
  if (!last) filter.error(undefined, 'the codec must be the last upstream filter')
}

/** `CredentialInjector` with a generic credential: the value of a header is a secret. */
function translateInjector(fields: FieldReader, context: EnvoyContext): CredentialConfig | undefined {
  fields.unread('refuse')
  const overwrite = fields.bool('overwrite')
  const required = !fields.bool('allow_request_without_credential')
  const at = fields.message('credential')
  at?.string('name')
  const extension = at?.any('typed_config')
  if (at === undefined || extension === undefined) return undefined
  if (extension.typeUrl !== GENERIC) {
    refuseExtension(at, 'typed_config', extension, `credential "${extension.typeUrl}" is not available`)
    return undefined
  }
  const generic = extension.fields
  generic.unread('refuse')
  const header = checkedName(generic, 'header', generic.string('header') || 'authorization')
  const prefix = generic.string('header_value_prefix')
  if (/[\0\r\n]/.test(prefix)) generic.error('header_value_prefix', 'must not contain NUL, CR or LF')
  const secret = translateSecretReference(generic.message('credential'), context, 'generic')
  if (secret === undefined) return undefined
  const common = { header, overwrite, ...(required && ({ required: true } as const)) }
  if (secret.kind === 'delivered') {
    return { ...common, value: '', secret: secret.key, ...(prefix !== '' && { prefix }) }
  }
  return { ...common, value: credentialValue(prefix, secret.secret.value) }
}

/**
 * What a header says whose value is a secret, base64; white space around it, as files end with, aside. '', which is none,
 * where that is empty or would end the header.
 */
export function credentialValue(prefix: string, secret: string): string {
  const text = Buffer.from(secret, 'base64').toString('latin1').trim()
  return text === '' || /[\0\r\n]/.test(text) ? '' : `${prefix}${text}`
}
