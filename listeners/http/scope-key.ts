import type { Exchange } from '../../lib/chain/exchange.ts'
import type { ScopeFragmentConfig } from '../../lib/config/listener.ts'
import { compileHeaderValue } from '../../lib/match/header.ts'

/** The key of the scope that a request belongs to; undefined: of none. */
export type ScopeKey = (exchange: Pick<Exchange, 'request' | 'head'>) => string | undefined

/** What the keys of two scopes are equal by. */
export function scopeKey(fragments: readonly string[]): string {
  // Lengths in front, so that no two keys can pass for each other.
  return fragments.map((fragment) => `${fragment.length}:${fragment}`).join('')
}

/** Envoy's `ScopeKeyBuilder`: every fragment must be there, and may be empty. */
export function compileScopeKey(fragments: readonly ScopeFragmentConfig[]): ScopeKey {
  const readers = fragments.map(compileFragment)
  return (exchange) => {
    let key = ''
    for (const read of readers) {
      const fragment = read(exchange)
      if (fragment === undefined) return undefined
      key += `${fragment.length}:${fragment}`
    }
    return key
  }
}

function compileFragment({ header, elementSeparator, element }: ScopeFragmentConfig): ScopeKey {
  const first = firstValue(header)
  const elementsOf = (value: string): string[] => (elementSeparator === '' ? [value] : value.split(elementSeparator))
  if (element.kind === 'index') {
    return (exchange) => {
      const value = first(exchange)
      return value === undefined ? undefined : elementsOf(value)[element.index]
    }
  }
  const { key, separator } = element
  return (exchange) => {
    const value = first(exchange)
    if (value === undefined) return undefined
    for (const text of elementsOf(value)) {
      const at = separator === '' ? -1 : text.indexOf(separator)
      if ((at < 0 ? text : text.slice(0, at)) === key) return at < 0 ? '' : text.slice(at + separator.length)
    }
    return undefined
  }
}

/** Anybody may send the header: of several the first alone counts, as in Envoy. */
function firstValue(header: string): ScopeKey {
  const name = header.toLowerCase()
  if (name.startsWith(':') || name === 'host') {
    const read = compileHeaderValue(name)
    return ({ request, head }) => read(request, head)
  }
  return ({ request }) => {
    const { raw } = request
    for (let i = 0; i < raw.length; i += 2) if (raw[i] === name) return raw[i + 1]
    return undefined
  }
}
