import type { HttpStream } from '../chain/filter.ts'
import type { CompileFormat } from '../telemetry/header-edits.ts'
import type { RedirectConfig, RouteMatchConfig } from './config.ts'
import { compilePathRewrite, type PathRewrite } from './rewrite.ts'

/** The Location of a redirect. */
export type Location = (stream: HttpStream) => string

/**
 * Compiles Envoy's RedirectAction. What is not set stays as the request has it. An explicit `:443` or `:80` goes where
 * the scheme it belongs to changes, and any port where a new one is set. A query in `path` replaces the request's.
 *
 * @throws Error for a bad regex or substitution.
 */
export function compileRedirect(
  config: RedirectConfig,
  match: RouteMatchConfig,
  compileFormat: CompileFormat,
): Location {
  const newScheme = config.scheme ?? (config.https === true ? 'https' : undefined)
  const newPort = config.port === undefined ? '' : `:${config.port}`
  const { host } = config
  const path = compilePath(config, match, compileFormat)
  return (stream) => {
    const scheme = newScheme ?? stream.head.scheme
    const authority = host ?? withoutPort(stream, scheme, newPort !== '')
    return `${scheme}://${authority}${newPort}${path(stream)}`
  }
}

/** Compiles the redirect of a virtual host that requires TLS: the same URL, by https. */
export function httpsLocation(stream: HttpStream): string {
  return `https://${stream.head.authority}${stream.head.path}`
}

/** What the client spoke to the first proxy, as far as it is known. */
export function forwardedScheme(request: { get(name: string): string | undefined }, scheme: string): string {
  return request.get('x-forwarded-proto') ?? scheme
}

function withoutPort(stream: HttpStream, scheme: string, always: boolean): string {
  const { authority } = stream.head
  const at = portStart(authority)
  if (at < 0 || always) return at < 0 ? authority : authority.slice(0, at)
  const before = forwardedScheme(stream.request, stream.head.scheme)
  if (scheme === before) return authority
  const port = authority.slice(at)
  const redundant = (before === 'https' && port === ':443') || (before === 'http' && port === ':80')
  return redundant ? authority.slice(0, at) : authority
}

/** Index of the colon before the port of an authority, or -1; the colons of an IPv6 address are not it. */
export function portStart(authority: string): number {
  const colon = authority.lastIndexOf(':')
  return colon > authority.lastIndexOf(']') ? colon : -1
}

function compilePath(config: RedirectConfig, match: RouteMatchConfig, compileFormat: CompileFormat): PathRewrite {
  const { path, stripQuery } = config
  if (path !== undefined && path !== '') {
    if (path.includes('?') || stripQuery) return () => path
    return (stream) => {
      const query = stream.head.path.indexOf('?')
      return query < 0 ? path : path + stream.head.path.slice(query)
    }
  }
  const rewrite = compileRewrite(config, match, compileFormat)
  if (!stripQuery) return rewrite
  return (stream) => {
    const whole = rewrite(stream)
    const query = whole.indexOf('?')
    return query < 0 ? whole : whole.slice(0, query)
  }
}

function compileRewrite(config: RedirectConfig, match: RouteMatchConfig, compileFormat: CompileFormat): PathRewrite {
  if (config.prefixRewrite !== undefined) {
    return compilePathRewrite({ kind: 'prefix', value: config.prefixRewrite }, match.path, compileFormat)
  }
  if (config.regexRewrite !== undefined) {
    return compilePathRewrite({ kind: 'regex', rewrite: config.regexRewrite }, match.path, compileFormat)
  }
  return (stream) => stream.head.path
}
