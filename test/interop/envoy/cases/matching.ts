import { but, type Data, type Group, get, post, request, says, TYPE } from '../group.ts'

const any = { prefix: '/' }
const header = (name: string, more: Data): Data => ({ ...any, headers: [{ name, ...more }] })
const query = (name: string, more: Data): Data => ({ ...any, query_parameters: [{ name, ...more }] })
const vhost = (name: string, ...domains: string[]): { [name: string]: unknown } => ({
  name,
  domains,
  routes: [says(name, any)],
})

const hosts: Group = {
  name: 'hosts',
  virtualHosts: [
    vhost('exact', 'exact.example', 'UPPER.example'),
    vhost('port', 'port.example:8080'),
    vhost('suffix-long', '*.long.suffix.example'),
    vhost('suffix', '*.suffix.example', '*-dash.example'),
    vhost('prefix', 'prefix.*'),
    vhost('prefix-long', 'prefix.long.*'),
    vhost('rest', '*'),
  ],
  probes: [
    ...[
      'exact.example',
      'EXACT.Example',
      'upper.example',
      'exact.example:80',
      'exact.example:9999',
      'port.example:8080',
      'port.example',
      'a.suffix.example',
      'suffix.example',
      '.suffix.example',
      'a.b.suffix.example',
      'a.long.suffix.example',
      'long.suffix.example',
      'a-dash.example',
      '-dash.example',
      'prefix.com',
      'prefix.',
      'prefix.long.com',
      'prefix.long.',
      'a.suffix.example:8080',
      'prefix.com:8080',
      'exact.example.',
      '127.0.0.1',
      '[::1]:80',
      'other',
    ].map((host) => get('/', `host: ${host}`)),
    get('http://exact.example/', 'host: other.example'),
    get('http://exact.example:80/', 'host: exact.example'),
    get('https://exact.example/', 'host: exact.example'),
  ],
}

const hostsWithoutPorts: Group = {
  name: 'hosts_without_ports',
  routeConfig: { ignore_port_in_host_matching: true },
  virtualHosts: [vhost('exact', 'exact.example'), vhost('port', 'port.example:8080'), vhost('suffix', '*.s.example')],
  probes: ['exact.example:1234', 'port.example:8080', 'port.example', 'a.s.example:1', 'exact.example:', 'other'].map(
    (host) => get('/', `host: ${host}`),
  ),
}

const paths: Group = {
  name: 'paths',
  routes: [
    says('exact', { path: '/exact' }),
    says('exact-folded', { path: '/Folded/Exact', case_sensitive: false }),
    says('separated', { path_separated_prefix: '/separated/a' }),
    says('separated-folded', { path_separated_prefix: '/Separated/Folded', case_sensitive: false }),
    says('regex', { safe_regex: { regex: '/regex/[0-9]+' } }),
    says('regex-folded', { safe_regex: { regex: '(?i)/regex/[a-c]+' } }),
    says('regex-case-sensitive-false', { safe_regex: { regex: '/RE/x' }, case_sensitive: false }),
    says('regex-alternation', { safe_regex: { regex: '/alt|/alt/b' } }),
    says('template', {
      path_match_policy: {
        name: 'template',
        typed_config: {
          '@type': `${TYPE}envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig`,
          path_template: '/template/{one}/x/{rest=**}',
        },
      },
    }),
    says('template-star', {
      path_match_policy: {
        name: 'template',
        typed_config: {
          '@type': `${TYPE}envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig`,
          path_template: '/star/*/end.{ext=*}',
        },
      },
    }),
    says('prefix-folded', { prefix: '/Folded', case_sensitive: false }),
    says('prefix', { prefix: '/prefix' }),
    says('prefix-slash', { prefix: '/slash/' }),
    says('connect', { connect_matcher: {} }),
  ],
  probes: [
    ...[
      '/exact',
      '/exact/',
      '/EXACT',
      '/exact?a=b',
      '/exact?',
      '/exact%20',
      '/exac%74',
      '/folded/EXACT',
      '/folded/exactly',
      '/separated/a',
      '/separated/a/',
      '/separated/a/b',
      '/separated/ab',
      '/separated/a?x',
      '/separated/A',
      '/separated/folded/x',
      '/regex/12',
      '/regex/12?x=1',
      '/regex/12/',
      '/a/regex/12',
      '/REGEX/abc',
      '/regex/abcd',
      '/re/x',
      '/alt',
      '/alt/b',
      '/alt/c',
      '/template/a/x/b',
      '/template/a/x/b/c/d',
      '/template/a/x/',
      '/template/a/x',
      '/template//x/b',
      '/template/a/y/b',
      '/template/a%2Fb/x/c?q=1',
      '/star/a/end.html',
      '/star/a/b/end.html',
      '/star/a/end.',
      '/star/a/endxhtml',
      '/prefix',
      '/prefixes',
      '/prefix/x?y',
      '/PREFIX',
      '/slash',
      '/slash/',
      '/slash/a',
      '/nothing',
      '/',
      '//exact',
      '/./exact',
      '/exact;v=1',
      '/exact/..',
    ].map((path) => get(path)),
    { name: 'OPTIONS *', send: request('OPTIONS', '*') },
    { name: 'a fragment', send: request('GET', '/exact#fragment') },
    { name: 'CONNECT', send: request('CONNECT', 'a.example:443', 'host: a.example:443') },
  ],
}

