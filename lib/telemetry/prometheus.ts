import { setImmediate as nextTurn } from 'node:timers/promises'
import type { HistogramSnapshot, MetricsSnapshot } from './metrics.ts'
import type { StatSelection } from './stat-filter.ts'
import { extractTags } from './tags.ts'

/** Metrics handled between two turns of the event loop: about a millisecond of work. */
const SLICE = 1_000
const CHUNK_CHARS = 64 * 1024

type Kind = 'counter' | 'gauge' | 'histogram'

/** What a dotted name becomes; rendered once and kept. */
interface Rendered {
  readonly metric: string
  /** `{a="1",b="2"}`, without the braces. */
  readonly labels: string
}

/** All series of one metric: Prometheus wants them together, under one TYPE line. */
interface Family {
  readonly metric: string
  readonly kind: Kind
  readonly series: { readonly labels: string; readonly value: number | HistogramSnapshot }[]
}

/**
 * Renders metrics as Prometheus text (exposition format 0.0.4) with the names and labels of Envoy's
 * `/stats/prometheus`. Keep one: it caches the rendered names, and remembers which gauges were ever used.
 */
export class PrometheusRenderer {
  readonly #rendered = new Map<string, Rendered>()
  readonly #usedGauges = new Set<string>()

  /**
   * Yields pieces of about 64 KiB; between slices the event loop turns, so that a scrape of any size blocks nobody.
   * Families are sorted by name within their kind.
   */
  async *render(snapshot: MetricsSnapshot, selection: StatSelection = {}): AsyncGenerator<string, void, void> {
    this.#prune(snapshot)
    const families = await this.#collect(snapshot, selection)
    let out = ''
    let sinceTurn = 0
    for (const family of families) {
      out += `# TYPE ${family.metric} ${family.kind}\n`
      for (const { labels, value } of family.series) {
        if (typeof value === 'number') {
          out += `${family.metric}{${labels}} ${value}\n`
          sinceTurn += 1
        } else {
          out += histogramText(family.metric, labels, value)
          sinceTurn += 20
        }
        if (out.length >= CHUNK_CHARS) {
          yield out
          out = ''
        }
        if (sinceTurn >= SLICE) {
          sinceTurn = 0
          await nextTurn()
        }
      }
    }
    if (out !== '') yield out
  }

  async #collect(snapshot: MetricsSnapshot, selection: StatSelection): Promise<Family[]> {
    const { usedOnly = false, filter } = selection
    const families = new Map<string, Family>()
    let sinceTurn = 0
    const add = (kind: Kind, name: string, value: number | HistogramSnapshot): void => {
      const { metric, labels } = this.#render(name)
      // The same sanitised name may stand for a counter here and a gauge there: two families, as in Envoy.
      const key = `${kind} ${metric}`
      const family = families.get(key)
      if (family === undefined) families.set(key, { metric, kind, series: [{ labels, value }] })
      else family.series.push({ labels, value })
    }
    for (const [name, value] of snapshot.counters) {
      if (++sinceTurn % SLICE === 0) await nextTurn()
      if (!((usedOnly && value === 0) || filter?.(name) === false)) add('counter', name, value)
    }
    for (const [name, value] of snapshot.gauges) {
      if (++sinceTurn % SLICE === 0) await nextTurn()
      if (value !== 0) this.#usedGauges.add(name)
      if (!((usedOnly && !this.#usedGauges.has(name)) || filter?.(name) === false)) add('gauge', name, value)
    }
    for (const histogram of snapshot.histograms) {
      if (++sinceTurn % SLICE === 0) await nextTurn()
      if ((usedOnly && histogram.count === 0) || filter?.(histogram.name) === false) continue
      add('histogram', histogram.name, histogram)
    }
    return [...families.values()].sort(byKindAndName)
  }

  #render(name: string): Rendered {
    let rendered = this.#rendered.get(name)
    if (rendered === undefined) {
      const tagged = extractTags(name)
      rendered = { metric: `envoy_${sanitise(tagged.name)}`, labels: tagged.tags.map(labelText).join(',') }
      this.#rendered.set(name, rendered)
    }
    return rendered
  }

  /** Names of retired clusters would stay for ever: begin anew once they outnumber the living. */
  #prune(snapshot: MetricsSnapshot): void {
    const living = snapshot.counters.length + snapshot.gauges.length + snapshot.histograms.length
    if (this.#rendered.size > 2 * living + SLICE) this.#rendered.clear()
    if (this.#usedGauges.size > 2 * snapshot.gauges.length + SLICE) this.#usedGauges.clear()
  }
}

const KINDS: readonly Kind[] = Object.freeze(['counter', 'gauge', 'histogram'])

function byKindAndName(a: Family, b: Family): number {
  if (a.kind !== b.kind) return KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind)
  return a.metric < b.metric ? -1 : a.metric > b.metric ? 1 : 0
}

function histogramText(metric: string, labels: string, h: HistogramSnapshot): string {
  const before = labels === '' ? '' : `${labels},`
  let out = ''
  for (let i = 0; i < h.bounds.length; i++) {
    out += `${metric}_bucket{${before}le="${h.bounds[i]}"} ${h.cumulative[i]}\n`
  }
  out += `${metric}_bucket{${before}le="+Inf"} ${h.count}\n`
  return `${out}${metric}_sum{${labels}} ${h.sum}\n${metric}_count{${labels}} ${h.count}\n`
}

/** Whatever Prometheus does not allow in a name becomes `_`. The `envoy_` in front makes a leading digit harmless. */
function sanitise(name: string): string {
  return name.replace(/[^a-zA-Z0-9_]/g, '_')
}

function labelText([tag, value]: readonly [string, string]): string {
  const escaped = value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
  return `${sanitise(tag)}="${escaped}"`
}
