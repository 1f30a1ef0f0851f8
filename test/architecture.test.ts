import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, posix } from 'node:path'
import t from 'tap'
import { blank, functionsOf, importsOf, lineAt, topLevel, withoutBodies } from './support/source-scan.ts'

const ROOT = join(import.meta.dirname, '..')

/*
 * The rules, as data.
 *
 * A room is a folder of lib, or one of listeners, filters/<one>, xds-client. ROOMS names what a room may import from
 * other rooms at run time; its own files are always allowed. core is open to all.
 */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  core: [],
  http1: [],
  http2: ['http1'],
  tls: ['match'],
  match: [],
  cel: ['match'],
  proto: [],
  chain: [],
  telemetry: ['match', 'cel', 'proto'],
  grpc: ['proto', 'chain', 'http1', 'http2', 'tls', 'match', 'cel', 'telemetry', 'upstream'],
  upstream: ['http1', 'http2', 'tls', 'match', 'cel', 'proto', 'chain', 'telemetry', 'grpc'],
  router: ['http1', 'http2', 'tls', 'match', 'cel', 'proto', 'chain', 'telemetry', 'grpc', 'ratelimit', 'upstream'],
  // Workload certificates: a gRPC client of its own, and the configuration that they go into.
  workload: ['http2', 'tls', 'grpc', 'telemetry', 'upstream', 'config'],
  config: [
    'http1',
    'http2',
    'tls',
    'match',
    'cel',
    'proto',
    'chain',
    'telemetry',
    'grpc',
    'upstream',
    'router',
    'ratelimit',
  ],
  admin: [
    'http1',
    'http2',
    'tls',
    'match',
    'cel',
    'proto',
    'chain',
    'telemetry',
    'grpc',
    'upstream',
    'router',
    'config',
    'runtime',
  ],
  runtime: [
    'http1',
    'http2',
    'tls',
    'match',
    'cel',
    'proto',
    'chain',
    'telemetry',
    'grpc',
    'upstream',
    'router',
    'config',
    'admin',
  ],
  listeners: [
    'http1',
    'http2',
    'tls',
    'match',
    'cel',
    'proto',
    'chain',
    'telemetry',
    'grpc',
    'router',
    'config',
    'runtime',
  ],
  // The policies of access control: filters of layer 4 and of HTTP decide by the same engine.
  rbac: ['match'],
  // What requests are counted by: routes say it, and every filter that limits rates builds it in the same way.
  ratelimit: ['match', 'cel', 'chain', 'telemetry'],
  filters: ['chain', 'match', 'cel', 'grpc', 'telemetry', 'rbac', 'ratelimit'],
  'xds-client': ['proto', 'grpc', 'config'],
}

/** Rooms whose types may refer to each other (`import type`), because together they are the filter contract. */
const ONE_TIER: ReadonlySet<string> = new Set(['core', 'chain', 'telemetry', 'match', 'ratelimit', 'router'])

/** What a room may import beyond ROOMS, as types only. */
const TYPES_ONLY: Readonly<Record<string, readonly string[]>> = {
  listeners: ['upstream'],
  filters: ['upstream'],
}

/** The room's part of the intermediate representation, plain data: `import type` of it is open to these. */
const IR_FILE = /^lib\/[\w-]+\/config\.ts$/
const READS_IR: ReadonlySet<string> = new Set(['xds-client', 'filters', 'listeners', 'runtime', 'admin', 'chain'])

