import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { locate, parseConfigText, readConfigFile } from '../../lib/config/parse.ts'
import { stepsOf } from '../../lib/config/place.ts'
import { ConfigError, ConfigRefused } from '../../lib/core/errors.ts'
import { indexPath, keyPath, namePath } from '../../lib/proto/path.ts'

function refusal(run: () => unknown): string[] {
  try {
    run()
  } catch (error) {
    if (error instanceof ConfigRefused) return error.errors.map(String)
    throw error
  }
  return []
}

const refused = (text: string): string[] => refusal(() => parseConfigText(text, 'f.yaml'))

t.test('values', async (t) => {
  const value = (text: string): unknown => parseConfigText(text, 'f').value
  t.same(value('{"a": [1, "x", null, true, {"b": 1e3}]}'), { a: [1, 'x', null, true, { b: 1000 }] })
  t.same(value('[]'), [])
  t.same(value('"just a string"'), 'just a string')
  t.same(value('a: 1\nb: [x, "2", 0x10, 0o17, .5, yes, ~]\nc:\n  - d: |\n      text\n    1: z\n'), {
    a: 1,
    b: ['x', '2', 16, 15, 0.5, 'yes', null],
    c: [{ d: 'text\n', 1: 'z' }],
  })
  t.same(value('{a: 1, "b": \'x\', # comment\n c: d,}'), { a: 1, b: 'x', c: 'd' }, 'flow YAML is not JSON')
  t.same(value('---\na: 1\n...\n'), { a: 1 })
  t.equal(JSON.stringify(value('{"__proto__": {"a": 1}}')), '{"__proto__":{"a":1}}')
  t.equal(JSON.stringify(value('__proto__:\n  a: 1\n')), '{"__proto__":{"a":1}}')
  t.equal(({} as { a?: number }).a, undefined)
})

t.test('anchors, aliases and merge keys', async (t) => {
  const text = `
base: &base {timeout: 1s, policy: {a: 1}}
more: &more
  policy: 2
  extra: [*base]
one: {<<: *base, timeout: 2s}
two: {timeout: 3s, <<: [*more, *base]}
three: {<<: *base, <<x: 1, "<<": 4}
`
  t.same(parseConfigText(text, 'f').value, {
    base: { timeout: '1s', policy: { a: 1 } },
    more: { policy: 2, extra: [{ timeout: '1s', policy: { a: 1 } }] },
    one: { timeout: '2s', policy: { a: 1 } },
    two: { timeout: '3s', policy: 2, extra: [{ timeout: '1s', policy: { a: 1 } }] },
    three: { timeout: '1s', policy: { a: 1 }, '<<x': 1, '<<': 4 },
  })
  t.same(
    parseConfigText('a: &x 1\nb: *x\nc: &x 2\nd: *x', 'f').value,
    { a: 1, b: 1, c: 2, d: 2 },
    'the nearest anchor before',
  )
  t.same(refused('a: *x\nb: 1'), ['f.yaml:1:4: the alias *x has no anchor before it'])
  t.same(refused('a: &x [1, *x]'), ['f.yaml:1:11: the alias *x stands inside its own anchor'])
  t.same(refused('a: {<<: 3}'), ['f.yaml:1:9: only mappings can be merged with <<'])
})

t.test('an alias bomb is refused, many harmless aliases are not', async (t) => {
  let bomb = 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n'
  for (let i = 1; i < 10; i++)
    bomb += `a${i}: &a${i} [${Array(10)
      .fill(`*a${i - 1}`)
      .join(', ')}]\n`
  const errors = refused(bomb)
  t.equal(errors.length, 1)
  t.match(errors[0], /^f\.yaml:5:\d+: the aliases up to \*a3 stand for more than 100000 values$/)
  let harmless = 'defaults: &d {connect_timeout: 1s, lb_policy: RANDOM}\nclusters:\n'
  for (let i = 0; i < 20_000; i++) harmless += `  - <<: *d\n    name: c${i}\n`
  const value = parseConfigText(harmless, 'f').value as { clusters: unknown[] }
  t.same(value.clusters[19_999], { connect_timeout: '1s', lb_policy: 'RANDOM', name: 'c19999' })
})

