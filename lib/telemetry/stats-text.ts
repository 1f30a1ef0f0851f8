import { setImmediate as nextTurn } from 'node:timers/promises'
import type { JsonObject } from '../core/errors.ts'
import type { HistogramSnapshot, MetricsSnapshot } from './metrics.ts'
import { PERCENTILES, percentile } from './percentiles.ts'
import type { StatSelection } from './stat-filter.ts'

const SLICE = 2_000

/**
 * Envoy's `/stats`: `name: value` per line, texts first, counters and gauges together by name, then histograms as
 * `P50(interval,cumulative)`. No interval is kept here, so its place reads `nan`, as Envoy's does for an idle interval.
 */
export async function* renderStatsText(
  snapshot: MetricsSnapshot,
  selection: StatSelection = {},
): AsyncGenerator<string, void, void> {
  let out = ''
  let sinceTurn = 0
  for (const [name, value] of selectedTexts(snapshot, selection)) out += `${name}: ${JSON.stringify(value)}\n`
  for (const [name, value] of selectedValues(snapshot, selection)) {
    out += `${name}: ${value}\n`
    if (++sinceTurn % SLICE === 0) {
      yield out
      out = ''
      await nextTurn()
    }
  }
  for (const histogram of selectedHistograms(snapshot, selection)) {
    out += `${histogram.name}: ${summary(histogram)}\n`
    if (++sinceTurn % SLICE === 0) {
      yield out
      out = ''
      await nextTurn()
    }
  }
  if (out !== '') yield out
}

/** Envoy's `/stats?format=json`: a list of name and value, histograms as one last entry with computed quantiles. */
export function renderStatsJson(snapshot: MetricsSnapshot, selection: StatSelection = {}): JsonObject {
  const all = [...selectedTexts(snapshot, selection), ...selectedValues(snapshot, selection)]
  const stats: JsonObject[] = all.map(([name, value]) => ({ name, value }))
  const histograms = selectedHistograms(snapshot, selection)
  if (histograms.length > 0) {
    stats.push({
      histograms: {
        supported_quantiles: [...PERCENTILES],
        computed_quantiles: histograms.map((h) => ({
          name: h.name,
          values: PERCENTILES.map((p) => ({ interval: null, cumulative: percentile(h, p) ?? null })),
        })),
      },
    })
  }
  return { stats }
}

function summary(histogram: HistogramSnapshot): string {
  if (histogram.count === 0) return 'No recorded values'
  return PERCENTILES.map((p) => `P${p}(nan,${rounded(percentile(histogram, p) ?? 0)})`).join(' ')
}

/** Six significant digits, as C++ prints a double. */
function rounded(value: number): number {
  return Number(value.toPrecision(6))
}

/** Texts that nobody has said are unused. */
function selectedTexts(snapshot: MetricsSnapshot, selection: StatSelection): (readonly [string, string])[] {
  const { usedOnly = false, filter } = selection
  const texts = (snapshot.texts ?? []).filter(
    ([name, text]) => !((usedOnly && text === '') || filter?.(name) === false),
  )
  return texts.sort((a, b) => compare(a[0], b[0]))
}

function selectedValues(snapshot: MetricsSnapshot, selection: StatSelection): (readonly [string, number])[] {
  const { usedOnly = false, filter } = selection
  const values: (readonly [string, number])[] = []
  for (const list of [snapshot.counters, snapshot.gauges]) {
    for (const entry of list) {
      if (!((usedOnly && entry[1] === 0) || filter?.(entry[0]) === false)) values.push(entry)
    }
  }
  return values.sort((a, b) => compare(a[0], b[0]))
}

function selectedHistograms(snapshot: MetricsSnapshot, selection: StatSelection): HistogramSnapshot[] {
  const { usedOnly = false, filter } = selection
  return snapshot.histograms
    .filter((h) => !((usedOnly && h.count === 0) || filter?.(h.name) === false))
    .sort((a, b) => compare(a.name, b.name))
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