const headers: Group = {
  name: 'headers',
  routes: [
    says('exact', header('x-exact', { string_match: { exact: 'Value' } })),
    says('folded', header('x-folded', { string_match: { exact: 'Value', ignore_case: true } })),
    says('prefix', header('x-prefix', { string_match: { prefix: 'pre' } })),
    says('prefix-folded', header('x-prefix-folded', { string_match: { prefix: 'Pre', ignore_case: true } })),
    says('suffix', header('x-suffix', { string_match: { suffix: 'fix' } })),
    says('contains', header('x-contains', { string_match: { contains: 'mid' } })),
    says('contains-folded', header('x-contains-folded', { string_match: { contains: 'Mid', ignore_case: true } })),
    says('regex', header('x-regex', { string_match: { safe_regex: { regex: '[a-z]+' } } })),
    says('old-exact', header('x-old-exact', { exact_match: 'old' })),
    says('old-prefix', header('x-old-prefix', { prefix_match: 'old' })),
    says('old-suffix', header('x-old-suffix', { suffix_match: 'old' })),
    says('old-contains', header('x-old-contains', { contains_match: 'old' })),
    says('old-regex', header('x-old-regex', { safe_regex_match: { regex: 'o.d' } })),
    says('range', header('x-range', { range_match: { start: -10, end: 20 } })),
    says('present', header('x-present', { present_match: true })),
    says('bare', header('x-bare', {})),
    says('invert-exact', {
      ...any,
      headers: [
        { name: 'x-on-invert', present_match: true },
        { name: 'x-invert', string_match: { exact: 'no' }, invert_match: true },
      ],
    }),
    says('invert-empty', {
      ...any,
      headers: [
        { name: 'x-on-empty', present_match: true },
        { name: 'x-empty', string_match: { exact: 'no' }, invert_match: true, treat_missing_header_as_empty: true },
      ],
    }),
    says('empty-exact', {
      ...any,
      headers: [
        { name: 'x-on-empty-exact', present_match: true },
        { name: 'x-empty-exact', string_match: { exact: '' }, treat_missing_header_as_empty: true },
      ],
    }),
    says('absent', {
      ...any,
      headers: [
        { name: 'x-on-absent', present_match: true },
        { name: 'x-absent', present_match: false },
      ],
    }),
    says('absent-inverted', {
      ...any,
      headers: [
        { name: 'x-on-absent-inverted', present_match: true },
        { name: 'x-absent-inverted', present_match: true, invert_match: true },
      ],
    }),
    says('range-inverted', {
      ...any,
      headers: [
        { name: 'x-on-range-inverted', present_match: true },
        { name: 'x-range-inverted', range_match: { start: 0, end: 10 }, invert_match: true },
      ],
    }),
    says('method', header(':method', { string_match: { exact: 'PUT' } })),
    says('pseudo-path', header(':path', { string_match: { suffix: '?query' } })),
    says('pseudo-authority', header(':authority', { string_match: { prefix: 'authority' } })),
    says('host', header('host', { string_match: { prefix: 'hosted' } })),
    says('pseudo-scheme', header(':scheme', { string_match: { exact: 'https' } })),
    says('grpc', { ...any, grpc: {} }),
    says('two', {
      ...any,
      headers: [
        { name: 'x-one', string_match: { exact: '1' } },
        { name: 'x-two', string_match: { exact: '2' } },
      ],
    }),
    says('cookie', header('cookie', { string_match: { contains: 'k=v' } })),
  ],
  probes: [
    ...[
      ['x-exact: Value'],
      ['x-exact: value'],
      ['x-exact:  Value  '],
      ['x-exact: Value', 'x-exact: Value'],
      ['x-exact: Value,Value'],
      ['x-folded: VALUE'],
      ['x-prefix: prefix'],
      ['x-prefix: Prefix'],
      ['x-prefix: other', 'x-prefix: prefix'],
      ['x-prefix-folded: PREFIX'],
      ['x-suffix: suffix'],
      ['x-suffix: suffix', 'x-suffix: other'],
      ['x-contains: a mid b'],
      ['x-contains-folded: a MID b'],
      ['x-regex: abc'],
      ['x-regex: abc1'],
      ['x-regex: abc', 'x-regex: def'],
      ['x-old-exact: old'],
      ['x-old-prefix: older'],
      ['x-old-suffix: too old'],
      ['x-old-contains: a old b'],
      ['x-old-regex: odd'],
      ['x-old-regex: oldest'],
      ['x-range: 5'],
      ['x-range: -10'],
      ['x-range: -11'],
      ['x-range: 19'],
      ['x-range: 20'],
      ['x-range: 5x'],
      ['x-range: 5.0'],
      ['x-range: +5'],
      ['x-range: 005'],
      ['x-range: '],
      ['x-range: 5', 'x-range: 6'],
      ['x-present: '],
      ['x-present: a'],
      ['x-bare: '],
      ['x-on-invert: 1'],
      ['x-on-invert: 1', 'x-invert: no'],
      ['x-on-invert: 1', 'x-invert: yes'],
      ['x-on-empty: 1'],
      ['x-on-empty: 1', 'x-empty: no'],
      ['x-on-empty-exact: 1'],
      ['x-on-empty-exact: 1', 'x-empty-exact: a'],
      ['x-on-absent: 1'],
      ['x-on-absent: 1', 'x-absent: a'],
      ['x-on-absent-inverted: 1'],
      ['x-on-absent-inverted: 1', 'x-absent-inverted: a'],
      ['x-on-range-inverted: 1'],
      ['x-on-range-inverted: 1', 'x-range-inverted: 5'],
      ['x-on-range-inverted: 1', 'x-range-inverted: 50'],
      ['x-on-range-inverted: 1', 'x-range-inverted: a'],
      ['host: authority.example'],
      ['host: hosted.example'],
      ['x-forwarded-proto: https'],
      ['content-type: application/grpc'],
      ['content-type: application/grpc+proto'],
      ['content-type: application/grpc-web'],
      ['content-type: application/grpcx'],
      ['x-one: 1', 'x-two: 2'],
      ['x-one: 1'],
      ['cookie: a=b; k=v'],
      ['cookie: a=b', 'cookie: k=v'],
    ].map((lines) => get('/', ...lines)),
    get('/?query'),
    { name: 'PUT', send: request('PUT', '/', 'content-length: 0') },
    but(post('/', 'body', 'x-exact: Value'), { name: 'POST with a header that matches' }),
  ],
}