t.test('what is malformed is refused with its place', async (t) => {
  t.same(refused('a: "x\nb: 2\n')[0], 'f.yaml:3:1: Missing closing "quote')
  t.match(refused('{"a": 1,, "b"}')[0], /^f\.yaml:1:\d+: /)
  t.ok(refused('a: [1, 2\nb: 3\n').length > 0)
  t.match(refused('a:\n\t- 1\n')[0], /^f\.yaml:2:1: /)
  t.same(refused('a: 1\n---\nb: 2\n'), ['f.yaml:2:1: only one document is allowed in a file'])
  t.match(refused('a: !acme 1'), [/^f\.yaml:1:4: Unresolved tag: !acme/])
  t.same(refused(''), ['f.yaml:1:1: the file is empty'])
  t.same(refused('# nothing\n'), ['f.yaml:1:1: the file is empty'])
  t.same(refused('? [a]\n: 1'), ['f.yaml:1:3: a key must be a plain word or a string'])
  t.same(refused('null: 1'), ['f.yaml:1:1: a key must be a plain word or a string'])
})

t.test('duplicate keys are refused, in YAML and in JSON', async (t) => {
  t.same(refused('a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 4\n'), [
    'f.yaml:5:3: the key "c" is there twice',
    'f.yaml:6:1: the key "a" is there twice',
  ])
  t.same(refused('{\n  "a": {"x\\":": 1, "y": "}:{"},\n  "b": 1,\n  "a": 2\n}'), [
    'f.yaml:4:3: the key "a" is there twice',
  ])
  t.same(refused('{"a": 1, "\\u0061": 2}'), ['f.yaml:1:10: the key "a" is there twice'])
})

t.test('nesting has a limit that is an error, not a crash', async (t) => {
  const deep = (n: number): string => '['.repeat(n) + ']'.repeat(n)
  t.same(refused(deep(400)), [])
  t.match(refused(deep(700)), [/nested too deeply: more than 500 levels/])
  t.ok(refused(deep(100_000)).length > 0)
  t.ok(refused(`a: ${deep(5000)}`).length > 0)
  t.ok(refused('{"a":'.repeat(50_000)).length > 0)
})

t.test('places', async (t) => {
  const text = `# front proxy
static_resources:
  listeners:
    - name: one
      filterChains:
        - filters:
            - name: hcm
              typed_config:
                "@type": x
                typed_per_filter_config:
                  envoy.filters.http.cors: {max_age: 1}
    - &shared
      name: two
  again: [*shared]
`
  const { place } = parseConfigText(text, 'a.yaml')
  const at = (path: string): string => {
    const found = place(path)
    return found === undefined ? 'nowhere' : `${found.file}:${found.line}:${found.column}`
  }
  t.equal(at(''), 'a.yaml:2:1')
  t.equal(at('static_resources'), 'a.yaml:2:1')
  t.equal(at('static_resources.listeners[0]'), 'a.yaml:4:7')
  t.equal(at('static_resources.listeners[0].name'), 'a.yaml:4:7')
  t.equal(at('staticResources.listeners[0].filter_chains[0].filters[0].typed_config.@type'), 'a.yaml:9:17')
  const filter = 'static_resources.listeners[0].filter_chains[0].filters[0].typed_config'
  t.equal(at(`${filter}.typedPerFilterConfig["envoy.filters.http.cors"].max_age`), 'a.yaml:11:45')
  t.equal(at(`${filter}.stat_prefix`), 'a.yaml:8:15', 'a missing field is at what should hold it')
  t.equal(at('static_resources.listeners[7].name'), 'a.yaml:3:3')
  t.equal(at('static_resources.again[0].name'), 'a.yaml:13:7', 'through an alias')
  t.equal(at('nothing["\\q"].x'), 'a.yaml:2:1')

  const json = '{\n\t"a": [\n\t\t{"bC": 1},\n\t\t{"b\\"x": 2}\n\t]\n}'
  const parsed = parseConfigText(json, 'a.json')
  t.same(parsed.value, { a: [{ bC: 1 }, { 'b"x': 2 }] })
  t.same(parsed.place('a[0].b_c'), { file: 'a.json', line: 3, column: 4 })
  t.same(parsed.place('a[1]["b\\"x"]'), { file: 'a.json', line: 4, column: 4 })
})

t.test('errors get their places, but for those that have one', async (t) => {
  const errors = [
    new ConfigError('a.b', 'is wrong'),
    new ConfigError('a', 'is wrong', { file: 'g', line: 9, column: 9 }),
  ]
  locate(errors, parseConfigText('a:\n  b: 1', 'f'))
  t.same(errors.map(String), ['f:2:3: a.b: is wrong', 'g:9:9: a: is wrong'])
})

