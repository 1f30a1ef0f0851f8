/**
 * Results as Markdown. `node benchmarks/report.ts FILE.json` prints a file that `run.ts --json` has written.
 */
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

/** A figure of a table; each has one value per round. */
export interface Column {
  readonly key: string
  readonly title: string
  readonly digits: number
  /** Also print the lowest and the highest value. */
  readonly spread?: boolean
  /** Also print the median divided by that of the row `base`. */
  readonly ratio?: boolean
}

export interface Row {
  readonly variant: string
  /** One value per round that was measured, by column key. */
  readonly samples: Readonly<Record<string, readonly number[]>>
  /** Set where a round failed; such a row has no figures in the report. */
  readonly failure?: string
}

export interface Table {
  readonly title: string
  readonly base?: string
  readonly columns: readonly Column[]
  readonly rows: readonly Row[]
}

/** A limit that the project has set itself; missing it does not fail the run. */
export interface Bar {
  readonly what: string
  readonly value: number
  readonly limit: number
  /** The value must not be below the limit; otherwise it must not be above. */
  readonly atLeast?: boolean
  readonly unit: string
}

export interface SuiteResult {
  readonly suite: string
  /** What was measured, in one paragraph. */
  readonly method: string
  readonly tables: readonly Table[]
  readonly bars: readonly Bar[]
  readonly skipped: readonly { readonly name: string; readonly reason: string }[]
  /** Output of a part that prints for itself. */
  readonly text?: string
}

export interface Report {
  readonly command: string
  readonly date: string
  readonly machine: string
  readonly warnings: readonly string[]
  readonly suites: readonly SuiteResult[]
}

/** The middle value; the mean of the two middle ones of an even number; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Median of a figure in a table; undefined where the row is missing, failed or has no such figure. */
export function figure(table: Table, variant: string, key: string): number | undefined {
  const row = table.rows.find((one) => one.variant === variant)
  const samples = row?.failure === undefined ? row?.samples[key] : undefined
  return samples === undefined || samples.length === 0 ? undefined : median(samples)
}

/** The whole report. */
export function markdownOf(report: Report): string {
  const lines = [`${report.date.slice(0, 10)}, ${report.machine}.`, '', `    ${report.command}`]
  for (const warning of report.warnings) lines.push('', `**Warning:** ${warning}.`)
  for (const suite of report.suites) {
    lines.push('', `### ${suite.suite}`, '', suite.method)
    for (const table of suite.tables) lines.push('', `**${table.title}**`, '', ...tableLines(table))
    if (suite.text !== undefined) lines.push('', '```', suite.text.trimEnd(), '```')
    if (suite.bars.length > 0) lines.push('')
    for (const bar of suite.bars) {
      const met = bar.atLeast === true ? bar.value >= bar.limit : bar.value <= bar.limit
      const limit = `at ${bar.atLeast === true ? 'least' : 'most'} ${bar.limit}`
      lines.push(`- ${bar.what}: ${bar.value.toFixed(2)} ${bar.unit} (${limit}): ${met ? 'met' : 'MISSED'}`)
    }
    if (suite.skipped.length > 0) lines.push('')
    for (const { name, reason } of suite.skipped) lines.push(`- **SKIPPED ${name}**: ${reason}`)
  }
  return lines.join('\n') + '\n'
}

function tableLines(table: Table): string[] {
  if (table.rows.length === 0) return ['Nothing was measured.']
  const head = ['']
  for (const column of table.columns) {
    head.push(column.title)
    if (column.ratio === true && table.base !== undefined) head.push(`÷ ${table.base}`)
  }
  const lines = [`| ${head.join(' | ')} |`, `|---|${'--:|'.repeat(head.length - 1)}`]
  for (const row of table.rows) lines.push(`| ${cellsOf(table, row).join(' | ')} |`)
  for (const row of table.rows)
    if (row.failure !== undefined) lines.push('', `**FAILED ${row.variant}**: ${row.failure}`)
  return lines
}

function cellsOf(table: Table, row: Row): string[] {
  const cells = [row.variant]
  for (const column of table.columns) {
    const value = figure(table, row.variant, column.key)
    cells.push(value === undefined ? (row.failure === undefined ? '–' : 'failed') : valueCell(column, row, value))
    if (column.ratio !== true || table.base === undefined) continue
    const base = figure(table, table.base, column.key)
    cells.push(value === undefined || base === undefined ? '–' : (value / base).toFixed(2))
  }
  return cells
}

function valueCell(column: Column, row: Row, value: number): string {
  const text = value.toFixed(column.digits)
  if (column.spread !== true) return text
  const samples = row.samples[column.key]
  return `${text} (${Math.min(...samples).toFixed(column.digits)}–${Math.max(...samples).toFixed(column.digits)})`
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const file = process.argv[2]
  if (file === undefined) throw new Error('usage: node benchmarks/report.ts FILE.json')
  process.stdout.write(markdownOf(JSON.parse(readFileSync(file, 'utf8')) as Report))
}
