import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import t from 'tap'
import { renderMarkdown, renderOverview } from '../../lib/cli/capabilities/render.ts'
import { type Capabilities, readCapabilities } from '../../lib/cli/capabilities/table.ts'
import { printCapabilities } from '../../lib/cli/capabilities.ts'
import { runCommandLine } from '../../lib/cli/command-line.ts'
import { lowerFilters, standardFilters } from '../../lib/cli/standard-filters.ts'
import { POINTS } from './capabilities/extensions.ts'
import { makeTable } from './capabilities/make-table.ts'
import { probeAll, ROOTS } from './capabilities/probe-all.ts'

/*
 * Every field is probed anew and must come to what the table says. `UPDATE_CAPABILITIES=1` writes the table, the page and
 * the README instead.
 */

const ROOT = join(import.meta.dirname, '../..')
const TABLE = join(ROOT, 'lib/cli/capabilities/table.json')
const UPDATE = process.env.UPDATE_CAPABILITIES === '1'

const DOCUMENTS: readonly { readonly file: string; readonly render: (table: Capabilities) => string }[] = [
  { file: 'README.md', render: renderOverview },
  { file: 'xds-client/CAPABILITIES.md', render: renderMarkdown },
]

const prober = probeAll()
const found = makeTable(prober, ROOTS, Object.keys(POINTS))
if (UPDATE) {
  writeFileSync(TABLE, `${JSON.stringify(found, undefined, 2)}\n`)
  execFileSync(process.execPath, [join(ROOT, '.packaging/biome.ts'), 'check', '--write', TABLE], { stdio: 'inherit' })
  for (const { file, render } of DOCUMENTS) {
    const path = join(ROOT, file)
    writeFileSync(path, between(readFileSync(path, 'utf8'), render(found)))
  }
}

/** The page with this text between its marks. */
function between(page: string, text: string): string {
  const [begin, end] = ['<!-- capabilities: generated -->', '<!-- capabilities: end -->']
  const [from, to] = [page.indexOf(begin), page.indexOf(end)]
  if (from < 0 || to < from) throw new Error('the page has no marks')
  return `${page.slice(0, from + begin.length)}\n\n${text}\n\n${page.slice(to)}`
}

t.test('the prober has a valid message for everything that it looks at', async (t) => {
  t.same(prober.problems, [])
  t.ok(prober.probes > 4_000, `${prober.probes} probes`)
})

t.test('every field of every message comes to what the table says', async (t) => {
  const table = readCapabilities()
  t.same(drift(table, found), [])
})

/** One line for each thing that is not as it was. */
function drift(before: unknown, after: unknown, path = ''): string[] {
  if (JSON.stringify(before) === JSON.stringify(after)) return []
  const isObject = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
  if (!isObject(before) || !isObject(after)) {
    return [`${path}: ${JSON.stringify(after) ?? 'gone'}, the table says ${JSON.stringify(before) ?? 'nothing'}`]
  }
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])]
  return names.flatMap((name) => drift(before[name], after[name], path === '' ? name : `${path} ${name}`))
}

t.test('every filter that the reference binary has is looked at, with its per-route settings', async (t) => {
  const { network, listener } = lowerFilters()
  const wanted = [
    ...standardFilters().flatMap((factory) => [...factory.typeUrls, ...(factory.routeTypeUrls ?? [])]),
    ...network.byType.keys(),
    ...listener.byType.keys(),
  ]
  const probed = new Set(Object.values(found.extensions).flatMap((types) => Object.keys(types)))
  t.same(
    wanted.filter((type) => type.startsWith('envoy.') && !probed.has(type)),
    [],
  )
})

t.test('README and the page of capabilities show the table', async (t) => {
  for (const { file, render } of DOCUMENTS) {
    const page = readFileSync(join(ROOT, file), 'utf8')
    const wanted = between(page, render(readCapabilities()))
    t.equal(unpadded(page), unpadded(wanted), `${file}: UPDATE_CAPABILITIES=1 writes it`)
  }
})

t.test('the command prints it, all or by type', async (t) => {
  const run = (type: string | undefined, flags: Parameters<typeof printCapabilities>[1]): [number, string, string] => {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()]
    const status = printCapabilities(type, flags, { stdout, stderr })
    return [status, String(stdout.read() ?? ''), String(stderr.read() ?? '')]
  }
  const table = readCapabilities()
  t.same(JSON.parse(run(undefined, { json: true })[1]), table)
  const [, text] = run(undefined, {})
  t.match(text, /^HTTP filters\n(?:.*\n)*? {2}accepted envoy\.extensions\.filters\.http\.cors\.v3\.Cors\n/m)
  t.match(text, / {2}refused {2}envoy\.extensions\.filters\.http\.jwt_authn\.v3\.JwtAuthentication: /)
  const [status, fields] = run('listener.v3.listener', {})
  t.equal(status, 0)
  t.match(fields, / {2}refused {2}transparent: is not available: Node\.js has no IP_TRANSPARENT\n/)
  t.match(fields, / {2}accepted filter_chains\n/)
  t.equal(run(undefined, { markdown: true })[1], `${renderMarkdown(table)}\n`)
  t.same(run('nobody.knows.it', {}), [1, '', 'no type whose name contains "nobody.knows.it" was looked at\n'])
})

t.test('headgate capabilities is a command', async (t) => {
  const written: string[] = []
  const sink = { write: (text: string) => written.push(text) > 0 }
  const self = { stdout: sink, stderr: sink } as unknown as NodeJS.Process
  t.equal(await runCommandLine(['capabilities', '--json', 'IPMatcher'], self), 0)
  t.match(JSON.parse(written.join('')), {
    messages: { 'xds.type.matcher.v3.IPMatcher': { fields: { range_matchers: '+' } } },
  })
})

/** The formatter pads the columns of tables. */
function unpadded(text: string): string {
  return text.replace(/ *\| */g, '|').replace(/-{3,}/g, '---')
}
