import type { Headers } from '../../core/headers.ts'
import { readBinary } from './binary.ts'
import { emptyReport, type LoadReport, type MetricMap, setMetric } from './report.ts'

const HEADER = 'endpoint-load-metrics'
const BINARY_HEADER = 'endpoint-load-metrics-bin'
/** Of one report: what is beyond is not believed. */
const MAX_BYTES = 64 * 1024

/**
 * The report in a response's head or trailers: `endpoint-load-metrics` as `JSON {…}`, `TEXT name:value, …` or
 * `BIN <base64>`, or `endpoint-load-metrics-bin`. Undefined where there is none; 'malformed' where it is not to be understood.
 */
export function reportIn(fields: Headers): LoadReport | 'malformed' | undefined {
  const binary = fields.get(BINARY_HEADER)
  if (binary !== undefined) return inBase64(binary)
  const text = fields.get(HEADER)
  if (text === undefined) return undefined
  if (text.length > MAX_BYTES) return 'malformed'
  if (text.startsWith('JSON ')) return inJson(text.slice(5))
  if (text.startsWith('TEXT ')) return inText(text.slice(5))
  return text.startsWith('BIN ') ? inBase64(text.slice(4)) : 'malformed'
}

function inBase64(text: string): LoadReport | 'malformed' {
  const trimmed = text.trim()
  if (trimmed.length > MAX_BYTES || !/^[\w+/-]*={0,2}$/.test(trimmed)) return 'malformed'
  return readBinary(Buffer.from(trimmed, 'base64')) ?? 'malformed'
}

/** Scalars by their names in text and JSON. */
const SCALARS: Readonly<Record<string, Exclude<keyof LoadReport, MetricMap>>> = Object.freeze({
  cpu_utilization: 'cpuUtilization',
  cpuUtilization: 'cpuUtilization',
  mem_utilization: 'memUtilization',
  memUtilization: 'memUtilization',
  application_utilization: 'applicationUtilization',
  applicationUtilization: 'applicationUtilization',
  rps_fractional: 'rps',
  rpsFractional: 'rps',
  eps: 'eps',
})

const MAPS: Readonly<Record<string, MetricMap>> = Object.freeze({
  named_metrics: 'named',
  namedMetrics: 'named',
  utilization: 'utilization',
  request_cost: 'requestCost',
  requestCost: 'requestCost',
})

/** `name:value` or `name=value`, separated by commas; each name once. */
function inText(text: string): LoadReport | 'malformed' {
  const report = emptyReport()
  const seen = new Set<string>()
  for (const entry of text.split(',')) {
    const found = /^\s*([^:=\s]+)\s*[:=]\s*(\S+)\s*$/.exec(entry)
    if (found === null || seen.has(found[1])) return 'malformed'
    seen.add(found[1])
    const value = numberIn(found[2])
    if (value === undefined || !setByName(report, found[1], value)) return 'malformed'
  }
  return report
}

function setByName(report: LoadReport, name: string, value: number): boolean {
  if (Object.hasOwn(SCALARS, name)) {
    report[SCALARS[name]] = value
    return true
  }
  const dot = name.indexOf('.')
  const map = name.slice(0, Math.max(0, dot))
  if (!Object.hasOwn(MAPS, map) || dot === name.length - 1) return false
  return setMetric(report, MAPS[map], name.slice(dot + 1), value)
}

function numberIn(value: unknown): number | undefined {
  // JSON writes 64-bit integers as strings, and text has nothing else.
  const number =
    typeof value === 'string' && /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(value) ? Number(value) : value
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined
}

function inJson(text: string): LoadReport | 'malformed' {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    return 'malformed'
  }
  if (!isFields(parsed)) return 'malformed'
  const report = emptyReport()
  for (const [name, value] of Object.entries(parsed)) {
    if (value === null) continue
    if (Object.hasOwn(MAPS, name)) {
      if (!isFields(value) || !inMap(report, MAPS[name], value)) return 'malformed'
      continue
    }
    const number = numberIn(value)
    if (number === undefined) return 'malformed'
    if (Object.hasOwn(SCALARS, name)) report[SCALARS[name]] = number
    // The old, whole number of requests per second says nothing of weights, as in Envoy.
    else if (name !== 'rps') return 'malformed'
  }
  return report
}

function inMap(report: LoadReport, map: MetricMap, values: { readonly [name: string]: unknown }): boolean {
  for (const [name, value] of Object.entries(values)) {
    const number = numberIn(value)
    if (number === undefined || !setMetric(report, map, name, number)) return false
  }
  return true
}

function isFields(value: unknown): value is { readonly [name: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
