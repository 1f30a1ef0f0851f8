import fc from 'fast-check'
import t from 'tap'
import type { HttpFilter, HttpStream, Route } from '../../lib/chain/filter.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { entryKey, type RateLimitDescriptor } from '../../lib/ratelimit/descriptor.ts'
import { parseRateLimits, type RateLimitPlace } from '../../lib/ratelimit/parse.ts'
import { decodedParameter } from '../../lib/ratelimit/query.ts'
import {
  collectByRoute,
  compileRateLimits,
  type RateLimitRules,
  type RateLimitSelection,
  type VirtualHostOption,
} from '../../lib/ratelimit/rules.ts'
import { type DriveOptions, drive, parseJson, ROUTE } from '../support/chain-driver.ts'

const SELECTION: RateLimitSelection = { stage: 0, serviceCluster: 'edge', disabled: () => false, onStreamDone: false }

function rulesOf(rateLimits: JsonObject[], place: RateLimitPlace = 'service-filter'): RateLimitRules {
  const { value, errors } = parseJson({ list: rateLimits }, (fields) => parseRateLimits(fields, 'list', place))
  if (errors.length > 0) throw new Error(errors.join('\n'))
  return compileRateLimits(value)
}

/** What a filter would be given of a request. */
function onRequest<T>(
  options: Omit<DriveOptions, 'filters'> & { clientAddress?: string },
  look: (s: HttpStream) => T,
): T {
  let found: { value: T } | undefined
  const before: HttpFilter<unknown> = {
    onRequestHeaders(stream) {
      stream.info.clientAddress = options.clientAddress ?? '192.0.2.7'
      stream.metadata.merge('ns', {
        user: { id: 'u1', empty: '', number: 5 },
        limit: { requests_per_unit: 9, unit: 'HOUR' },
      })
      found = { value: look(stream) }
    },
  }
  const { errors } = drive({ ...options, filters: [before] })
  if (found === undefined) throw new Error(errors.join())
  return found.value
}

function collect(
  rules: RateLimitRules,
  options: Omit<DriveOptions, 'filters'> & { clientAddress?: string } = {},
  selection: Partial<RateLimitSelection> = {},
): RateLimitDescriptor[] {
  return onRequest(options, (stream) => {
    const into: RateLimitDescriptor[] = []
    rules.collect(stream, { ...SELECTION, ...selection }, into)
    return into
  })
}

const entriesOf = (list: RateLimitDescriptor[]): (readonly string[])[] => list.map(({ entries }) => entries)

