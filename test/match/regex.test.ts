import assert from 'node:assert/strict'
import fc from 'fast-check'
import { RE2JS } from 're2js'
import t from 'tap'
import { foldAscii } from '../../lib/match/fold.ts'
import { compileRegex, compileSubstitution } from '../../lib/match/regex.ts'
import { compileTemplateRewrite, templateToRegex } from '../../lib/match/template.ts'

const ATOMS = ['a', 'b', 'k', 's', 'S', '/', '1', '\\.', '.', '.*', '.+', '.*?', '[ab]', '[^/]', '[^/]+', '[0-9]+', 'é']
const ODD_ATOMS = [
  '^',
  '$',
  '\\b',
  '(?i)',
  '(?i:k)',
  '(?s:.*)',
  '(?-s).',
  '[k-t]',
  '\\w*',
  '(?i:[a-f])',
  '\\pL',
  '(|a)',
]

const pattern = fc
  .letrec<{ regex: string; sequence: string; item: string }>((tie) => ({
    regex: fc.array(tie('sequence'), { minLength: 1, maxLength: 3 }).map((s) => s.join('|')),
    sequence: fc.array(tie('item'), { maxLength: 5 }).map((s) => s.join('')),
    item: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      { weight: 6, arbitrary: fc.constantFrom(...ATOMS) },
      { weight: 2, arbitrary: fc.constantFrom(...ODD_ATOMS) },
      {
        weight: 2,
        arbitrary: fc.tuple(tie('regex'), fc.constantFrom('', '?', '*', '+')).map(([r, q]) => `(${r})${q}`),
      },
    ),
  }))
  .regex.filter((p) => {
    try {
      RE2JS.compile(p)
      return true
    } catch {
      return false
    }
  })

const text = fc
  .array(fc.constantFrom('a', 'b', 'k', 'K', 's', 'S', '/', '1', '.', '\n', 'é', '\u212a', '\u017f', 'x', 'É'), {
    maxLength: 8,
  })
  .map((s) => s.join(''))

t.test('a whole match says what the engine says, whichever shortcut answers', async (t) => {
  let matches = 0
  fc.assert(
    fc.property(pattern, fc.array(text, { minLength: 1, maxLength: 12 }), (p, texts) => {
      const ours = compileRegex(p)
      const engine = RE2JS.compile(p)
      for (const s of texts) {
        const expected = engine.testExact(s)
        const asked = `${JSON.stringify(p)} on ${JSON.stringify(s)}`
        assert.equal(ours.matches(s), expected, asked)
        const subject = ours.shape.folded ? foldAscii(s) : s
        if (subject.startsWith(ours.shape.prefix)) assert.equal(ours.matchesPrefixed(s), expected, asked)
        if (!expected) continue
        matches++
        assert(subject.startsWith(ours.shape.prefix), `${asked}: a match begins with the prefix`)
        for (const literal of ours.shape.literals) assert(subject.includes(literal), `${asked}: it has the literals`)
      }
    }),
    { numRuns: 4_000, seed: 7 },
  )
  t.ok(matches > 1_000, `${matches} matches`)
})

t.test('patterns of route tables become string comparisons', async (t) => {
  const shapes: [string, string, string[]][] = [
    ['/foo', '', ['/foo none']],
    ['^/foo$', '', ['/foo none']],
    ['/foo/.*', '', ['/foo/ any']],
    ['/foo/.+', '', ['/foo/ some']],
    ['/foo(/.*)?', '', ['/foo/ any', '/foo none']],
    ['/(a|bc)/x', '', ['/a/x none', '/bc/x none']],
    ['/v[12]/x', '', ['/v1/x none', '/v2/x none']],
    ['.*\\.html', 'ends', ['.html none']],
    ['.*/x/.*', 'ends', ['/x/ any']],
    ['(?i)/Foo', 'folded', ['/foo none']],
  ]
  for (const [p, kind, expected] of shapes) {
    const { shape } = compileRegex(p)
    t.same(
      shape.alternatives?.map((a) => `${a.text} ${a.rest}`),
      expected,
      p,
    )
    t.equal(shape.anyStart, kind === 'ends', p)
    t.equal(shape.folded, kind === 'folded', p)
  }
  t.same(compileRegex('/api/v[0-9]+/things-7/[^/]+').shape.literals, ['/api/v', '/things-7/'])
  t.equal(compileRegex('(?i)/Foo/(?-i)Bar.*').shape.alternatives, undefined, 'a case that counts is left to the engine')
})

t.test('what RE2 does not know is refused with the pattern and the reason', async (t) => {
  for (const p of ['(?<=foo)bar', 'foo(?=bar)', '(a)\\1', '[invalid', 'a**', 'a{1001}', '(?P<n>a)(?P<n>b)', '\\Z']) {
    t.throws(() => compileRegex(p), { message: new RegExp(`^invalid regex "${RE2JS.quote(p)}": .`) }, p)
  }
  t.equal(compileRegex('\\Aab\\z').matches('ab'), true, 'RE2 anchors keep their meaning')
  t.equal(compileRegex('(?P<n>a)|(?<m>b)').matches('b'), true)
})

t.test('a hostile pattern on a hostile text is answered in linear time', async (t) => {
  const regex = compileRegex('(a+)+b|(.*)=(.*)y')
  t.equal(regex.matches('a'.repeat(50_000)), false)
  t.equal(regex.matches(`${'='.repeat(50_000)}y`), true)
  t.equal(compileRegex('(x+x+)+y\\b').matches('x'.repeat(20_000)), false)
})

