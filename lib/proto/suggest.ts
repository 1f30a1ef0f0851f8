/**
 * The candidate that a mistyped name most likely means, or undefined where none is close: at most two edits, and at
 * most one for each three letters. Case and underscores are free.
 */
export function suggest(word: string, candidates: Iterable<string>): string | undefined {
  const wanted = plain(word)
  let best: string | undefined
  let bestDistance = Math.min(2, Math.floor(wanted.length / 3)) + 1
  for (const candidate of candidates) {
    const name = plain(candidate)
    if (Math.abs(name.length - wanted.length) >= bestDistance) continue
    const distance = editDistance(wanted, name)
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** `, did you mean "x"?`, or nothing. */
export function didYouMean(word: string, candidates: Iterable<string>): string {
  const close = suggest(word, candidates)
  return close === undefined ? '' : `, did you mean "${close}"?`
}

function plain(name: string): string {
  return name.slice(0, 80).replaceAll('_', '').toLowerCase()
}

/** Levenshtein distance where swapping two neighbours counts as one edit, since that is what typists do. */
function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = []
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      let edits = Math.min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + cost)
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      if (swapped) edits = Math.min(edits, beforePrevious[j - 2] + 1)
      row.push(edits)
    }
    beforePrevious = previous
    previous = row
  }
  return previous[b.length]
}
