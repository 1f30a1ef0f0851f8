import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t from 'tap'
import type { JsonObject } from '../../lib/core/errors.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import type { RuntimeLayerConfig } from '../../xds-client/config.ts'
import { RuntimeLayers } from '../../xds-client/runtime/layers.ts'
import { TestClock } from '../support/clock.ts'

const POLL_MS = 30_000

const silent = { debug() {}, info() {}, warn() {}, error() {} }

interface Lab {
  readonly runtime: RuntimeLayers
  readonly changes: JsonObject[]
  readonly clock: TestClock
  readonly warnings: string[]
  stat(name: string): number
}

function lab(test: Tap, layers: readonly RuntimeLayerConfig[]): Lab {
  const metrics = new MetricsStore()
  const clock = new TestClock()
  const changes: JsonObject[] = []
  const warnings: string[] = []
  const log = { ...silent, warn: (_: string, fields?: Record<string, unknown>) => warnings.push(String(fields?.error)) }
  const changed = (values: JsonObject): number => changes.push(values)
  const runtime = new RuntimeLayers({ layers, serviceCluster: 'web', clock, log, metrics, changed })
  test.teardown(() => runtime[Symbol.dispose]())
  const gauges = new Set(['runtime.num_layers', 'runtime.num_keys', 'runtime.admin_overrides_active'])
  const stat = (name: string): number => (gauges.has(name) ? metrics.gauge(name) : metrics.counter(name)).v
  return { runtime, changes, clock, warnings, stat }
}

type Tap = { teardown(run: () => void): void }

/** A tree of files below a directory of its own; `current` links to the newest version. */
function disk(test: Tap): {
  root: string
  version(name: string, files: Record<string, string>): string
  link(to: string): void
} {
  const base = mkdtempSync(join(tmpdir(), 'headgate-runtime-'))
  test.teardown(() => rmSync(base, { recursive: true, force: true }))
  return {
    root: join(base, 'current'),
    version(name, files) {
      for (const [path, text] of Object.entries(files)) {
        mkdirSync(dirname(join(base, name, path)), { recursive: true })
        writeFileSync(join(base, name, path), text)
      }
      return join(base, name)
    },
    link(to) {
      symlinkSync(to, join(base, 'next'))
      renameSync(join(base, 'next'), join(base, 'current'))
    },
  }
}

const onDisk = (
  symlinkRoot: string,
  over: Partial<Extract<RuntimeLayerConfig, { kind: 'disk' }>> = {},
): RuntimeLayerConfig => ({
  kind: 'disk',
  name: 'disk',
  symlinkRoot,
  subdirectory: 'envoy',
  appendServiceCluster: false,
  ...over,
})

const rtds = (name: string, resource = name): RuntimeLayerConfig => ({
  kind: 'rtds',
  name,
  resource,
  source: { key: '', source: { kind: 'ads' }, initialFetchTimeoutMs: 0 },
})