t.test('every action adds what the request has for it', async (t) => {
  const cases: [JsonObject, readonly string[] | undefined][] = [
    [{ source_cluster: {} }, ['source_cluster', 'edge']],
    [{ destination_cluster: {} }, ['destination_cluster', 'c']],
    [{ remote_address: {} }, ['remote_address', '192.0.2.7']],
    [{ masked_remote_address: { v4_prefix_mask_len: 24 } }, ['masked_remote_address', '192.0.2.0/24']],
    [{ masked_remote_address: {} }, ['masked_remote_address', '192.0.2.7/32']],
    [{ request_headers: { header_name: 'X-User', descriptor_key: 'user' } }, ['user', 'ann']],
    [{ request_headers: { header_name: ':path', descriptor_key: 'path' } }, ['path', '/p?tier=g%6Fld&x']],
    [{ request_headers: { header_name: 'missing', descriptor_key: 'user' } }, undefined],
    [{ query_parameters: { query_parameter_name: 'tier', descriptor_key: 't' } }, ['t', 'gold']],
    [{ query_parameters: { query_parameter_name: 'none', descriptor_key: 't' } }, undefined],
    [{ generic_key: { descriptor_value: 'all' } }, ['generic_key', 'all']],
    [{ generic_key: { descriptor_value: 'all', descriptor_key: 'k' } }, ['k', 'all']],
    [
      { header_value_match: { descriptor_value: 'v', headers: [{ name: 'x-user', string_match: { exact: 'ann' } }] } },
      ['header_match', 'v'],
    ],
    [
      {
        header_value_match: {
          descriptor_value: 'v',
          descriptor_key: 'k',
          expect_match: false,
          headers: [{ name: 'x-user', string_match: { exact: 'carl' } }],
        },
      },
      ['k', 'v'],
    ],
    [{ header_value_match: { descriptor_value: 'v', headers: [{ name: 'x-user' }, { name: 'missing' }] } }, undefined],
    [
      {
        query_parameter_value_match: {
          descriptor_value: 'v',
          query_parameters: [
            { name: 'tier', string_match: { exact: 'gold' } },
            { name: 'x', present_match: true },
          ],
        },
      },
      ['query_match', 'v'],
    ],
    [
      {
        query_parameter_value_match: {
          descriptor_value: 'v',
          expect_match: false,
          query_parameters: [{ name: 'tier' }],
        },
      },
      undefined,
    ],
    [
      {
        remote_address_match: {
          descriptor_value: '%REQ(x-user)%!',
          address_matcher: { ranges: [{ address_prefix: '192.0.2.0', prefix_len: 24 }] },
        },
      },
      ['remote_address_match', 'ann!'],
    ],
    [
      {
        remote_address_match: {
          descriptor_value: '%REQ(missing)%',
          descriptor_key: 'k',
          default_value: 'nobody',
          address_matcher: { ranges: [{ address_prefix: '10.0.0.0', prefix_len: 8 }], invert_match: true },
        },
      },
      ['k', 'nobody'],
    ],
    [
      {
        remote_address_match: {
          descriptor_value: 'v',
          address_matcher: { ranges: [{ address_prefix: '10.0.0.0', prefix_len: 8 }] },
        },
      },
      undefined,
    ],
    [{ metadata: { descriptor_key: 'u', metadata_key: key('ns', 'user', 'id') } }, ['u', 'u1']],
    [{ metadata: { descriptor_key: 'u', metadata_key: key('ns', 'user', 'number') } }, undefined],
    [{ metadata: { descriptor_key: 'u', default_value: 'd', metadata_key: key('ns', 'user', 'empty') } }, ['u', 'd']],
    [{ dynamic_metadata: { descriptor_key: 'u', metadata_key: key('ns', 'user', 'id') } }, ['u', 'u1']],
    [{ metadata: { descriptor_key: 'r', source: 'ROUTE_ENTRY', metadata_key: key('own', 'team') } }, ['r', 'core']],
    [
      {
        extension: {
          name: 'in',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput',
            header_name: 'x-user',
          },
        },
      },
      ['in', 'ann,bob'],
    ],
  ]
  for (const [action, expected] of cases) {
    const found = collect(rulesOf([{ actions: [action] }]), {
      request: ['x-user', 'ann', 'x-user', 'bob'],
      head: { path: '/p?tier=g%6Fld&x' },
      route: { ...ROUTE, metadata: { own: { team: 'core' } } },
    })
    t.same(entriesOf(found), expected === undefined ? [] : [expected], JSON.stringify(action))
  }
})

function key(namespace: string, ...path: string[]): JsonObject {
  return { key: namespace, path: path.map((one) => ({ key: one })) }
}

t.test('an entry that is missing drops its descriptor, or only itself where it may be absent', async (t) => {
  const header = (skip: boolean): JsonObject => ({
    request_headers: { header_name: 'x-a', descriptor_key: 'a', skip_if_absent: skip },
  })
  const generic = { generic_key: { descriptor_value: 'g' } }
  t.same(entriesOf(collect(rulesOf([{ actions: [generic, header(false)] }, { actions: [generic] }]))), [
    ['generic_key', 'g'],
  ])
  t.same(entriesOf(collect(rulesOf([{ actions: [header(true), generic] }]))), [['generic_key', 'g']])
  t.same(collect(rulesOf([{ actions: [header(true)] }])), [], 'a descriptor of nothing is none')
})

t.test('clients that have no IP address have no descriptor by it; v4-mapped addresses are IPv4', async (t) => {
  const rules = rulesOf([
    { actions: [{ remote_address: {} }] },
    { actions: [{ masked_remote_address: { v4_prefix_mask_len: 8, v6_prefix_mask_len: 32 } }] },
  ])
  t.same(entriesOf(collect(rules, { clientAddress: '/run/socket' })), [])
  t.same(entriesOf(collect(rules, { clientAddress: '::ffff:10.1.2.3' })), [
    ['remote_address', '10.1.2.3'],
    ['masked_remote_address', '10.0.0.0/8'],
  ])
  t.same(entriesOf(collect(rules, { clientAddress: '2001:db8:1::9' })), [
    ['remote_address', '2001:db8:1::9'],
    ['masked_remote_address', '2001:db8::/32'],
  ])
})

