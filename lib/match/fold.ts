const NOT_ASCII = /[^\x00-\x7f]/
const UPPER = /[A-Z]/g

/**
 * Lower-cases the letters A to Z and nothing else, as Envoy's `ignore_case` does (bytes, not languages). The Kelvin sign
 * and the long s become k and s, because RE2's `(?i)` takes them for these letters; neither can arrive in a header.
 */
export function foldAscii(text: string): string {
  // The engine's own toLowerCase answers the same string where nothing changes, and is right for ASCII.
  if (!NOT_ASCII.test(text)) return text.toLowerCase()
  return text.replace(UPPER, lower).replaceAll('\u212a', 'k').replaceAll('\u017f', 's')
}

function lower(letter: string): string {
  return String.fromCharCode(letter.charCodeAt(0) | 32)
}