t.test('later layers win, key by key, and an unchanged merge is not told', async (t) => {
  const { runtime, changes, stat } = lab(t, [
    { kind: 'static', name: 'base', values: { a: { b: 1, c: 'x' }, share: { numerator: 5, denominator: 'MILLION' } } },
    rtds('first', 'res-1'),
    rtds('second'),
    { kind: 'admin', name: 'admin' },
  ])
  t.same({ ...runtime.values }, { 'a.b': 1, 'a.c': 'x', share: { numerator: 5, denominator: 'MILLION' } })
  t.equal(stat('runtime.num_layers'), 4)
  t.equal(stat('runtime.num_keys'), 3)
  t.equal(stat('runtime.load_success'), 1)
  t.equal(stat('runtime.override_dir_not_exists'), 1)

  runtime.deliver('res-1', { a: { b: 2 }, 'd.e': true })
  runtime.deliver('second', { 'a.b': 3 })
  t.equal(changes.length, 2)
  t.match({ ...changes[1] }, { 'a.b': 3, 'a.c': 'x', 'd.e': true })
  t.same({ ...changes[0] }['a.b'], 2, 'what was told before stays as it was')
  runtime.deliver('res-1', { a: { b: 7 }, d: { e: true } })
  t.equal(changes.length, 2, 'a value that a later layer hides changes nothing')
  t.equal(runtime.modify({ 'a.b': '4' }), undefined)
  t.equal(runtime.values['a.b'], 4)
  runtime.deliver('second', undefined)
  runtime.deliver('nobody', { z: 1 })
  t.equal(runtime.values['a.b'], 4)
  t.equal(runtime.modify({ 'a.b': '' }), undefined)
  t.equal(runtime.values['a.b'], 7)
  t.same(
    runtime.status().map(({ name, values }) => [name, [...values]]),
    [
      [
        'base',
        [
          ['a.b', 1],
          ['a.c', 'x'],
          ['share', { numerator: 5, denominator: 'MILLION' }],
        ],
      ],
      [
        'first',
        [
          ['a.b', 7],
          ['d.e', true],
        ],
      ],
      ['second', []],
      ['admin', []],
    ],
  )
  t.same(
    runtime.delivered().map(({ name, resource }) => [name, resource]),
    [
      ['first', 'res-1'],
      ['second', 'second'],
    ],
  )
})

t.test('the admin layer reads texts as files are read, and takes all of a change or nothing', async (t) => {
  const { runtime, changes, stat } = lab(t, [{ kind: 'admin', name: 'admin' }])
  t.equal(
    runtime.modify({ n: '5', f: '0.25', yes: 'true', t: 'text', s: '{numerator: 1, denominator: TEN_THOUSAND}' }),
    undefined,
  )
  t.same(
    { ...runtime.values },
    { n: 5, f: 0.25, yes: true, t: 'text', s: { numerator: 1, denominator: 'TEN_THOUSAND' } },
  )
  t.equal(stat('runtime.admin_overrides_active'), 1)
  t.match(runtime.modify({ n: '6', bad: '{' }), /^bad: "\{" is no value/)
  t.match(runtime.modify({ n: '6', bad: null }), /^bad: null is no value/)
  t.equal(runtime.values.n, 5)
  t.equal(changes.length, 1)
  runtime.modify({ n: '', f: '', yes: '', t: '', s: '', never: '' })
  t.equal(stat('runtime.admin_overrides_active'), 0)
  t.same({ ...runtime.values }, {})
})

t.test('without an admin layer nothing can be modified', async (t) => {
  const { runtime, changes } = lab(t, [{ kind: 'static', name: 's', values: {} }])
  t.match(runtime.modify({ a: '1' }), /no admin layer/)
  t.equal(changes.length, 0)
})

t.test(
  'a tree of files is a layer: directories and names are the key, comments and blank lines are not there',
  async (t) => {
    const files = disk(t)
    files.link(
      files.version('v1', {
        'envoy/health_check/min_interval': '5\n',
        'envoy/flag': '# why\ntrue\n\n# end',
        'envoy/share': '# share\nnumerator: 1\ndenominator: MILLION\n',
        'envoy/list': '[a, b]',
        'envoy/placeholder': '# nothing yet\n',
        'envoy/words': 'two\nlines \n',
        'other/ignored': '1',
      }),
    )
    symlinkSync('/nowhere/at/all', join(files.root, 'envoy/dangling'))
    const { runtime, stat } = lab(t, [onDisk(files.root)])
    t.same(
      { ...runtime.values },
      {
        'health_check.min_interval': 5,
        flag: true,
        share: { numerator: 1, denominator: 'MILLION' },
        list: '[a, b]',
        placeholder: '',
        words: 'two lines',
      },
    )
    t.equal(stat('runtime.num_layers'), 1)
    t.equal(stat('runtime.load_success'), 1)
  },
)

