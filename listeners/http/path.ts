import { HEX } from '../../lib/http1/tokens.ts'

/** What a connection manager's path settings make of a request path. */
export type PathOutcome =
  | { readonly kind: 'ok'; readonly path: string }
  | { readonly kind: 'redirect'; readonly path: string }
  | { readonly kind: 'refuse'; readonly details: string }

export interface PathRules {
  readonly normalizePath: boolean
  readonly mergeSlashes: boolean
  readonly escapedSlashes: 'keep' | 'reject' | 'redirect' | 'forward'
}

/**
 * Applies `path_with_escaped_slashes_action`, `normalize_path` and `merge_slashes`, in Envoy's order. The query is not
 * touched. What is answered is what is matched and what is forwarded.
 */
export function applyPathRules(target: string, rules: PathRules): PathOutcome {
  const query = target.indexOf('?')
  let path = query < 0 ? target : target.slice(0, query)
  const rest = query < 0 ? '' : target.slice(query)
  let redirect = false
  if (rules.escapedSlashes !== 'keep' && hasEscapedSlash(path)) {
    if (rules.escapedSlashes === 'reject') return { kind: 'refuse', details: 'path_normalization_failed' }
    path = path.replace(/%2f/gi, '/').replace(/%5c/gi, '\\')
    redirect = rules.escapedSlashes === 'redirect'
  }
  if (rules.normalizePath && needsNormalizing(path)) {
    const normal = normalizePath(path)
    if (normal === undefined) return { kind: 'refuse', details: 'path_normalization_failed' }
    path = normal
  }
  if (rules.mergeSlashes && path.includes('//')) path = path.replace(/\/{2,}/g, '/')
  return { kind: redirect ? 'redirect' : 'ok', path: path + rest }
}

function hasEscapedSlash(path: string): boolean {
  return path.includes('%') && /%(?:2f|5c)/i.test(path)
}

/** 1: percent and backslash; 2: a dot, which matters behind a slash; 3: what is not allowed bare in a path (RFC 3986). */
const KIND: Uint8Array = kinds()

function kinds(): Uint8Array {
  const table = new Uint8Array(256)
  for (const c of '%\\') table[c.charCodeAt(0)] = 1
  table[46] = 2
  for (const c of '"<>^`{|}') table[c.charCodeAt(0)] = 3
  return table
}

/** Most paths need nothing: no percent, no backslash, no dot segment, nothing to escape. */
export function needsNormalizing(path: string): boolean {
  for (let i = 0; i < path.length; i++) {
    const kind = KIND[path.charCodeAt(i)]
    if (kind !== 0 && kind !== undefined && (kind !== 2 || path.charCodeAt(i - 1) === 47)) return true
  }
  return false
}

/**
 * RFC 3986 §6.2.2 as browsers and Envoy do it: backslashes are slashes, unreserved characters are decoded, those that
 * may not stand bare are escaped, dot segments are removed: escaped ones too, and those with parameters (`..;x`), which
 * some servers behind take for dot segments. Undefined where an escape is malformed or the path climbs above the root,
 * or holds an encoded NUL.
 */
export function normalizePath(path: string): string | undefined {
  if (path.charCodeAt(0) !== 47) return undefined
  const decoded = canonicalEscapes(path)
  if (decoded === undefined) return undefined
  const slashed = decoded.replaceAll('\\', '/')
  if (!slashed.includes('/.')) return slashed
  const out: string[] = []
  const segments = slashed.split('/')
  for (let i = 1; i < segments.length; i++) {
    const segment = withoutParameters(segments[i])
    const last = i === segments.length - 1
    if (segment === '.') {
      if (last) out.push('')
    } else if (segment === '..') {
      if (out.length === 0) return undefined
      out.pop()
      if (last) out.push('')
    } else out.push(segments[i])
  }
  return `/${out.join('/')}`
}

/** A segment as a dot segment would be seen: `..;x` is `..`; others are answered in part. */
function withoutParameters(segment: string): string {
  if (segment.charCodeAt(0) !== 46) return segment
  const semicolon = segment.indexOf(';')
  return semicolon < 0 ? segment : segment.slice(0, semicolon)
}

function canonicalEscapes(path: string): string | undefined {
  let out = ''
  for (let i = 0; i < path.length; i++) {
    const c = path.charCodeAt(i)
    if (c !== 37) {
      out += KIND[c] === 3 ? `%${c.toString(16).toUpperCase()}` : path[i]
      continue
    }
    const high = HEX[path.charCodeAt(i + 1)]
    const low = HEX[path.charCodeAt(i + 2)]
    if (!(high < 16) || !(low < 16)) return undefined
    const code = high * 16 + low
    if (code === 0) return undefined
    out += isUnreserved(code) ? String.fromCharCode(code) : path.slice(i, i + 3)
    i += 2
  }
  return out
}

function isUnreserved(c: number): boolean {
  return (
    (c >= 97 && c <= 122) ||
    (c >= 65 && c <= 90) ||
    (c >= 48 && c <= 57) ||
    c === 45 ||
    c === 46 ||
    c === 95 ||
    c === 126
  )
}