const queries: Group = {
  name: 'queries',
  routes: [
    says('exact', query('exact', { string_match: { exact: 'a b' } })),
    says('encoded', query('encoded', { string_match: { exact: 'a%20b' } })),
    says('plus', query('plus', { string_match: { exact: 'a+b' } })),
    says('empty', query('empty', { string_match: { exact: '' } })),
    says('prefix', query('prefix', { string_match: { prefix: 'pre' } })),
    says('regex', query('regex', { string_match: { safe_regex: { regex: '[0-9]+' } } })),
    says('present', query('present', { present_match: true })),
    says('bare', query('bare', {})),
    says('absent', {
      ...any,
      query_parameters: [
        { name: 'on', present_match: true },
        { name: 'off', present_match: false },
      ],
    }),
    says('both', {
      ...any,
      query_parameters: [
        { name: 'one', string_match: { exact: '1' } },
        { name: 'two', string_match: { exact: '2' } },
      ],
    }),
    says('odd name', query('a[]', { present_match: true })),
  ],
  probes: [
    '/?exact=a b'.replace(' ', '%20'),
    '/?exact=a+b',
    '/?encoded=a%20b',
    '/?plus=a+b',
    '/?empty=',
    '/?empty',
    '/?prefix=prefix',
    '/?x=1&prefix=pre',
    '/?prefix=other&prefix=pre',
    '/?prefix=pre&prefix=other',
    '/?regex=12',
    '/?regex=12a',
    '/?present',
    '/?present=',
    '/?bare',
    '/?Bare',
    '/?on',
    '/?on&off',
    '/?one=1&two=2',
    '/?two=2&one=1',
    '/?one=1',
    '/?one=1;two=2',
    '/?a[]=1',
    '/?a%5B%5D=1',
    '/?=x&bare',
    '/?&&bare',
    '/?x?bare',
    '/?bare#x',
    '/??bare',
  ].map((path) => get(path)),
}

