import { type Data, type Group, get, request, TYPE, to } from '../group.ts'

const redirect = (path: string, fields: Data): Data => ({ match: { prefix: path }, redirect: fields })
const exact = (path: string, fields: Data): Data => ({ match: { path }, redirect: fields })

const redirects: Group = {
  name: 'redirects',
  routes: [
    redirect('/https', { https_redirect: true }),
    redirect('/scheme', { scheme_redirect: 'ftp' }),
    redirect('/host', { host_redirect: 'new.example' }),
    redirect('/port', { port_redirect: 8443 }),
    redirect('/all', { https_redirect: true, host_redirect: 'new.example', port_redirect: 8443, path_redirect: '/x' }),
    redirect('/path', { path_redirect: '/new' }),
    redirect('/path-query', { path_redirect: '/new?a=b' }),
    redirect('/prefix', { prefix_rewrite: '/new' }),
    redirect('/slash/', { prefix_rewrite: '/' }),
    redirect('/regex', { regex_rewrite: { pattern: { regex: '^/regex/([^/]+)' }, substitution: '/\\1/moved' } }),
    redirect('/302', { path_redirect: '/n', response_code: 'FOUND' }),
    redirect('/303', { path_redirect: '/n', response_code: 'SEE_OTHER' }),
    redirect('/307', { path_redirect: '/n', response_code: 'TEMPORARY_REDIRECT' }),
    redirect('/308', { path_redirect: '/n', response_code: 'PERMANENT_REDIRECT' }),
    redirect('/strip', { https_redirect: true, strip_query: true }),
    redirect('/host-port', { host_redirect: 'new.example:99' }),
    redirect('/https-443', { https_redirect: true, port_redirect: 443 }),
    exact('/exactly', { prefix_rewrite: '/replaced' }),
    redirect('/fragment', { path_redirect: '/new#part' }),
    {
      match: { prefix: '/with-headers' },
      redirect: { path_redirect: '/n' },
      response_headers_to_add: [{ header: { key: 'x-added', value: 'yes' } }],
    },
    { match: { path: '/path1' }, redirect: {} },
  ].sort((a, b) => length(b) - length(a)),
  probes: [
    get('/https/a?b=c'),
    get('/https', 'host: a.example:80'),
    get('/https', 'host: a.example:8080'),
    get('/https', 'host: a.example:443'),
    get('/https', 'host: [::1]:80'),
    get('/https', 'host: A.Example'),
    get('/https', 'x-forwarded-proto: https'),
    get('/scheme?x'),
    get('/scheme', 'host: a.example:80'),
    get('/host/a?b'),
    get('/host', 'host: a.example:8080'),
    get('/port?x=1'),
    get('/port', 'host: a.example:8080'),
    get('/port', 'host: [::1]'),
    get('/all/a?b'),
    get('/path/a?b=c'),
    get('/path-query?x=y'),
    get('/prefix/a?b'),
    get('/prefix?b'),
    get('/slash/a'),
    get('/slash/?b'),
    get('/regex/one/two?three'),
    get('/302'),
    get('/303'),
    get('/307'),
    get('/308'),
    get('/strip/a?b=c'),
    get('/host-port?a'),
    get('/https-443', 'host: a.example:80'),
    get('/exactly?q'),
    get('/fragment?q'),
    get('/with-headers'),
    get('/path1'),
    get('/https/%2e%2E/a%20b'),
    { name: 'HEAD', send: request('HEAD', '/https') },
    { name: 'POST', send: `${request('POST', '/https', 'content-length: 3')}abc` },
    { name: 'gRPC', send: request('POST', '/https', 'content-type: application/grpc', 'content-length: 0') },
  ],
}

function length(route: Data): number {
  const match = route.match as { prefix?: string; path?: string }
  return (match.prefix ?? match.path ?? '').length
}