t.test('hits, overrides and headers come along; hits that are no number drop the descriptor', async (t) => {
  const actions = [{ generic_key: { descriptor_value: 'g' } }]
  const found = collect(
    rulesOf([
      { actions, hits_addend: { number: '7' } },
      { actions, hits_addend: { format: '%REQ(x-cost)%', is_negative_hits: true } },
      { actions, hits_addend: { format: '%REQ(x-bad)%' } },
      { actions, limit: { dynamic_metadata: { metadata_key: key('ns', 'limit') } }, x_ratelimit_option: 'OFF' },
      { actions, limit: { dynamic_metadata: { metadata_key: key('ns', 'user') } } },
      { actions, limit: { rate_limit: { requests_per_unit: 3, unit: 'DAY' } }, x_ratelimit_option: 'DRAFT_VERSION_03' },
    ]),
    { request: ['x-cost', '12', 'x-bad', '-1'] },
  )
  t.same(
    found.map(({ hits, negative, limit, headers }) => ({ hits, negative, limit, headers })),
    [
      { hits: 7, negative: false, limit: undefined, headers: undefined },
      { hits: 12, negative: true, limit: undefined, headers: undefined },
      { hits: 1, negative: false, limit: { requestsPerUnit: 9, unit: 'hour' }, headers: 'off' },
      { hits: 1, negative: false, limit: undefined, headers: undefined },
      { hits: 1, negative: false, limit: { requestsPerUnit: 3, unit: 'day' }, headers: 'draft-03' },
    ],
  )
})

t.test('rules belong to a stage, to one end of the exchange, and may be switched off', async (t) => {
  const value = (descriptor_value: string): JsonObject[] => [{ generic_key: { descriptor_value } }]
  const ofRoute = rulesOf(
    [{ actions: value('zero') }, { actions: value('one'), stage: 1 }, { actions: value('off'), disable_key: 'k' }],
    'route',
  )
  t.same(
    entriesOf(collect(ofRoute)).map(([, v]) => v),
    ['zero', 'off'],
  )
  t.same(
    entriesOf(collect(ofRoute, {}, { stage: 1 })).map(([, v]) => v),
    ['one'],
  )
  t.same(
    entriesOf(collect(ofRoute, {}, { disabled: (name) => name === 'k' })).map(([, v]) => v),
    ['zero'],
  )
  const ofFilter = rulesOf([{ actions: value('begin') }, { actions: value('end'), apply_on_stream_done: true }])
  t.same(
    entriesOf(collect(ofFilter)).map(([, v]) => v),
    ['begin'],
  )
  t.same(
    entriesOf(collect(ofFilter, {}, { onStreamDone: true })).map(([, v]) => v),
    ['end'],
  )
})

t.test(
  "a route's rules take the place of its virtual host's, unless one of them or the filter wants both",
  async (t) => {
    const host = rulesOf([{ actions: [{ generic_key: { descriptor_value: 'host' } }] }], 'route')
    const own = rulesOf([{ actions: [{ generic_key: { descriptor_value: 'own' } }] }], 'route')
    const none = compileRateLimits([])
    const values = (option: VirtualHostOption, rateLimits: Route['rateLimits']): string[] =>
      onRequest({ route: { ...ROUTE, rateLimits } }, (stream) => {
        const into: RateLimitDescriptor[] = []
        collectByRoute(stream, option, SELECTION, into)
        return into.map(({ entries }) => entries[1])
      })
    const both = { route: own, virtualHost: host, includeVirtualHost: false }
    t.same(values('override', both), ['own'])
    t.same(values('include', both), ['own', 'host'])
    t.same(values('ignore', both), ['own'])
    t.same(values('ignore', { ...both, includeVirtualHost: true }), ['own', 'host'])
    t.same(values('override', { ...both, route: none }), ['host'])
    t.same(values('ignore', { ...both, route: none }), [])
    t.same(values('override', undefined), [])
  },
)

