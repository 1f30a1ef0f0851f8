import { emptyReport, type LoadReport, type MetricMap, setMetric } from './report.ts'

/** Fields of `OrcaLoadReport` that are doubles. */
const DOUBLES: Readonly<Record<number, Exclude<keyof LoadReport, MetricMap>>> = Object.freeze({
  1: 'cpuUtilization',
  2: 'memUtilization',
  6: 'rps',
  7: 'eps',
  9: 'applicationUtilization',
})

/** Fields that are `map<string, double>`. */
const MAPS: Readonly<Record<number, MetricMap>> = Object.freeze({ 4: 'requestCost', 5: 'utilization', 8: 'named' })

/** A place in bytes that are read from first to last. */
interface Cursor {
  readonly bytes: Buffer
  at: number
  readonly end: number
}

/** `OrcaLoadReport` in protobuf; undefined where it is none, or has a number that is none. Unknown fields are skipped. */
export function readBinary(bytes: Buffer): LoadReport | undefined {
  const report = emptyReport()
  const cursor: Cursor = { bytes, at: 0, end: bytes.length }
  while (cursor.at < cursor.end) {
    const tag = varint(cursor)
    if (tag < 8) return undefined
    const field = Math.floor(tag / 8)
    const scalar = DOUBLES[field]
    const map = MAPS[field]
    if (scalar !== undefined && tag % 8 === 1) {
      const value = double(cursor)
      if (value === undefined) return undefined
      report[scalar] = value
    } else if (map !== undefined && tag % 8 === 2) {
      if (!readEntry(cursor, report, map)) return undefined
    } else if (!skip(cursor, tag % 8)) return undefined
  }
  return report
}

function readEntry(cursor: Cursor, report: LoadReport, map: MetricMap): boolean {
  const length = varint(cursor)
  const end = cursor.at + length
  if (length < 0 || end > cursor.end) return false
  const entry: Cursor = { bytes: cursor.bytes, at: cursor.at, end }
  cursor.at = end
  let name = ''
  let value: number | undefined = 0
  while (entry.at < end) {
    const tag = varint(entry)
    if (tag === 0x0a) {
      const size = varint(entry)
      if (size < 0 || entry.at + size > end) return false
      name = entry.bytes.toString('utf8', entry.at, entry.at + size)
      entry.at += size
    } else if (tag === 0x11) {
      value = double(entry)
      if (value === undefined) return false
    } else if (tag < 8 || !skip(entry, tag % 8)) return false
  }
  return setMetric(report, map, name, value)
}

/** -1 where it does not end, or is too large to be exact. */
function varint(cursor: Cursor): number {
  let value = 0
  for (let factor = 1; cursor.at < cursor.end; factor *= 128) {
    const byte = cursor.bytes[cursor.at++]
    value += (byte & 0x7f) * factor
    if (byte < 0x80) return value <= Number.MAX_SAFE_INTEGER ? value : -1
    if (factor > 2 ** 63) return -1
  }
  return -1
}

function double(cursor: Cursor): number | undefined {
  if (cursor.at + 8 > cursor.end) return undefined
  const value = cursor.bytes.readDoubleLE(cursor.at)
  cursor.at += 8
  return Number.isFinite(value) ? value : undefined
}

function skip(cursor: Cursor, wire: number): boolean {
  if (wire === 0) {
    // Its value may be as large as it likes.
    while (cursor.at < cursor.end) if (cursor.bytes[cursor.at++] < 0x80) return true
    return false
  }
  const length = wire === 1 ? 8 : wire === 5 ? 4 : wire === 2 ? varint(cursor) : -1
  if (length < 0 || cursor.at + length > cursor.end) return false
  cursor.at += length
  return true
}