/** Single imports that a rule would refuse, each with its reason. */
const EXCEPTIONS: readonly { readonly file: RegExp; readonly to: RegExp; readonly why: string }[] = [
  { file: /^filters\/router\//, to: /^lib\/router\//, why: 'the terminal filter is a thin factory over the router' },
  {
    file: /^xds-client\/envoy\//,
    to: /^lib\/match\/parse(?:-\w+)?\.ts$/,
    why: 'one reader of matcher trees for filters and for the translator: two would drift apart',
  },
  {
    file: /^xds-client\/envoy\//,
    to: /^lib\/ratelimit\/parse\.ts$/,
    why: 'one reader of rate limits for routes and for the filters that have some of their own',
  },
  {
    file: /^xds-client\/envoy\//,
    to: /^lib\/telemetry\/parse(?:-\w+)?\.ts$/,
    why: 'one reader of access logs and formats for listeners and for the filters that have some of their own',
  },
  {
    file: /^filters\/tls-inspector\//,
    to: /^lib\/tls\/(?:client-hello|hello-facts|fingerprint)\.ts$/,
    why: 'one parser of hellos for the inspector and for the handshake: two would disagree',
  },
]

/** Node modules by which a room would touch the world; `names` are harmless exports of theirs. */
const WORLD: ReadonlySet<string> = new Set(
  'net tls fs fs/promises dns dns/promises dgram http http2 https child_process cluster worker_threads timers timers/promises'.split(
    ' ',
  ),
)
const HARMLESS: ReadonlySet<string> = new Set(['isIP', 'isIPv4', 'isIPv6'])

/** Room → what of WORLD it may use (`import type` is always allowed). Rooms that are not named may use all. */
const MAY_TOUCH: Readonly<Record<string, readonly string[]>> = {
  core: [],
  match: [],
  rbac: [],
  ratelimit: [],
  cel: [],
  http1: [],
  http2: [],
  // The checked-in descriptor set and the message sources it was made from.
  proto: ['fs'],
  chain: [],
  router: [],
  filters: [],
  upstream: ['net', 'tls', 'dns', 'dns/promises', 'dgram', 'fs', 'fs/promises'],
  listeners: ['net', 'tls', 'fs', 'fs/promises'],
  'xds-client': ['fs', 'fs/promises', 'net', 'tls'],
}

/** Words in code that a room must not hold. */
const FORBIDDEN_CODE: readonly { readonly rooms: RegExp; readonly code: RegExp; readonly why: string }[] = [
  { rooms: /./, code: /\bglobalThis\b/, why: 'nothing on globalThis' },
  {
    rooms: /^(upstream|filters|xds-client|router|chain)$/,
    code: /\bcreateServer\b/,
    why: 'only listeners, admin and runtime listen',
  },
  { rooms: /^filters$/, code: /\bprocess\.|\bfetch\(/, why: 'a filter touches its stream and its scope' },
  {
    rooms: /^(match|rbac|ratelimit|cel|proto|http1|http2|chain|router|filters)$/,
    code: /\b(?:setTimeout|setInterval|Date\.now|performance\.now)\b/,
    why: 'no clock but the one passed in',
  },
]

/** Top-level calls that do no work a reader would notice: they make constants. */
const PURE_CALLS: ReadonlySet<string> = new Set([
  'Object.freeze',
  // Collects names in a table of its own.
  'cellNames',
  'Object.entries',
  'Object.keys',
  'Object.values',
  'Object.fromEntries',
  'Object.create',
  'Symbol',
  'Symbol.for',
  'Buffer.from',
  'Buffer.alloc',
  'Buffer.byteLength',
  'Array.from',
  'BigInt',
  'Number',
  'String',
  'RE2JS.compile',
  'fileURLToPath',
  'createRequire',
])

/** Methods of literals and of z (a schema is a constant). */
const PURE_METHODS =
  /^(?:z\.|.*\.(?:map|filter|flatMap|concat|join|split|slice|fill|sort|optional|default|strict|min|max|int|or|and|refine|nullable|charCodeAt|toString|toLowerCase|length|entries|keys|values)$)/

const MUTABLE_TYPES =
  /\bnew\s+(?:Map|Set|WeakMap|WeakSet|Array|Headers|Uint8Array|Uint16Array|Uint32Array|Int32Array|Float64Array)\b/

/** Top-level things that look mutable or look like work, each with its reason. */
const STATE_ALLOWED: readonly { readonly file: RegExp; readonly name: RegExp; readonly why: string }[] = [
  { file: /./, name: /^[A-Z0-9_]+: Uint(?:8|16|32)Array$/, why: 'a lookup table; typed arrays cannot be frozen' },
  { file: /^lib\/cli\/(?:main|.*-process)\.ts$/, name: /./, why: 'programs: they are run, never imported' },
]

/** Where a room's page lies, if not at its top. */
const PAGES: Readonly<Record<string, string>> = { test: 'test/support' }

const FILE_LINES = 400
const FUNCTION_LINES = 60
const FORBIDDEN_NAMES = /(?:^|\/)(?:utils?|helpers?|common|manager)(?:\.ts|\/)/
/** Absolute paths of some machine: in sources any of these, elsewhere the folder of this very checkout. */
const FORBIDDEN_PATHS = /(?<![\w.-])\/(?:work|tmp)\//

interface Source {
  /** From the root, with slashes. */
  readonly path: string
  readonly text: string
  readonly code: string
  /** Key of ROOMS, or `cli`; '' outside of the rooms (test, examples, benchmarks). */
  readonly room: string
  readonly generated: boolean
}

function walk(folder: string, out: string[] = []): string[] {
  if (!existsSync(join(ROOT, folder))) return out
  for (const entry of readdirSync(join(ROOT, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`
    if (entry.name === 'node_modules' || entry.name.startsWith('.')) continue
    if (entry.isDirectory()) walk(path, out)
    else if (entry.name.endsWith('.ts')) out.push(path)
  }
  return out
}

function roomOf(path: string): string {
  const parts = path.split('/')
  if (parts[0] === 'lib') return parts.length > 2 ? parts[1] : 'lib'
  return ['listeners', 'filters', 'xds-client'].includes(parts[0]) ? parts[0] : ''
}

function read(path: string): Source {
  const text = readFileSync(join(ROOT, path), 'utf8')
  const generated = path.includes('/generated/')
  return { path, text, code: generated ? '' : blank(text), room: roomOf(path), generated }
}

const sources = ['lib', 'listeners', 'filters', 'xds-client'].flatMap((folder) => walk(folder)).map(read)
const written = sources.filter((source) => !source.generated)

/** Undefined where the import is in order, otherwise what is wrong with it. */
function judgeImport(source: Source, statement: { from: string; typeOnly: boolean }): string | undefined {
  const target = posix.normalize(posix.join(dirname(source.path), statement.from))
  const to = roomOf(target)
  if (source.room === 'cli' || to === 'core') return undefined
  if (to === 'cli') return 'nobody imports lib/cli'
  if (to === 'filters' && source.room === 'filters') {
    return source.path.split('/')[1] === target.split('/')[1] ? undefined : 'a filter never imports another'
  }
  if (to === source.room) return undefined
  if (ROOMS[source.room] === undefined) return `unknown room ${source.room}: give it a rule`
  if (ROOMS[source.room].includes(to)) return undefined
  if (EXCEPTIONS.some((e) => e.file.test(source.path) && e.to.test(target))) return undefined
  if (statement.typeOnly) {
    if (ONE_TIER.has(source.room) && ONE_TIER.has(to)) return undefined
    if (TYPES_ONLY[source.room]?.includes(to)) return undefined
    if (READS_IR.has(source.room) && IR_FILE.test(target)) return undefined
  }
  return `${source.room} must not import ${to === '' ? target : to}${statement.typeOnly ? ' (types)' : ''}`
}

function judgePackage(
  source: Source,
  statement: ReturnType<typeof importsOf>[number],
  known: ReadonlySet<string>,
): string | undefined {
  const { from } = statement
  if (!from.startsWith('node:')) {
    const name = from
      .split('/')
      .slice(0, from.startsWith('@') ? 2 : 1)
      .join('/')
    return known.has(name) ? undefined : `${name} is not among the dependencies`
  }
  const module = from.slice(5)
  const allowed = MAY_TOUCH[source.room]
  if (allowed === undefined || statement.typeOnly || !WORLD.has(module) || allowed.includes(module)) return undefined
  if (statement.names.length > 0 && statement.names.every((name) => HARMLESS.has(name) || /^[A-Z]/.test(name)))
    return undefined
  return `${source.room} must not touch ${from}`
}

t.test('every import goes in a direction that the design allows', async (t) => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<
    string,
    Record<string, string>
  >
  const known = new Set([...Object.keys(manifest.dependencies), ...Object.keys(manifest.optionalDependencies)])
  let count = 0
  const wrong: string[] = []
  for (const source of written) {
    for (const statement of importsOf(source.text)) {
      count++
      const local = statement.from.startsWith('.')
      const problem = local ? judgeImport(source, statement) : judgePackage(source, statement, known)
      if (problem !== undefined) wrong.push(`${source.path}:${statement.line}: ${problem}`)
    }
  }
  t.ok(count > 20, `${count} imports looked at`)
  t.same(wrong, [])
})

t.test('every import of ours names a file that is there', async (t) => {
  const wrong = written.flatMap((source) =>
    importsOf(source.text)
      .filter((s) => s.from.startsWith('.') && !existsSync(join(ROOT, dirname(source.path), s.from)))
      .map((s) => `${source.path}:${s.line}: no ${s.from}`),
  )
  t.same(wrong, [])
})

/** Undefined where the top-level statement neither works nor keeps state. */
function judgeStatement(text: string, localFunctions: ReadonlySet<string>): string | undefined {
  const bare = text.replace(/^export\s+(?:default\s+)?/, '').replace(/^declare\s+/, '')
  if (/^(?:import\b(?!\()|export\b|type\b|interface\b|function\b|async function\b|global\b|\{|\*)/.test(bare))
    return undefined
  if (/^(?:abstract )?class\b/.test(bare)) return judgeClass(bare)
  if (/^(?:let|var)\b/.test(bare)) return 'a top-level variable that can be assigned'
  const constant = /^const\s+([\w$]+)(?:\s*:\s*([^=]*(?:=>[^=]*)*?))?\s=\s*([\s\S]*)$/.exec(bare)
  if (constant === null) return /^const\b/.test(bare) ? 'a top-level destructuring' : 'work at import'
  const [, , type = '', value] = constant
  const now = withoutBodies(value)
  if (/\bawait\b/.test(now)) return 'work at import'
  for (const call of now.matchAll(/(?:\.\.\.)?([\w$.]*[\w$\])])\s*\(/g)) {
    const name = call[1].replace(/^\.\.\./, '')
    const isNew = /\bnew\s+$/.test(now.slice(0, call.index))
    if (isNew || localFunctions.has(name) || PURE_CALLS.has(name) || PURE_METHODS.test(name) || /^[)\]]/.test(name))
      continue
    return `work at import: ${name}()`
  }
  return judgeShape(type, now)
}

const FUNCTION = /^(?:export\s+)?(?:async\s+)?function\s+([\w$]+)/

function judgeShape(type: string, value: string): string | undefined {
  const fixed =
    /\bas const\b/.test(value) || /^Object\.freeze\(/.test(value) || /^(?:readonly\b|Readonly|unique symbol)/.test(type)
  if (fixed) return undefined
  if (/^\{\s*\}/.test(value) || /^\[\s*\]/.test(value)) return 'an empty container is there to be filled'
  if (/^\[/.test(value)) return 'a list that is neither readonly nor frozen'
  if (/^\{/.test(value) && type === '' && !/\bsatisfies\b/.test(value))
    return 'an object that is neither typed nor frozen'
  if (MUTABLE_TYPES.test(value.slice(0, 60))) return 'a container that is not declared readonly'
  return undefined
}

function judgeClass(text: string): string | undefined {
  if (/^\s+static\s*\{/m.test(text)) return 'a static block: work at import'
  const field = /^\s+static\s+(?!readonly\b)(?:override\s+)?[#\w$]+\s*(?::[^=;(]*)?=(?!>)/m.exec(text)
  return field === null ? undefined : 'a static field that can be assigned'
}

t.test('no module keeps state or works when it is imported', async (t) => {
  const wrong: string[] = []
  for (const source of written) {
    const statements = topLevel(source.text)
    const local = new Set(statements.flatMap((s) => FUNCTION.exec(s.text)?.[1] ?? []))
    // A table may be built by functions beside it; what those do at import is judged by the room rules on imports.
    for (const i of importsOf(source.text)) if (i.from.startsWith('./')) for (const name of i.names) local.add(name)
    for (const { text, line } of statements) {
      const problem = judgeStatement(text, local)
      if (problem === undefined) continue
      const name = /^(?:export\s+)?(?:const|let|var)\s+([\w$]+(?:: [\w<>]+)?)/.exec(text)?.[1] ?? text.slice(0, 40)
      if (STATE_ALLOWED.some((a) => a.file.test(source.path) && a.name.test(name))) continue
      wrong.push(`${source.path}:${line}: ${name}: ${problem}`)
    }
  }
  t.same(wrong, [])
})

t.test('no room holds code that its rule forbids', async (t) => {
  const wrong = written.flatMap((source) =>
    FORBIDDEN_CODE.filter((rule) => rule.rooms.test(source.room === '' ? 'lib' : source.room)).flatMap((rule) =>
      [...source.code.matchAll(new RegExp(rule.code, 'g'))].map(
        (m) => `${source.path}:${lineAt(source.code, m.index)}: ${m[0]}: ${rule.why}`,
      ),
    ),
  )
  t.same(
    wrong.filter((line) => !line.startsWith('lib/core/clock.ts')),
    [],
  )
})

t.test('files keep to their size and their names', async (t) => {
  const everywhere = [
    ...written.map((s) => s.path),
    ...['test', 'benchmarks', 'examples'].flatMap((folder) => walk(folder)),
  ]
  t.same(
    everywhere.filter((path) => FORBIDDEN_NAMES.test(path)),
    [],
  )
  const long = written
    .map((s) => ({ path: s.path, lines: s.text.split('\n').length - 1 }))
    .filter((s) => s.lines > FILE_LINES)
  t.same(
    long.map((s) => `${s.path}: ${s.lines} lines`),
    [],
  )
})

t.test('nothing names the place where it was written', async (t) => {
  const others = ['test', 'benchmarks', 'examples'].flatMap((folder) => walk(folder))
  // Everybody may name /tmp: a checkout that lies there is looked for by its own path.
  const parent = dirname(ROOT)
  const place = ['/', '/tmp', '/home', '/root', tmpdir()].includes(parent) ? ROOT : parent
  const named = others.filter((path) => readFileSync(join(ROOT, path), 'utf8').includes(`${place}/`))
  t.same([...sources.filter((s) => FORBIDDEN_PATHS.test(s.text)).map((s) => s.path), ...named], [])
})

t.test('every top-level room has its page', async (t) => {
  const rooms = ['lib', 'listeners', 'filters', 'xds-client', 'test', 'benchmarks', 'examples']
  const missing = rooms.filter(
    (room) => walk(room).length > 0 && !existsSync(join(ROOT, PAGES[room] ?? room, 'README.md')),
  )
  t.same(missing, [])
})

t.test(`functions of more than ${FUNCTION_LINES} lines are listed`, async (t) => {
  const long = written.flatMap((s) =>
    functionsOf(s.text)
      .filter((f) => f.lines > FUNCTION_LINES)
      .map((f) => `${s.path}:${f.line} ${f.name}: ${f.lines}`),
  )
  if (long.length > 0) t.comment(`over ${FUNCTION_LINES} lines: ${long.join('; ')}`)
  t.ok(written.flatMap((s) => functionsOf(s.text)).length >= written.length / 4, 'the counter finds functions')
})

t.test('the rules catch what they are for', async (t) => {
  const at = (path: string): Source => ({ path, text: '', code: '', room: roomOf(path), generated: false })
  const imports = (path: string, from: string, typeOnly = false): string | undefined =>
    judgeImport(at(path), { from, typeOnly })
  t.match(imports('lib/core/a.ts', '../chain/filter.ts'), /core must not import chain/)
  t.equal(imports('lib/core/a.ts', '../chain/filter.ts', true), undefined)
  t.match(imports('lib/upstream/a.ts', '../router/router.ts', true), /upstream must not import router/)
  t.match(imports('filters/cors/filter.ts', '../buffer/index.ts'), /never imports another/)
  t.match(imports('listeners/http1/a.ts', '../../lib/upstream/cluster.ts'), /listeners must not import upstream/)
  t.match(imports('lib/admin/server.ts', '../cli/main.ts'), /nobody imports/)
  t.match(imports('xds-client/envoy/a.ts', '../../listeners/listener.ts'), /must not import listeners/)
  t.equal(imports('xds-client/envoy/a.ts', '../../lib/upstream/config.ts', true), undefined)
  t.equal(imports('lib/cli/main.ts', '../../filters/cors/index.ts'), undefined)
  const state = (text: string): string | undefined => judgeStatement(topLevel(text)[0].text, new Set(['table']))
  for (const bad of [
    'let n = 0',
    'const cache = new Map()',
    'export const list: string[] = []',
    'export const list = [1, 2]',
    'const o = {}',
    'const o: Cache = {}',
    'start()',
    'if (x) y()',
    'const x = await load()',
    'const server = createServer(() => {})',
    'const { a } = load()',
    'class A {\n  static #open = new Set()\n}',
    'class A {\n  static { go() }\n}',
  ]) {
    t.type(state(bad), 'string', bad)
  }
  for (const good of [
    'const N = 5',
    'export const CACHE: ReadonlyMap<string, number> = new Map([["a", 1]])',
    "export const A = { b: error(1, 'x(') } as const".replace('error', 'table'),
    'export const run = async (a: number): Promise<void> => { await go(a) }',
    'const pick = (a: string): string => trim(a)',
    'const o: Clock = Object.freeze({\n  now: () => performance.now(),\n  schedule(ms: number): void {\n    setTimeout(ms)\n  },\n})',
    ['export const T: Uint8Array = table(`a$', '{N}b`)'].join(''),
    'export type A = { b: string }\n',
    'class A {\n  static readonly limit = 5\n  static of(): A {\n    return new A()\n  }\n}',
    'const R = /["\'`(]/',
  ]) {
    t.equal(state(good), undefined, good)
  }
  const parsed = importsOf(
    "import type { A } from './a.ts'\nimport { type B, type C as D } from './b.ts'\nimport e, {\n  type F,\n} from 'e'\nexport * from './g.ts'\n// import x from 'y'\nimport 'side'\nconst l = await import('lazy')\n",
  )
  t.same(
    parsed.map((i) => [i.from, i.typeOnly, i.line]),
    [
      ['./a.ts', true, 1],
      ['./b.ts', true, 2],
      ['e', false, 3],
      ['./g.ts', false, 6],
      ['side', false, 8],
      ['lazy', false, 9],
    ],
  )
  t.same(
    functionsOf('class A {\n  m(a: { b: 1 }): void {\n    if (a) {\n    }\n  }\n}\nconst f = (): void => {\n}\n').map(
      (f) => [f.name, f.line, f.lines],
    ),
    [
      ['m', 2, 4],
      ['arrow', 7, 2],
    ],
  )
})
