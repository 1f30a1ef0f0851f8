import t from 'tap'
import { headerMutation } from '../../filters/header-mutation/index.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { Headers } from '../../lib/core/headers.ts'
import { build, type Driven, drive, lines, parseJson } from '../support/chain-driver.ts'

function append(key: string, value: string, more: JsonObject = {}): JsonObject {
  return { append: { header: { key, value }, ...more } }
}

function through(mutations: JsonObject, more: Partial<Parameters<typeof drive>[0]> = {}): Driven {
  return drive({ filters: [build(headerMutation, { mutations })], ...more })
}

t.test('request headers are removed, added and overwritten, one step after the other', async (t) => {
  const driven = through(
    {
      request_mutations: [
        append('X-New', 'a %REQ(x-old)% 100%%'),
        { remove: 'X-Old' },
        append('x-after', '%REQ(x-old)%', { keep_empty_value: true }),
        append('x-gone', '%REQ(x-old)%'),
        append('x-copy', '%REQ(x-new)%'),
        { remove_on_match: { key_matcher: { prefix: 'internal-' } } },
        append('x-many', '2'),
        append('x-many', 'never', { append_action: 'ADD_IF_ABSENT' }),
        append('x-absent', '1', { append_action: 'ADD_IF_ABSENT' }),
        append('x-over', 'new', { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }),
        append('x-over2', 'new', { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }),
        append('x-exists', 'new', { append_action: 'OVERWRITE_IF_EXISTS' }),
        append('x-missing', 'new', { append_action: 'OVERWRITE_IF_EXISTS' }),
        append('x-legacy', 'new', { append: false }),
      ],
    },
    {
      request: [
        ...['x-old', 'o', 'internal-a', '1', 'x-many', '1', 'internal-b', '2', 'x-over', '1', 'x-over', '2'],
        ...['x-exists', '1', 'x-legacy', '1'],
      ],
    },
  )
  t.same(lines(driven.upstream.headers), [
    'x-many: 1',
    'x-over: new',
    'x-exists: new',
    'x-legacy: new',
    'x-new: a o 100%',
    'x-after: ',
    'x-copy: a o 100%',
    'x-many: 2',
    'x-absent: 1',
    'x-over2: new',
  ])
})

t.test('responses and the trailers of both directions have steps of their own', async (t) => {
  const driven = through(
    {
      response_mutations: [append('x-status', '%RESPONSE_CODE% %RESP(server)%'), { remove: 'server' }],
      request_trailers_mutations: [append('x-up', '1'), { remove: 'a' }],
      response_trailers_mutations: [append('x-down', '1'), { remove: 'b' }],
    },
    { end: false },
  )
  driven.exchange.requestTrailers(new Headers(['a', '1']))
  t.same(lines(driven.upstream.trailersReceived), ['x-up: 1'])
  driven.exchange.upstreamHeaders(201, new Headers(['server', 's']), false)
  driven.exchange.upstreamTrailers(new Headers(['b', '1']))
  t.same(lines(driven.downstream.headers), ['x-status: 201 s'])
  t.same(lines(driven.downstream.trailers), ['x-down: 1'])
})

t.test('query parameters are changed in place, the others keep their spelling and order', async (t) => {
  const query = (steps: readonly JsonObject[], path: string, request: readonly string[] = []): string | undefined =>
    through({ query_parameter_mutations: [...steps] }, { head: { path }, request }).upstream.head?.path
  const write = (key: string, value: string, action?: string): JsonObject => ({
    append: { record: { key, value }, ...(action !== undefined && { action }) },
  })
  t.equal(query([{ remove: 'b' }], '/p?c=%7E&b=1&a&b'), '/p?c=%7E&a')
  t.equal(query([{ remove: 'b' }], '/p?b=1'), '/p')
  t.equal(query([{ remove: 'b' }], '/p?'), '/p?')
  t.equal(query([{ remove: 'a b' }], '/p?a+b=1&a%20b=2&%61%20b=3&ab=4'), '/p?ab=4', 'no spelling gets past')
  t.equal(query([{ remove: '%' }], '/p?%=1&%zz=2'), '/p?%zz=2', 'broken escapes are taken literally')
  t.equal(query([write('k', 'a b&c=\u00e9')], '/p'), '/p?k=a%20b%26c%3D%C3%A9')
  t.equal(query([write('k', '%REQ(x)%')], '/p?k=1', ['x', '?&']), '/p?k=1&k=%3F%26')
  t.equal(query([write('k', 'v', 'ADD_IF_ABSENT')], '/p?k'), '/p?k')
  t.equal(query([write('k', 'v', 'ADD_IF_ABSENT')], '/p?j'), '/p?j&k=v')
  t.equal(query([write('k', 'v', 'OVERWRITE_IF_EXISTS')], '/p?j'), '/p?j')
  t.equal(query([write('k', 'v', 'OVERWRITE_IF_EXISTS')], '/p?a&k=1&b&k=2'), '/p?a&k=v&b')
  t.equal(query([write('k', 'v', 'OVERWRITE_IF_EXISTS_OR_ADD')], '/p'), '/p?k=v')
  t.equal(query([{ remove: 'a' }, write('a', '2')], '/p?a=1'), '/p?a=2')
  t.equal(
    through({ query_parameter_mutations: [write('k', 'v')] }, { head: { method: 'CONNECT', path: '' } }).upstream.head
      ?.path,
    '',
  )
})