const cookies: Group = {
  name: 'cookies',
  routes: [
    says('exact', { ...any, cookies: [{ name: 'session', string_match: { exact: 'abc' } }] }),
    says('inverted', {
      ...any,
      headers: [{ name: 'x-on', present_match: true }],
      cookies: [{ name: 'other', string_match: { exact: 'abc' }, invert_match: true }],
    }),
  ],
  probes: [
    get('/', 'cookie: session=abc'),
    get('/', 'cookie: a=b; session=abc'),
    get('/', 'cookie: a=b;session=abc'),
    get('/', 'cookie: session="abc"'),
    get('/', 'cookie: session=abc; session=x'),
    get('/', 'cookie: session=x; session=abc'),
    get('/', 'cookie: Session=abc'),
    get('/', 'cookie: a=b', 'cookie: session=abc'),
    get('/', 'cookie: session = abc'),
    get('/', 'x-on: 1'),
    get('/', 'x-on: 1', 'cookie: other=abc'),
    get('/', 'x-on: 1', 'cookie: other=x'),
  ],
}

const fractions: Group = {
  name: 'fractions',
  routes: [
    says('never', { ...any, runtime_fraction: { default_value: { numerator: 0, denominator: 'HUNDRED' } } }),
    says('always', { ...any, runtime_fraction: { default_value: { numerator: 1_000_000, denominator: 'MILLION' } } }),
  ],
  probes: [get('/')],
}

const action = (word: string): Data => ({
  action: {
    name: 'route',
    typed_config: { '@type': `${TYPE}envoy.config.route.v3.Route`, ...says(word, any) },
  },
})
const input = (name: string): Data => ({
  name: 'header',
  typed_config: { '@type': `${TYPE}envoy.type.matcher.v3.HttpRequestHeaderMatchInput`, header_name: name },
})

const trees: Group = {
  name: 'trees',
  virtualHosts: [
    {
      name: 'list',
      domains: ['list.example'],
      matcher: {
        matcher_list: {
          matchers: [
            {
              predicate: {
                and_matcher: {
                  predicate: [
                    { single_predicate: { input: input('x-a'), value_match: { exact: '1' } } },
                    {
                      not_matcher: { single_predicate: { input: input('x-b'), value_match: { prefix: '2' } } },
                    },
                  ],
                },
              },
              on_match: action('and-not'),
            },
            {
              predicate: { single_predicate: { input: input(':path'), value_match: { prefix: '/path' } } },
              on_match: action('path'),
            },
          ],
        },
        on_no_match: action('none'),
      },
    },
    {
      name: 'tree',
      domains: ['tree.example'],
      matcher: {
        matcher_tree: {
          input: input('x-tree'),
          exact_match_map: { map: { a: action('a'), b: action('b') } },
        },
      },
    },
    {
      name: 'prefixes',
      domains: ['prefixes.example'],
      matcher: {
        matcher_tree: {
          input: input(':path'),
          prefix_match_map: { map: { '/a': action('a'), '/a/b': action('a-b') } },
        },
      },
    },
  ],
  probes: [
    get('/', 'host: list.example', 'x-a: 1'),
    get('/', 'host: list.example', 'x-a: 1', 'x-b: 1'),
    get('/', 'host: list.example', 'x-a: 1', 'x-b: 22'),
    get('/path', 'host: list.example'),
    get('/other', 'host: list.example'),
    get('/', 'host: tree.example', 'x-tree: a'),
    get('/', 'host: tree.example', 'x-tree: b'),
    get('/', 'host: tree.example', 'x-tree: c'),
    get('/', 'host: tree.example'),
    get('/', 'host: tree.example', 'x-tree: a', 'x-tree: b'),
    get('/a/c', 'host: prefixes.example'),
    get('/a/b/c', 'host: prefixes.example'),
    get('/b', 'host: prefixes.example'),
  ],
}

export const matching: readonly Group[] = [hosts, hostsWithoutPorts, paths, headers, queries, cookies, fractions, trees]