t.test('the directory of the service cluster is a layer on top, and one that is not there is no mistake', async (t) => {
  const files = disk(t)
  files.link(files.version('v1', { 'envoy/a': '1', 'envoy/b': '2', 'override/web/a': '9' }))
  const { runtime, stat } = lab(t, [
    onDisk(files.root),
    onDisk(files.root, { name: 'override', subdirectory: 'override', appendServiceCluster: true }),
    onDisk(files.root, { name: 'absent', subdirectory: 'absent' }),
  ])
  t.same({ ...runtime.values }, { a: 9, b: 2 })
  t.equal(stat('runtime.override_dir_exists'), 1)
  t.equal(stat('runtime.num_layers'), 2)
  t.equal(stat('runtime.load_error'), 0)
})

t.test('a moved link brings new values, a changed file within does not', async (t) => {
  const files = disk(t)
  files.link(files.version('v1', { 'envoy/a': '1' }))
  const { runtime, changes, clock } = lab(t, [onDisk(files.root)])
  files.version('v1', { 'envoy/a': '5' })
  clock.advance(POLL_MS)
  t.same(changes, [])
  t.equal(runtime.values.a, 1)
  files.link(files.version('v2', { 'envoy/a': '2' }))
  // Whether the file system has announced it by now or not.
  clock.advance(POLL_MS)
  t.same(
    changes.map((values) => ({ ...values })),
    [{ a: 2 }],
  )
  rmSync(files.root)
  clock.advance(POLL_MS)
  t.equal(runtime.values.a, 2, 'while there is no link the values stay')
  files.link(files.version('v3', { 'envoy/b': '3' }))
  clock.advance(POLL_MS)
  t.same({ ...runtime.values }, { b: 3 })
  runtime[Symbol.dispose]()
  t.equal(clock.pending, 0, 'no timer is left')
})

t.test('a layer with anything wrong in it is left out as a whole, and counted', async (t) => {
  const files = disk(t)
  const base: RuntimeLayerConfig = { kind: 'static', name: 's', values: { a: 0 } }
  const cases: [name: string, make: () => string, why: RegExp][] = [
    ['not YAML', () => files.version('yaml', { 'envoy/a': '1', 'envoy/bad': '{unclosed' }), /envoy\/bad/],
    ['too deep', () => files.version('deep', { [`envoy/${'d/'.repeat(16)}a`]: '1' }), /deeper than 16/],
    [
      'a link in circles',
      () => {
        const at = files.version('circle', { 'envoy/a': '1' })
        symlinkSync('.', join(at, 'envoy/self'))
        return at
      },
      /deeper than 16/,
    ],
    [
      'no files of this machine',
      () => {
        const at = files.version('proc', { 'envoy/a': '1' })
        symlinkSync('/proc/self', join(at, 'envoy/proc'))
        return at
      },
      /holds no values/,
    ],
    ['too large', () => files.version('large', { 'envoy/a': 'x'.repeat(1024 * 1024 + 1) }), /too large/],
  ]
  for (const [name, make, why] of cases) {
    files.link(make())
    const { runtime, stat, warnings } = lab(t, [base, onDisk(files.root)])
    t.same({ ...runtime.values }, { a: 0 }, name)
    t.equal(stat('runtime.load_error'), 1, name)
    t.equal(stat('runtime.load_success'), 0, name)
    t.equal(stat('runtime.num_layers'), 1, name)
    t.match(warnings, [why], name)
  }
  const [deepest] = [`envoy/${'d/'.repeat(15)}a`]
  files.link(files.version('just', { [deepest]: '1' }))
  const { runtime } = lab(t, [base, onDisk(files.root)])
  t.equal(runtime.values[`${'d.'.repeat(15)}a`], 1)
})

t.test('keys may be called as they like', async (t) => {
  const { runtime } = lab(t, [rtds('r')])
  runtime.deliver('r', JSON.parse('{"__proto__": {"polluted": 1}, "constructor": 2}') as JsonObject)
  t.equal(runtime.values['__proto__.polluted'], 1)
  t.equal(runtime.values.constructor, 2)
  t.equal((Object.prototype as Record<string, unknown>).polluted, undefined)
})
