import type {
  Capabilities,
  Exception,
  ExtensionCapabilities,
  FieldVerdict,
  MessageCapabilities,
} from '../../../lib/cli/capabilities/table.ts'
import type { ExtensionRecord, FieldVerdict as Found, MessageRecord, Prober, Verdict } from './prober.ts'

/** The table of what was found. */
export function makeTable(prober: Prober, roots: readonly string[], points: readonly string[]): Capabilities {
  const byType = Map.groupBy(prober.messages, ({ type }) => type)
  const messages = [...byType.keys()].sort().map((type) => [type, messageOf(byType.get(type) ?? [])] as const)
  const extensions = points.map((point) => {
    const records = prober.extensions.filter((one) => one.point === point)
    const types = Map.groupBy(records, ({ type }) => type)
    return [point, Object.fromEntries([...types].map(([type, found]) => [type, extensionOf(found)]))] as const
  })
  return {
    roots: [...roots].sort(),
    extensions: Object.fromEntries(extensions),
    messages: Object.fromEntries(messages),
  }
}

/** What holds in most places, and what is otherwise where. */
function messageOf(records: readonly MessageRecord[]): MessageCapabilities {
  const variants = Map.groupBy(records, ({ fields }) =>
    JSON.stringify([...fields].map(([name, field]) => [name, fieldOf(field)])),
  )
  const sorted = [...variants.entries()].sort(([, a], [, b]) => b.length - a.length)
  const [most, ...others] = sorted.map(([key, places]) => ({
    fields: Object.fromEntries(JSON.parse(key) as [string, FieldVerdict][]),
    in: [...new Set(places.map((place) => placeOf(place, records, places)))].sort(),
  }))
  const except: Exception[] = others.map((one) => ({ in: one.in, fields: difference(one.fields, most.fields) }))
  return except.length === 0 ? { fields: most.fields } : { fields: most.fields, except }
}

/** By its edge alone where that says it, or else with the resource or extension that it is in. */
function placeOf(
  { edge, root, type }: MessageRecord,
  all: readonly MessageRecord[],
  alike: readonly MessageRecord[],
): string {
  if (edge === '') return type
  const elsewhere = all.some((other) => other.edge === edge && !alike.includes(other))
  return elsewhere ? `${edge} within ${root}` : edge
}

function difference(
  fields: Record<string, FieldVerdict>,
  from: Record<string, FieldVerdict>,
): Record<string, FieldVerdict> {
  const entries = Object.entries(fields)
  return Object.fromEntries(entries.filter(([name, field]) => JSON.stringify(field) !== JSON.stringify(from[name])))
}

/** Accepted where it is anywhere, reported next: what is otherwise where comes beside it. */
function extensionOf(all: readonly ExtensionRecord[]): ExtensionCapabilities {
  // What could only stand in something that is not accepted has one verdict: that of where it stands.
  const accepted = all.filter(({ shadow }) => !shadow)
  const records = accepted.length > 0 ? accepted : [all.find(({ verdict }) => verdict === 'ignored') ?? all[0]]
  const verdicts = records.map(({ verdict }) => encode(verdict))
  const verdict = verdicts.find((one) => one === '+') ?? verdicts.find((one) => one === '-') ?? verdicts[0]
  const except = records.flatMap((one) => {
    const own = encode(one.verdict)
    return own === verdict ? [] : [[one.edge, own] as const]
  })
  return except.length === 0 ? { verdict } : { verdict, except: Object.fromEntries(except) }
}

function fieldOf({ verdict, values }: Found): FieldVerdict {
  if (values === undefined) return encode(verdict)
  return [encode(verdict), Object.fromEntries(Object.entries(values).map(([name, one]) => [name, encode(one)]))]
}

function encode(verdict: Verdict): string {
  if (verdict === 'accepted') return '+'
  return verdict === 'ignored' ? '-' : verdict.refused
}
