import { accept, CRLF, forwarded, head, LIMITS, type RequestCase, reject, row } from './case.ts'

const line = (text: string): string => head(text, 'Host: a.example')

const ENDS = 'line ends'
const LINE = 'request line'
const VERSION = 'version'
const BLANK = 'leading CRLF'
const FORM = 'absolute-form'

const badLines: readonly (readonly [string, string])[] = [
  ['two spaces before the target', 'GET  / HTTP/1.1'],
  ['two spaces before the version', 'GET /  HTTP/1.1'],
  ['space after the version', 'GET / HTTP/1.1 '],
  ['tab before the target', 'GET\t/ HTTP/1.1'],
  ['tab before the version', 'GET /\tHTTP/1.1'],
  ['tab after the version', 'GET / HTTP/1.1\t'],
  ['vertical tab as separator', 'GET\x0b/ HTTP/1.1'],
  ['NBSP as separator', 'GET\xa0/ HTTP/1.1'],
  ['space in the target', 'GET /a b HTTP/1.1'],
  ['space before the method', ' GET / HTTP/1.1'],
  ['tab before the method', '\tGET / HTTP/1.1'],
  ['no method', '/ HTTP/1.1'],
  ['no target', 'GET HTTP/1.1'],
  ['an empty target', 'GET  HTTP/1.1'],
  ['only a method', 'GET'],
  ['a method that is no token', 'GE(T / HTTP/1.1'],
  ['a method with a colon', 'GET: / HTTP/1.1'],
  ['a method in quotes', '"GET" / HTTP/1.1'],
  ['NUL in the method', 'G\0ET / HTTP/1.1'],
  ['8-bit in the method', 'G\xc9T / HTTP/1.1'],
  ['NUL in the target', 'GET /\0 HTTP/1.1'],
  ['a control character in the target', 'GET /\x01 HTTP/1.1'],
  ['DEL in the target', 'GET /\x7f HTTP/1.1'],
  ['8-bit in the target', 'GET /caf\xe9 HTTP/1.1'],
  ['UTF-8 in the target', 'GET /\xc3\xa9 HTTP/1.1'],
  ['a fragment', 'GET /a#b HTTP/1.1'],
  ['only a fragment', 'GET # HTTP/1.1'],
  ['bare CR in the line', 'GET / HTTP/1.1\rX: y'],
  ['bare CR in the target', 'GET /\rX HTTP/1.1'],
  ['a status line', 'HTTP/1.1 200 OK'],
]

const badVersions: readonly string[] = [
  'http/1.1',
  'Http/1.1',
  'HTTP/1',
  'HTTP/1.',
  'HTTP/.1',
  'HTTP/11',
  'HTTP/1.1.1',
  'HTTP/1.10',
  'HTTP/01.1',
  'HTTP/1.01',
  'HTTP/1,1',
  'HTTP/1.a',
  'HTTP/-1.1',
  'HTTP/+1.1',
  'HTTP/ 1.1',
  'HTTP /1.1',
  'HTTPS/1.1',
  'XHTTP/1.1',
  'HTTP1.1',
  'HTTP\\1.1',
  'ICE/1.0',
  'RTSP/1.0',
]

const targets: readonly (readonly [string, string])[] = [
  ['a query with every sub-delimiter', "/a/b;c=1,d/e?f=g&h=%20&i=!$'()*+"],
  ['characters that URIs do not allow but that split nothing', '/"<>\\^`{|}'],
  ['two slashes', '//double//slash'],
  ['dots, not normalised by the codec', '/a/../b/./c'],
  ['percent-encoded slash and NUL', '/a%2Fb%00'],
  ['a colon in the path', '/a:80/b'],
  ['a query with a slash and a question mark', '/?a/b?c'],
]

const methods: readonly string[] = ['HEAD', 'DELETE', 'OPTIONS', 'PATCH', 'PROPFIND', 'get', "M!#$%&'*+-.^_`|~9"]

const longTarget = (size: number): string => `/${'a'.repeat(size - 1)}`
const LINE_OVERHEAD = 'GET  HTTP/1.1'.length
const longest = longTarget(LIMITS.lineBytes - LINE_OVERHEAD)

