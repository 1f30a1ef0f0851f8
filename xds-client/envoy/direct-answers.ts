import { isUtf8 } from 'node:buffer'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { DirectResponseConfig, RedirectConfig } from '../../lib/router/config.ts'
import { readDataSource } from './data-source.ts'
import { translateFormat } from './format.ts'
import { translateRegexRewrite } from './regex.ts'
import type { RouteScope } from './route-scope.ts'

const REDIRECT_STATUS: Readonly<Record<string, RedirectConfig['status']>> = {
  MOVED_PERMANENTLY: 301,
  FOUND: 302,
  SEE_OTHER: 303,
  TEMPORARY_REDIRECT: 307,
  PERMANENT_REDIRECT: 308,
}

/** `config.route.v3.RedirectAction` */
export function translateRedirect(reader: FieldReader): RedirectConfig {
  reader.unread('refuse')
  reader.refuse('path_rewrite', 'is not available in redirects')
  const scheme = reader.string('scheme_redirect')
  const https = reader.bool('https_redirect')
  const host = reader.string('host_redirect')
  const port = reader.number('port_redirect') ?? 0
  const path = reader.string('path_redirect')
  const prefixRewrite = reader.string('prefix_rewrite')
  const regex = reader.message('regex_rewrite')
  if (port > 65535) reader.error('port_redirect', `${port} is not a port`)
  return {
    kind: 'redirect',
    ...(scheme !== '' && { scheme: scheme.toLowerCase() }),
    ...(https && { https }),
    ...(host !== '' && { host }),
    ...(port !== 0 && { port }),
    ...(path !== '' && { path }),
    ...(prefixRewrite !== '' && { prefixRewrite }),
    ...(regex && { regexRewrite: translateRegexRewrite(regex) }),
    status: REDIRECT_STATUS[reader.enumName('response_code')] ?? 301,
    stripQuery: reader.bool('strip_query'),
  }
}

/** `config.route.v3.DirectResponseAction`; the body is limited by the route table. */
export function translateDirectResponse(reader: FieldReader, scope: RouteScope): DirectResponseConfig {
  reader.unread('refuse')
  const body = readDataSource(reader.message('body'), scope.context)
  if (body !== undefined && body.length > scope.maxDirectResponseBodyBytes) {
    reader.error('body', `is ${body.length} bytes long, the limit is ${scope.maxDirectResponseBodyBytes}`)
  }
  const bodyFormat = translateFormat(reader.message('body_format'), scope.context)
  return {
    kind: 'direct',
    status: reader.number('status') ?? 0,
    ...(body && (isUtf8(body) ? { body: body.toString('utf8') } : { bodyBase64: body.toString('base64') })),
    ...(bodyFormat && { bodyFormat }),
  }
}