t.test('a path is read back as it was written', async (t) => {
  t.same(stepsOf('a.b[0][12].c["x.y"]["]\\""].@type'), ['a', 'b', 0, 12, 'c', 'x.y', ']"', '@type'])
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.nat(), fc.string(), fc.constantFrom('name', 'a.b', '"', '[0]'))), (steps) => {
      let path = ''
      for (const step of steps)
        path =
          typeof step === 'number' ? indexPath(path, step) : path === '' ? namePath(path, step) : keyPath(path, step)
      return JSON.stringify(stepsOf(path)) === JSON.stringify(steps)
    }),
    { seed: 1 },
  )
})

t.test('any JSON gives the value of JSON.parse, and as YAML the same', async () => {
  const documents = fc.object({ maxDepth: 4, withBigInt: false, withDate: false, withNullPrototype: false })
  fc.assert(
    fc.property(documents, (object) => {
      const text = JSON.stringify(object)
      const expected = JSON.stringify(JSON.parse(text))
      const yaml = parseConfigText(`# not JSON\n${text}`, 'f').value
      return JSON.stringify(parseConfigText(text, 'f').value) === expected && JSON.stringify(yaml) === expected
    }),
    { numRuns: 300, seed: 1 },
  )
})

t.test('any text is read or refused, never anything else', async (t) => {
  const pieces = fc.constantFrom(
    'a',
    ': ',
    '- ',
    '\n',
    '  ',
    '{',
    '}',
    '[',
    ']',
    '"',
    "'",
    '&x ',
    '*x',
    '<<',
    '|',
    '? ',
    ',',
    '#',
    '!t ',
    '---',
    '\t',
    '%',
    '1',
  )
  let read = 0
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 25 }), (parts) => {
      const errors = refusal(() => parseConfigText(parts.join(''), 'f').place('a.b[0]'))
      if (errors.length === 0) read++
      return errors.every((error) => /^f:\d+:\d+: /.test(error))
    }),
    { numRuns: 3000, seed: 1 },
  )
  t.ok(read > 0)
})

t.test('files', async (t) => {
  const dir = t.testdir({ 'good.yaml': 'a: 1\n', 'bad.yaml': 'a: 1\na: 2\n' })
  t.same(readConfigFile(join(dir, 'good.yaml')).value, { a: 1 })
  t.same(
    refusal(() => readConfigFile(join(dir, 'bad.yaml'))),
    [`${join(dir, 'bad.yaml')}:2:1: the key "a" is there twice`],
  )
  t.match(
    refusal(() => readConfigFile(join(dir, 'none.yaml'))),
    [/none\.yaml:1:1: cannot be read: ENOENT/],
  )
  mkdirSync(join(dir, 'folder'))
  t.match(
    refusal(() => readConfigFile(join(dir, 'folder'))),
    [/folder:1:1: cannot be read: EISDIR/],
  )
  writeFileSync(join(dir, 'latin1.yaml'), Buffer.from([0x61, 0x3a, 0x20, 0xe4]))
  t.match(
    refusal(() => readConfigFile(join(dir, 'latin1.yaml'))),
    [/latin1\.yaml:1:1: is not valid UTF-8/],
  )
})

t.test('10 MB of JSON and 2 MB of YAML load', async (t) => {
  const clusters = Array.from({ length: 40_000 }, (_, i) => ({
    name: `cluster_${i}`,
    connect_timeout: '0.25s',
    load_assignment: {
      endpoints: [
        { lb_endpoints: [{ endpoint: { address: { socket_address: { address: '10.0.0.1', port_value: i } } } }] },
      ],
    },
    note: 'x'.repeat(40),
  }))
  const text = JSON.stringify({ static_resources: { clusters } })
  t.ok(text.length > 9e6, `${text.length} bytes`)
  const start = performance.now()
  t.same(
    (parseConfigText(text, 'f').value as { static_resources: { clusters: unknown[] } }).static_resources.clusters
      .length,
    40_000,
  )
  t.ok(performance.now() - start < 5000)
  let yaml = 'clusters:\n'
  for (let i = 0; yaml.length < 2e6; i++)
    yaml += `  - name: cluster_${i}\n    connect_timeout: 0.25s\n    ports: [1, 2, ${i}]\n`
  t.ok((parseConfigText(yaml, 'f').value as { clusters: unknown[] }).clusters.length > 20_000)
})
