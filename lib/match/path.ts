import { foldAscii } from './fold.ts'
import { compileRegex } from './regex.ts'
import { templateToRegex } from './template.ts'

/** How a path is matched; the router's `PathMatchConfig` is one. */
export type PathPattern =
  | {
      readonly kind: 'prefix' | 'exact' | 'path-separated-prefix'
      readonly value: string
      readonly caseSensitive: boolean
    }
  | { readonly kind: 'regex'; readonly value: string }
  | { readonly kind: 'template'; readonly value: string }
  | { readonly kind: 'connect' }

/** Index of the `?` or `#` that ends the path proper, the length of the whole where there is none. */
export function pathEnd(path: string): number {
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i)
    if (code === 0x3f || code === 0x23) return i
  }
  return path.length
}

/** The path without query and fragment: what path matchers see. */
export function barePath(path: string): string {
  const end = pathEnd(path)
  return end === path.length ? path : path.slice(0, end)
}

/**
 * Compiles one path matcher; the function takes a path that `barePath` has cut. `connect` asks about the method, so no
 * path matches it.
 *
 * @throws Error for a bad regex or template.
 */
export function compilePath(pattern: PathPattern): (path: string) => boolean {
  switch (pattern.kind) {
    case 'connect':
      return () => false
    case 'regex':
      return compileRegex(pattern.value).matches
    case 'template':
      return compileRegex(templateToRegex(pattern.value)).matches
    default: {
      const test = comparison(pattern.kind, pattern.caseSensitive ? pattern.value : foldAscii(pattern.value))
      return pattern.caseSensitive ? test : (path) => test(foldAscii(path))
    }
  }
}

function comparison(kind: 'prefix' | 'exact' | 'path-separated-prefix', value: string): (path: string) => boolean {
  switch (kind) {
    case 'prefix':
      return (path) => path.startsWith(value)
    case 'exact':
      return (path) => path === value
    case 'path-separated-prefix':
      return (path) => path.startsWith(value) && (path.length === value.length || path[value.length] === '/')
  }
}
