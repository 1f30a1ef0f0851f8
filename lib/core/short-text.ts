/** A regular expression costs more to begin than a text up to this length costs to walk. */
const SHORT = 64

/** True where the text is short and each of its characters is one of `low` to `high`; false says nothing of long ones. */
export function isShortWithin(text: string, low: number, high: number): boolean {
  if (text.length > SHORT) return false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < low || code > high) return false
  }
  return true
}