t.test('mistakes are found, and what has no effect is refused or reported', async (t) => {
  const errors = (rateLimit: JsonObject, place: RateLimitPlace = 'service-filter'): string[] =>
    parseJson({ list: [rateLimit] }, (fields) => parseRateLimits(fields, 'list', place)).errors
  const actions = [{ source_cluster: {} }]
  t.match(errors({}), [/actions: must not be empty/])
  t.match(errors({ actions: [{}] }), [/an action is required/])
  t.match(errors({ actions: [{ generic_key: {} }] }), [/descriptor_value: must not be empty/])
  t.match(errors({ actions: [{ request_headers: {} }] }), [/header_name/, /descriptor_key/])
  t.match(errors({ actions: [{ header_value_match: { descriptor_value: 'v' } }] }), [/headers: must not be empty/])
  t.match(errors({ actions: [{ masked_remote_address: { v4_prefix_mask_len: 33 } }] }), [/from 0 to 32, not 33/])
  t.match(
    errors({ actions: [{ metadata: { descriptor_key: 'k', source: 'CLUSTER_ENTRY', metadata_key: key('n', 'p') } }] }),
    [/metadata of "CLUSTER_ENTRY" is not available here/],
  )
  t.match(errors({ actions: [{ metadata: { descriptor_key: 'k' } }] }), [/metadata_key: is required/])
  t.match(errors({ actions: [{ remote_address_match: { descriptor_value: '%NO%' } }] }), [
    /NO/,
    /address_matcher: is required/,
  ])
  t.match(errors({ actions, hits_addend: {} }), [/exactly one of number and format/])
  t.match(errors({ actions, hits_addend: { format: 'a%REQ(x)%' } }), [/must be one substitution/])
  t.match(errors({ actions, hits_addend: { number: '2000000000' } }), [/must be a whole number/])
  t.match(errors({ actions, limit: {} }), [/one of dynamic_metadata and rate_limit/])
  t.match(errors({ actions, limit: { rate_limit: {} } }), [/unit: is required/])
  t.match(errors({ actions, stage: 1, disable_key: 'k' }), [/stage: belongs/, /disable_key: belongs/])
  t.match(errors({ actions, stage: 11 }, 'route'), [/stage: must be a whole number from 0 to 10/])
  t.match(errors({ actions, limit: { rate_limit: { unit: 'DAY' } } }, 'local-filter'), [/limit: the local rate limit/])
  t.match(errors({ actions: [{ extension: { name: 'x', typed_config: { '@type': 'type.googleapis.com/a.B' } } }] }), [
    /matcher input "a.B" is not available/,
  ])
})

t.test('different entries never have the same key, however they are spelt', async (t) => {
  const list = fc.array(fc.string({ maxLength: 6 }), { maxLength: 6 })
  fc.assert(
    fc.property(list, list, (a, b) => (entryKey(a) === entryKey(b)) === (JSON.stringify(a) === JSON.stringify(b))),
  )
  t.not(entryKey(['a', 'b1:c']), entryKey(['a', 'b', 'c']))
})

t.test('query parameters are found however they are escaped', async (t) => {
  const same = fc.property(fc.string({ minLength: 1, maxLength: 5 }), fc.string({ maxLength: 5 }), (name, value) => {
    const escaped = (text: string): string =>
      [...Buffer.from(text, 'latin1')].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')
    const latin = (text: string): string => Buffer.from(text, 'latin1').toString('latin1')
    return (
      decodedParameter(`/p?z=1&${escaped(name)}=${escaped(value)}&${escaped(name)}=2`, latin(name)) === latin(value) ||
      latin(name) === 'z'
    )
  })
  fc.assert(same)
  for (const [path, expected] of [
    ['/p', undefined],
    ['/p?a', ''],
    ['/p?a=', ''],
    ['/p?b=1&a=2#a=3', '2'],
    ['/p?b#?a=1', undefined],
    ['/p?%61=%zz%4', '%zz%4'],
  ] as const) {
    t.equal(decodedParameter(path, 'a'), expected, path)
  }
})
