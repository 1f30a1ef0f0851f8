import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Observation } from './observe.ts'

/** The lines of an access log once `count` are there, or what has come when nothing more comes. */
export async function readLog(path: string, count: number): Promise<string[]> {
  const until = Date.now() + 3_000
  for (;;) {
    const text = readOptional(path)
    const lines = text.split('\n').slice(0, -1)
    if (lines.length >= count || Date.now() > until) return lines
    await sleep(25)
  }
}

/** Fields of a JSON line, or the words of a text line, as places to compare. */
export function noteLine(line: string): Observation {
  const seen: Observation = new Map()
  if (!line.startsWith('{')) {
    for (const [index, part] of line.split('|').entries()) seen.set(`log ${index}`, stable(part))
    return seen
  }
  for (const [name, value] of Object.entries(JSON.parse(line) as object)) {
    seen.set(`log ${name}`, stable(JSON.stringify(sorted(value))))
  }
  return seen
}

/** Objects have no order; Envoy sorts their keys. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  )
}

function readOptional(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** Times, ports and random numbers differ from run to run: what is compared is their form. */
function stable(text: string): string {
  return text
    .replace(/( \d+ \d+) \d+ (\d+|-) "/, '$1 <ms> <ms> "')
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z/g, '<time>')
    .replace(/(127\.0\.0\.\d+):(\d{4,5})/g, '$1:<port>')
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, '<uuid>')
}