const requireTls: Group = {
  name: 'require_tls',
  virtualHosts: [
    { name: 'all', domains: ['all.example'], require_tls: 'ALL', routes: [to({ prefix: '/' })] },
    { name: 'external', domains: ['external.example'], require_tls: 'EXTERNAL_ONLY', routes: [to({ prefix: '/' })] },
  ],
  probes: [
    get('/a?b', 'host: all.example'),
    get('/a?b', 'host: all.example:80'),
    get('/a?b', 'host: all.example', 'x-forwarded-proto: https'),
    get('/a?b', 'host: external.example'),
  ],
}

const direct: Group = {
  name: 'direct',
  routeConfig: { response_headers_to_add: [{ header: { key: 'x-config', value: 'c' } }] },
  routes: [
    { match: { path: '/empty' }, direct_response: { status: 204 } },
    { match: { path: '/bodiless' }, direct_response: { status: 200 } },
    { match: { path: '/text' }, direct_response: { status: 503, body: { inline_string: 'sorry' } } },
    { match: { path: '/not-modified' }, direct_response: { status: 304, body: { inline_string: 'x' } } },
    {
      match: { path: '/typed' },
      direct_response: { status: 200, body: { inline_string: '{}' } },
      response_headers_to_add: [
        { header: { key: 'content-type', value: 'application/json' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
      ],
    },
    { match: { path: '/bytes' }, direct_response: { status: 200, body: { inline_bytes: 'AAEC/w==' } } },
    {
      match: { path: '/formatted' },
      direct_response: {
        status: 200,
        body: { inline_string: 'inner' },
        body_format: { text_format_source: { inline_string: '<%LOCAL_REPLY_BODY%|%REQ(:PATH)%|%RESPONSE_CODE%>' } },
      },
    },
    { match: { path: '/418' }, direct_response: { status: 418 } },
    { match: { path: '/599' }, direct_response: { status: 599, body: { inline_string: 'x' } } },
  ],
  probes: [
    get('/empty'),
    get('/bodiless'),
    get('/text'),
    get('/not-modified'),
    get('/typed'),
    get('/bytes'),
    get('/formatted'),
    get('/418'),
    get('/599'),
    { name: 'HEAD', send: request('HEAD', '/text') },
    { name: 'POST', send: `${request('POST', '/text', 'content-length: 3')}abc` },
    { name: 'POST chunked', send: `${request('POST', '/text', 'transfer-encoding: chunked')}3\r\nabc\r\n0\r\n\r\n` },
    { name: 'gRPC', send: request('POST', '/text', 'content-type: application/grpc', 'content-length: 0') },
    { name: 'gRPC to a 404', send: request('POST', '/none', 'content-type: application/grpc', 'content-length: 0') },
    { name: 'gRPC to a 200', send: request('POST', '/typed', 'content-type: application/grpc', 'content-length: 0') },
  ],
}

const template = (name: string): string => `${TYPE}envoy.extensions.path.${name}`

const rewrites: Group = {
  name: 'rewrites',
  routes: [
    to({ prefix: '/p/' }, { prefix_rewrite: '/' }),
    to({ prefix: '/q' }, { prefix_rewrite: '/' }),
    to({ prefix: '/r' }, { prefix_rewrite: '/new' }),
    to({ prefix: '/s/' }, { prefix_rewrite: '/new/' }),
    to({ path: '/exact' }, { prefix_rewrite: '/replaced' }),
    to({ path_separated_prefix: '/sep' }, { prefix_rewrite: '/new' }),
    to({ path_separated_prefix: '/root' }, { prefix_rewrite: '/' }),
    to({ safe_regex: { regex: '/re/.*' } }, { prefix_rewrite: '/whole' }),
    to({ prefix: '/Fold', case_sensitive: false }, { prefix_rewrite: '/new' }),
    to({ prefix: '/x/' }, { regex_rewrite: { pattern: { regex: '/([a-z])([0-9])' }, substitution: '/\\2\\1' } }),
    to({ prefix: '/one/' }, { regex_rewrite: { pattern: { regex: '^/one' }, substitution: '\\0/two' } }),
    to({ prefix: '/none/' }, { regex_rewrite: { pattern: { regex: 'zzz' }, substitution: 'y' } }),
    to(
      {
        path_match_policy: {
          name: 'm',
          typed_config: {
            '@type': template('match.uri_template.v3.UriTemplateMatchConfig'),
            path_template: '/t/{a}/{b=**}',
          },
        },
      },
      {
        path_rewrite_policy: {
          name: 'r',
          typed_config: {
            '@type': template('rewrite.uri_template.v3.UriTemplateRewriteConfig'),
            path_template_rewrite: '/{b}/of/{a}',
          },
        },
      },
    ),
    to({ prefix: '/literal' }, { host_rewrite_literal: 'literal.example' }),
    to({ prefix: '/by-header' }, { host_rewrite_header: 'x-host' }),
    to(
      { prefix: '/by-path' },
      { host_rewrite_path_regex: { pattern: { regex: '^/by-path/([^/?]+).*$' }, substitution: '\\1.example' } },
    ),
    to({ prefix: '/auto' }, { auto_host_rewrite: true, cluster: 'named' }),
    to({ prefix: '/append' }, { host_rewrite_literal: 'b.example', append_x_forwarded_host: true }),
    to({ prefix: '/unchanged-append' }, { append_x_forwarded_host: true }),
    to({ prefix: '/hash' }, { prefix_rewrite: '/a' }),
  ],
  clusters: [
    {
      name: 'named',
      type: 'STATIC',
      load_assignment: {
        cluster_name: 'named',
        endpoints: [
          {
            lb_endpoints: [
              {
                endpoint: {
                  hostname: 'named.example',
                  address: { socket_address: { address: '127.0.0.1', port_value: '@ORIGIN@' } },
                },
              },
            ],
          },
        ],
      },
    },
  ],
  probes: [
    ...[
      '/p/',
      '/p/a',
      '/p/?x=1',
      '/p',
      '/q',
      '/q/a',
      '/qa?b',
      '/r',
      '/r/a?b=c',
      '/rx',
      '/s/',
      '/s/a',
      '/exact',
      '/exact?a',
      '/sep',
      '/sep/',
      '/sep/a?b',
      '/root',
      '/root/',
      '/root/a',
      '/re/abc',
      '/re/abc?x=1',
      '/fOLD/x',
      '/x/a1/b2?c3',
      '/one/a',
      '/none/a?b',
      '/t/1/2',
      '/t/1/2/3?q=4',
      '/literal?x',
      '/by-path/sub/x?y',
      '/by-path',
      '/auto',
      '/append',
      '/unchanged-append',
    ].map((path) => get(path)),
    get('/by-header', 'x-host: from.header'),
    get('/by-header', 'x-host: '),
    get('/by-header'),
    get('/append', 'x-forwarded-host: before.example'),
    get('/literal', 'x-envoy-original-host: mine'),
    get('/p/a', 'x-envoy-original-path: /mine'),
  ],
}

const suppressed: Group = {
  name: 'suppressed',
  router: { suppress_envoy_headers: true },
  routes: [
    to({ prefix: '/p/' }, { prefix_rewrite: '/new/' }),
    to({ prefix: '/host' }, { host_rewrite_literal: 'b.example' }),
    to({ prefix: '/closed' }, { cluster: 'closed' }),
    to({ prefix: '/' }),
  ],
  probes: [
    get('/p/a'),
    get('/host'),
    get('/closed'),
    get('/', 'x-envoy-expected-rq-timeout-ms: 10'),
    get('/', 'x-script: raw=envoy-headers'),
  ],
}

export const redirecting: readonly Group[] = [redirects, requireTls, direct, rewrites, suppressed]
