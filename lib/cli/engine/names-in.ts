/** So much of a configuration is looked through before others get their turn. */
const PIECE = 500

/** Which of these names a configuration holds, as the whole of a text anywhere within; pauses every now and then. */
export function* namesIn(config: unknown, names: ReadonlySet<string>): Generator<undefined, Set<string>> {
  const found = new Set<string>()
  if (names.size === 0) return found
  const stack: unknown[] = [config]
  for (let n = 1; stack.length > 0; n++) {
    const value = stack.pop()
    if (typeof value === 'string') {
      if (names.has(value)) found.add(value)
    } else if (typeof value === 'object' && value !== null) {
      for (const part of Object.values(value)) stack.push(part)
    }
    if (n % PIECE === 0) yield
  }
  return found
}
