import { type Capabilities, type FieldVerdict, type FieldVerdicts, type Verdict, verdictOf } from './table.ts'

/** For people at a terminal: each type with its verdict; `fields` lists every field of every message as well. */
export function renderText(table: Capabilities, fields: boolean): string {
  const lines: string[] = []
  if (table.roots.length > 0) lines.push('resources', ...table.roots.map((type) => `  ${word('+')} ${type}`), '')
  for (const [point, types] of Object.entries(table.extensions)) {
    lines.push(point)
    for (const [type, { verdict, except }] of Object.entries(types)) {
      lines.push(`  ${word(verdict)} ${type}${because(verdict)}`)
      for (const [place, other] of Object.entries(except ?? {})) {
        lines.push(`    ${word(other)} in ${place}${because(other)}`)
      }
    }
    lines.push('')
  }
  if (fields) for (const [type, message] of Object.entries(table.messages)) lines.push(...messageLines(type, message))
  return `${lines.join('\n').trimEnd()}\n`
}

function messageLines(type: string, { fields, except = [] }: Capabilities['messages'][string]): string[] {
  const lines = [type, ...fieldLines(fields, '  ')]
  for (const one of except) lines.push(`  in ${one.in.join(', ')}`, ...fieldLines(one.fields, '    '))
  return [...lines, '']
}

function fieldLines(fields: FieldVerdicts, indent: string): string[] {
  return Object.entries(fields).flatMap(([name, field]) => {
    const verdict = verdictOf(field)
    const values = typeof field === 'string' ? [] : Object.entries(field[1])
    return [
      `${indent}${word(verdict)} ${name}${because(verdict)}`,
      ...values.map(([value, other]) => `${indent}  ${word(other)} ${value}${because(other)}`),
    ]
  })
}

function word(verdict: Verdict): string {
  return verdict === '+' ? 'accepted' : verdict === '-' ? 'ignored ' : 'refused '
}

function because(verdict: Verdict): string {
  return verdict === '+' || verdict === '-' ? '' : `: ${verdict}`
}

/** The short table of README: a row per extension point. */
export function renderOverview(table: Capabilities): string {
  const rows = Object.entries(table.extensions).filter(([point]) => point !== 'others')
  const cells = rows.map(([point, types]) => {
    const of = (wanted: string): string => {
      const names = Object.entries(types).flatMap(([type, { verdict }]) =>
        kind(verdict) === wanted ? [short(type)] : [],
      )
      return [...new Set(names)].join(', ')
    }
    return [point, of('accepted'), of('ignored'), of('refused')]
  })
  return markdownTable(['', 'accepted', 'reported, without effect', 'refused'], cells)
}

/** The whole table as Markdown: every type, and of every message the fields that are not simply accepted. */
export function renderMarkdown(table: Capabilities): string {
  const parts = ['## Resources', '', ...table.roots.map((type) => `- \`${type}\``), '', '## Extensions', '']
  for (const [point, types] of Object.entries(table.extensions)) {
    const rows = Object.entries(types).flatMap(([type, { verdict, except }]) => [
      [`\`${type}\``, described(verdict)],
      ...Object.entries(except ?? {}).map(([place, other]) => [`… in \`${place}\``, described(other)]),
    ])
    parts.push(`### ${point}`, '', markdownTable(['type', ''], rows), '')
  }
  parts.push('## Messages', '', 'Fields that are not named are accepted.', '')
  for (const [type, { fields, except = [] }] of Object.entries(table.messages)) {
    const count = Object.keys(fields).length
    const rows = [...fieldRows(fields, ''), ...except.flatMap((one) => fieldRows(one.fields, places(one.in)))]
    const accepted = Object.values(fields).filter((field) => verdictOf(field) === '+').length
    parts.push(`### ${type}`, '', `${accepted} of ${count} ${count === 1 ? 'field' : 'fields'} accepted.`, '')
    if (rows.length > 0) parts.push(markdownTable(['field', ''], rows), '')
  }
  return parts.join('\n').trimEnd()
}

function places(edges: readonly string[]): string {
  return ` in ${edges.map((edge) => `\`${edge}\``).join(', ')}`
}

/** Of exceptions all fields, otherwise those that are not simply accepted. */
function fieldRows(fields: FieldVerdicts, where: string): string[][] {
  return Object.entries(fields).flatMap(([name, field]) => {
    const own = verdictOf(field) === '+' && where === '' ? [] : [[`\`${name}\`${where}`, described(verdictOf(field))]]
    return [...own, ...valuesOf(field).map(([value, other]) => [`\`${name}: ${value}\`${where}`, described(other)])]
  })
}

function valuesOf(field: FieldVerdict): [string, Verdict][] {
  return typeof field === 'string' ? [] : Object.entries(field[1])
}

function kind(verdict: Verdict): string {
  return word(verdict).trim()
}

function described(verdict: Verdict): string {
  return verdict === '+' || verdict === '-' ? kind(verdict) : `refused: ${verdict}`
}

/** Packages that hold several types, or whose name says less than that of the type. */
const VAGUE: ReadonlySet<string> = new Set(
  'tls matcher network ssl grpc stream route rbac core trace type api listener regex_engines grpc_credential matching compressor samplers resource_detectors http'.split(
    ' ',
  ),
)

/** `envoy.extensions.filters.http.cors.v3.Cors` → `cors`. */
function short(type: string): string {
  const parts = type.split('.')
  const version = parts.findIndex((part) => /^v\d/.test(part))
  const [folder, name] = [parts[version - 1], parts.at(-1) ?? type]
  return `\`${version < 1 || VAGUE.has(folder) ? name : folder}\``
}

function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), `|${' --- |'.repeat(head.length)}`, ...rows.map(line)].join('\n')
}