t.test(
  'the mutations of all levels are applied after its own, the most specific first unless it is to win',
  async (t) => {
    const level = (name: string): JsonObject => ({
      mutations: {
        request_mutations: [append('x', name), append('who', name, { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' })],
      },
    })
    const levels = [level('table'), level('host'), level('route')]
    const order = (more: JsonObject): unknown => {
      const driven = drive({ filters: [build(headerMutation, { ...level('own'), ...more }, { levels })] })
      return [driven.upstream.headers.getAll('x').join(), driven.upstream.headers.get('who')]
    }
    t.same(order({}), ['own,route,host,table', 'table'])
    t.same(order({ most_specific_header_mutations_wins: true }), ['own,table,host,route', 'route'])
  },
)

t.test('an empty configuration has no hooks at all', async (t) => {
  t.same(Object.keys(build(headerMutation, {}) ?? {}), [])
})

t.test('a value from a request cannot break out of its header', async (t) => {
  const driven = through(
    { response_mutations: [append('x', '%QUERY_PARAM(y)%')] },
    { head: { path: '/?y=a%0d%0aset-cookie:%20b' } },
  )
  driven.upstream.respond(200)
  t.match(driven.downstream.headers.get('x'), /^a.*set-cookie: b$/)
  t.notMatch(driven.downstream.headers.get('x'), /[\r\n]/)
})

t.test('mistakes are all found', async (t) => {
  const { errors } = parseJson(
    {
      mutations: {
        request_mutations: [
          {},
          { remove: ':path' },
          append('Host', 'x'),
          append('bad name', 'x'),
          append('x', '%NO_SUCH%'),
          append('x', 'a\nb'),
          append('x', '1', { append_action: 'SOMEHOW' }),
          append('x', '1', { append_action: 'ADD_IF_ABSENT', append: true }),
          { append: {} },
          { append: { header: { key: 'x', value: '1', raw_value: 'eA==' } } },
          { remove_on_match: {} },
          { remove_on_match: { key_matcher: { safe_regex: { regex: '(' } } } },
          { remove: 'x', surprise: 1 },
        ],
        query_parameter_mutations: [
          {},
          { remove: 'a', append: { record: { key: 'a', value: 'b' } } },
          { append: {} },
          { append: { record: { key: '', value: 7 } } },
          { append: { entry: { key: 'a' }, record: { key: 'a', value: 'b' } } },
        ],
        formatters: [{ name: 'f' }],
        more: 1,
      },
    },
    (fields) => headerMutation.parse(fields),
  )
  const request = (i: number, rest = ''): string => `mutations.request_mutations[${i}]${rest}`
  const query = (i: number, rest = ''): string => `mutations.query_parameter_mutations[${i}]${rest}`
  t.same(
    new Set(errors.map((error) => error.slice(0, error.indexOf(': ')))),
    new Set([
      request(0),
      request(1, '.remove'),
      request(2, '.append.header.key'),
      request(3, '.append.header.key'),
      request(4, '.append.header.value'),
      request(5, '.append.header.value'),
      request(6, '.append.append_action'),
      request(7, '.append.append'),
      request(8, '.append.header'),
      request(9, '.append.header.raw_value'),
      request(10, '.remove_on_match'),
      request(11, '.remove_on_match.key_matcher.safe_regex.regex'),
      request(12, '.surprise'),
      query(0),
      query(1),
      query(2, '.append.record'),
      query(3, '.append.record.key'),
      query(3, '.append.record.value'),
      query(4, '.append.entry'),
      'mutations.formatters',
      'mutations.more',
    ]),
  )
})