const absolute = (target: string, host: string, path: string, authority: string): RequestCase => {
  const accepted = accept({ target, authority })
  return row(FORM, `${target} with Host ${host}`, head(`GET ${target} HTTP/1.1`, `Host: ${host}`), accepted, {
    upstream: [forwarded(accepted, { target: path })],
  })
}

const badForms: readonly (readonly [string, string, string])[] = [
  ['Host says another', 'http://a.example/', 'b.example'],
  ['Host says another port', 'http://a.example:81/', 'a.example'],
  ['with user information', 'http://user:pw@a.example/', 'a.example'],
  ['without an authority', 'http:///', 'a.example'],
  ['with an authority that is none', 'http://a b.example/'.replace(' ', '^'), 'a^b.example'],
  ['of another scheme', 'ftp://a.example/', 'a.example'],
  ['of a scheme without slashes', 'mailto:a@a.example', 'a.example'],
  ['with a port out of range', 'http://a.example:65536/', 'a.example:65536'],
]

/** Rows on line ends, the request line, its version, its target forms and its length. */
export const requestLineCases: readonly RequestCase[] = [
  row(ENDS, 'CRLF everywhere', line('GET / HTTP/1.1'), accept()),
  row(ENDS, 'bare LF after the request line', 'GET / HTTP/1.1\nHost: a.example\r\n\r\n', reject(400)),
  row(ENDS, 'bare LF after a field', 'GET / HTTP/1.1\r\nHost: a.example\n\r\n', reject(400)),
  row(ENDS, 'bare LF as the empty line', 'GET / HTTP/1.1\r\nHost: a.example\r\n\n', reject(400)),
  row(ENDS, 'bare LF everywhere', 'GET / HTTP/1.1\nHost: a.example\n\n', reject(400)),
  row(ENDS, 'bare CR after the request line', 'GET / HTTP/1.1\rHost: a.example\r\n\r\n', reject(400)),
  row(ENDS, 'bare CR after a field', 'GET / HTTP/1.1\r\nHost: a.example\rX: y\r\n\r\n', reject(400)),
  row(ENDS, 'CR CR LF after a field', 'GET / HTTP/1.1\r\nHost: a.example\r\r\n\r\n', reject(400)),
  row(ENDS, 'LF CR after a field', 'GET / HTTP/1.1\r\nHost: a.example\n\r\n\r\n', reject(400)),
  row(
    ENDS,
    'CR and a letter as the empty line',
    'GET / HTTP/1.1\r\nHost: a.example\r\n\rXGET /evil HTTP/1.1\r\n\r\n',
    reject(400),
  ),
  row(ENDS, 'CR CR LF as the empty line', 'GET / HTTP/1.1\r\nHost: a.example\r\n\r\r\n\r\n', reject(400)),
  row(BLANK, 'one empty line before the request', `${CRLF}${line('GET / HTTP/1.1')}`, accept()),
  row(BLANK, 'two empty lines before the request', `${CRLF}${CRLF}${line('GET / HTTP/1.1')}`, reject(400)),
  row(BLANK, 'a bare LF before the request', `\n${line('GET / HTTP/1.1')}`, reject(400)),
  row(BLANK, 'a bare CR before the request', `\r${line('GET / HTTP/1.1')}`, reject(400)),
  row(
    BLANK,
    'one empty line between two requests',
    `${line('GET / HTTP/1.1')}${CRLF}${line('GET /2 HTTP/1.1')}`,
    accept(),
    {
      after: [accept({ target: '/2' })],
    },
  ),
  ...badLines.map(([name, text]) => row(LINE, name, line(text), reject(400))),
  ...targets.map(([name, target]) => row(LINE, name, line(`GET ${target} HTTP/1.1`), accept({ target }))),
  ...methods.map((method) => row(LINE, `method ${method}`, line(`${method} / HTTP/1.1`), accept({ method }))),
  row(LINE, 'a request in the middle of a line', 'GET / HTTP/1.1\r\nHo', { kind: 'unfinished', in: 'head' }),
  row(LINE, 'half a head and then silence', 'GET / HTTP/1.1\r\nHost: a.exa', reject(408, 'deadline')),
  row(LINE, 'the longest line there may be', line(`GET ${longest} HTTP/1.1`), accept({ target: longest })),
  row(LINE, 'a line longer by one', line(`GET ${longest}a HTTP/1.1`), reject(414)),
  row(LINE, 'a line that never ends', `GET ${longTarget(LIMITS.lineBytes + 200)}`, reject(414)),
  row(LINE, 'a method that never ends', 'A'.repeat(LIMITS.lineBytes + 200), reject(414)),
  ...badVersions.map((version) => row(VERSION, `${version} is none`, line(`GET / ${version}`), reject(400))),
  row(VERSION, 'HTTP/0.9 by its line', 'GET /\r\n\r\n', reject(400)),
  row(VERSION, 'HTTP/0.9 by name', line('GET / HTTP/0.9'), reject(505)),
  row(VERSION, 'HTTP/1.2', line('GET / HTTP/1.2'), reject(505)),
  row(VERSION, 'HTTP/2.0', line('GET / HTTP/2.0'), reject(505)),
  row(VERSION, 'HTTP/3.0', line('GET / HTTP/3.0'), reject(505)),
  row(VERSION, 'the HTTP/2 preface to an HTTP/1 listener', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', reject(505), {
    settings: { http1Only: true },
  }),
  row(VERSION, 'HTTP/1.0 where it is off', line('GET / HTTP/1.0'), reject(426, 'policy')),
  row(VERSION, 'HTTP/1.0 where it is on', line('GET / HTTP/1.0'), accept({ minor: 0, keepAlive: false }), {
    settings: { http10: true },
  }),
  row(
    VERSION,
    'HTTP/1.0 that asks to be kept',
    head('GET / HTTP/1.0', 'Host: a.example', 'Connection: keep-alive'),
    accept({ minor: 0 }),
    {
      settings: { http10: true },
    },
  ),
  row(
    VERSION,
    'HTTP/1.0 with a length',
    `${head('POST / HTTP/1.0', 'Host: a.example', 'Content-Length: 2')}ab`,
    accept({ method: 'POST', minor: 0, framing: 'length', body: 'ab', keepAlive: false }),
    {
      settings: { http10: true },
    },
  ),
  absolute('http://a.example/', 'a.example', '/', 'a.example'),
  absolute('http://a.example/p?q', 'a.example', '/p?q', 'a.example'),
  absolute('http://a.example', 'a.example', '/', 'a.example'),
  absolute('http://a.example?q', 'a.example', '/?q', 'a.example'),
  absolute('http://a.example:81/p', 'a.example:81', '/p', 'a.example:81'),
  ...badForms.map(([name, target, host]) =>
    row(FORM, name, head(`GET ${target} HTTP/1.1`, `Host: ${host}`), reject(400, 'policy')),
  ),
  row(
    FORM,
    'refused where it is off',
    head('GET http://a.example/ HTTP/1.1', 'Host: a.example'),
    reject(400, 'policy'),
    {
      settings: { noAbsoluteForm: true },
    },
  ),
  row(FORM, 'a path without its slash', line('GET path HTTP/1.1'), reject(400, 'policy')),
  row(FORM, 'only a query', line('GET ?q HTTP/1.1'), reject(400, 'policy')),
  row(FORM, 'authority-form without CONNECT', line('GET a.example:80 HTTP/1.1'), reject(400, 'policy')),
  row(FORM, 'asterisk-form without OPTIONS', line('GET * HTTP/1.1'), reject(400, 'policy')),
  row(FORM, 'asterisk-form of OPTIONS', line('OPTIONS * HTTP/1.1'), accept({ method: 'OPTIONS', target: '*' })),
  row(
    'CONNECT',
    'is off by default',
    head('CONNECT a.example:443 HTTP/1.1', 'Host: a.example:443'),
    // No route that is not made for CONNECT matches it.
    reject(404, 'policy'),
  ),
  row('CONNECT', 'with a path', head('CONNECT / HTTP/1.1', 'Host: a.example'), reject(400, 'policy')),
  row('CONNECT', 'without a port', head('CONNECT a.example HTTP/1.1', 'Host: a.example'), reject(400, 'policy')),
  row(
    'CONNECT',
    'of an absolute URI',
    head('CONNECT http://a.example:443/ HTTP/1.1', 'Host: a.example:443'),
    reject(400, 'policy'),
  ),
]