t.test('a search looks anywhere, a match at the whole', async (t) => {
  const regex = compileRegex('b+')
  t.equal(regex.test('abbc'), true)
  t.equal(regex.matches('abbc'), false)
  t.equal(regex.matches('bb'), true)
})

t.test('a substitution replaces every occurrence and knows groups', async (t) => {
  const cases: [string, string, string, string][] = [
    ['^/service/([^/]+)(/.*)$', '\\2/instance/\\1', '/service/foo/v1/api', '/v1/api/instance/foo'],
    ['one', 'two', '/xxx/one/yyy/one/zzz', '/xxx/two/yyy/two/zzz'],
    ['^(.*?)one(.*)$', '\\1two\\2', '/xxx/one/yyy/one/zzz', '/xxx/two/yyy/one/zzz'],
    ['(?i)/xxx/', '/yyy/', '/aaa/XxX/bbb', '/aaa/yyy/bbb'],
    ['a*', 'x', 'baaac', 'xbxcx'],
    ['a', '[\\0]', 'bab', 'b[a]b'],
    ['a|(b)', '<\\1>', 'ab', '<><b>'],
    ['/', '\\\\', 'a/b', 'a\\b'],
    ['x', 'y', 'abc', 'abc'],
    ['abc', '', 'abc', ''],
    ['$', '!', 'a', 'a!'],
    ['a', '$1 $& $$', 'a', '$1 $& $$'],
  ]
  for (const [p, substitution, subject, expected] of cases) {
    t.equal(compileSubstitution(p, substitution)(subject), expected, `${p} -> ${substitution}`)
    t.equal(compileRegex(p).replaceAll(subject, substitution), expected)
  }
  t.throws(() => compileSubstitution('(a)', '\\2'), { message: 'substitution "\\2" names group 2, the regex has 1' })
  t.throws(() => compileSubstitution('a', 'b\\x'), /backslash/)
  t.throws(() => compileSubstitution('a', 'b\\'), /backslash/)
})

t.test('a URI template matches segments and gives its variables to the rewrite', async (t) => {
  const matches: [string, string, boolean][] = [
    ['/videos/*/*/*.m4s', '/videos/123414/hls/1080p5000_00001.m4s', true],
    ['/videos/{file}', '/videos/1080p5000_00001.m4s', true],
    ['/videos/{file}', '/videos/a/b', false],
    ['/videos/{file}', '/videos/', false],
    ['/**.mpd', '/content/123/india/dash/55/manifest.mpd', true],
    ['/**', '/', true],
    ['/', '/', true],
    ['/a/', '/a/', true],
    ['/a/', '/a', false],
    ['/{a}/{b=x/*}/**', '/1/x/2/3/4', true],
    ['/{a}/{b=x/*}/**', '/1/y/2/3/4', false],
    ['/a$b(c)+.d', '/a$b(c)+.d', true],
    ['/a.d', '/axd', false],
    ['/*.m/x', '/z.m/x', true],
    ['/{a}.m', '/z.m', true],
    ['/{a=b/*}', '/b/c', true],
    ['/*', '/a b', false],
    ['/*.m/x', '/a.m/x', true],
    ['/x/end.{ext}', '/x/end.html', true],
    ['/x/end.{ext}', '/x/end.', false],
    ['/{a}-{b}', '/1-2', true],
    ['/{a=b/}c', '/b/c', true],
  ]
  for (const [template, path, expected] of matches) {
    t.equal(compileRegex(templateToRegex(template)).matches(path), expected, `${template} on ${path}`)
  }
  const rewrite = compileTemplateRewrite('/{country}/{format}/{suffix=**}', '/content/{format}/{country}/{suffix}')
  t.equal(rewrite('/at/hls/a/b.ts'), '/content/hls/at/a/b.ts')
  t.equal(rewrite('/at'), undefined)
  t.equal(compileTemplateRewrite('/a/{b}', '/fixed')('/a/1'), '/fixed')
})

t.test('a bad URI template or rewrite is refused by reason', async (t) => {
  const bad: [string, RegExp][] = [
    ['a', /must begin with "\/"/],
    ['/a b', /printable/],
    ['/a//b', /two slashes/],
    ['/a/{b=/c}', /two slashes/],
    ['/a*', /not a literal segment/],
    ['/**/*', /last glob/],
    ['/**/{a}', /last glob/],
    ['/{a', /"}"/],
    ['/{1a}', /not a variable name/],
    ['/{abcdefghijklmnopq}', /not a variable name/],
    ['/{a}/{a}', /stands twice/],
    ['/{a=}', /empty pattern/],
    ['/{a=*b}', /only "\/" may follow a glob/],
    ['/{a=b{}', /not a literal segment/],
    ['/{a}/{b}/{c}/{d}/{e}/{f}', /more than 5/],
    ['/x*.m', /not a literal segment/],
  ]
  for (const [template, reason] of bad) t.throws(() => templateToRegex(template), reason, template)
  t.throws(() => compileTemplateRewrite('/{a}', 'x'), /must begin/)
  t.throws(() => compileTemplateRewrite('/{a}', '/x//y'), /"\/\/"/)
  t.throws(() => compileTemplateRewrite('/{a}', '/{b}'), /no variable "b"/)
  t.throws(() => compileTemplateRewrite('/{a}', '/{a'), /"}"/)
  t.throws(() => compileTemplateRewrite('/{a}', '/*'), /not a literal/)
})
