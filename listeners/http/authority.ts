import { isAuthority } from '../../lib/http1/tokens.ts'

/** What a request target and Host say together (RFC 9112 §3.2), or why they contradict each other. */
export type TargetOutcome =
  | { readonly kind: 'ok'; readonly authority: string; readonly path: string; readonly scheme: string | undefined }
  | { readonly kind: 'refuse'; readonly details: string }

const BAD_HOST: TargetOutcome = Object.freeze({ kind: 'refuse', details: 'http1.invalid_host' })
const BAD_TARGET: TargetOutcome = Object.freeze({ kind: 'refuse', details: 'http1.invalid_url' })

/** Targets other than origin-form: absolute-form, authority-form, asterisk-form. Ambiguity is refused. */
export function resolveTarget(
  method: string,
  target: string,
  host: string | undefined,
  allowAbsolute: boolean,
): TargetOutcome {
  if (method === 'CONNECT') {
    if (!isAuthority(target) || !target.includes(':')) return BAD_TARGET
    if (host !== undefined && host.toLowerCase() !== target.toLowerCase()) return BAD_HOST
    return { kind: 'ok', authority: target, path: '', scheme: undefined }
  }
  if (target === '*') {
    if (method !== 'OPTIONS') return BAD_TARGET
    return host === undefined || !isAuthority(host)
      ? BAD_HOST
      : { kind: 'ok', authority: host, path: '*', scheme: undefined }
  }
  const match = /^(https?):\/\/([^/?]*)(.*)$/i.exec(target)
  if (match === null || !allowAbsolute) return BAD_TARGET
  const authority = match[2]
  if (!isAuthority(authority)) return BAD_TARGET
  // The target wins over Host by RFC 9112 §3.2.2; where they differ, somebody is being deceived: refused.
  if (host !== undefined && host.toLowerCase() !== authority.toLowerCase()) return BAD_HOST
  const rest = match[3]
  const path = rest === '' ? '/' : rest.startsWith('?') ? `/${rest}` : rest
  return { kind: 'ok', authority, path, scheme: match[1].toLowerCase() }
}

/** `strip_matching_host_port`, `strip_any_host_port` and `strip_trailing_host_dot`. */
export function stripAuthority(
  authority: string,
  rules: { stripPort: 'none' | 'matching' | 'any'; stripTrailingHostDot: boolean },
  listenerPort: number,
): string {
  let host = authority
  let port = ''
  const colon = authority.lastIndexOf(':')
  if (colon > 0 && authority.indexOf(']', colon) < 0) {
    port = authority.slice(colon)
    host = authority.slice(0, colon)
  }
  if (rules.stripPort === 'any' || (rules.stripPort === 'matching' && port === `:${listenerPort}`)) port = ''
  if (rules.stripTrailingHostDot && host.endsWith('.')) host = host.slice(0, -1)
  return host + port
}
