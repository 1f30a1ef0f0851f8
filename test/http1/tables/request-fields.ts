import { accept, forwarded, get, head, LIMITS, type Pair, type RequestCase, reject, row } from './case.ts'

const HOST = 'Host'
const NAME = 'field name'
const VALUE = 'field value'
const FOLD = 'obs-fold'
const LIMIT = 'limits'
const UNDERSCORE = 'names'

const goodHosts: readonly string[] = [
  'a.example',
  'a.example:80',
  'a.example:0',
  '127.0.0.1',
  '127.0.0.1:8080',
  '[::1]',
  '[::1]:8080',
  'a_b.example',
  'xn--mnchen-3ya.example',
  'a.example.',
  'localhost',
]

const badHosts: readonly (readonly [string, string])[] = [
  ['empty', ''],
  ['a path', 'a.example/b'],
  ['a query', 'a.example?b'],
  ['a fragment', 'a.example#b'],
  ['user information', 'user@a.example'],
  ['a space', 'a.example b.example'],
  ['a list', 'a.example, b.example'],
  ['a backslash', 'a.example\\b'],
  ['a port that is no number', 'a.example:http'],
  ['a port with a sign', 'a.example:+80'],
  ['an empty port', 'a.example:'],
  ['a port out of range', 'a.example:65536'],
  ['two ports', 'a.example:80:80'],
  ['only a port', ':80'],
  ['IPv6 without brackets', '::1'],
  ['IPv6 without its end', '[::1'],
  ['empty brackets', '[]'],
  ['text after the brackets', '[::1]a'],
  ['a zone', '[fe80::1%25eth0]'],
  ['8-bit', 'm\xfcnchen.example'],
  ['NBSP at the end', 'a.example\xa0'],
  ['a broken escape', 'a%zz.example'],
  ['a scheme', 'http://a.example'],
  ['a less-than sign', '<a.example>'],
]

const badNames: readonly (readonly [string, string])[] = [
  ['a space before the colon', 'X-A : b'],
  ['a tab before the colon', 'X-A\t: b'],
  ['no name', ': b'],
  ['no colon', 'X-A'],
  ['a space within', 'X A: b'],
  ['a parenthesis', 'X(A): b'],
  ['quotes', '"X-A": b'],
  ['a slash', 'X/A: b'],
  ['a semicolon', 'X;A: b'],
  ['an at sign', 'X@A: b'],
  ['a brace', 'X{A}: b'],
  ['8-bit', 'X-\xc4: b'],
  ['NUL', 'X\0A: b'],
  ['a control character', 'X\x01A: b'],
  ['DEL', 'X\x7fA: b'],
  ['a vertical tab before the colon', 'Content-Length\x0b: 5'],
  ['a pseudo-header', ':path: /evil'],
  ['bare CR', 'X\rA: b'],
  ['a space before the colon of Content-Length', 'Content-Length : 5'],
  ['a space before the colon of Transfer-Encoding', 'Transfer-Encoding : chunked'],
]

const badValues: readonly (readonly [string, string])[] = [
  ['NUL', 'a\0b'],
  ['NUL at the end', 'a\0'],
  ['SOH', 'a\x01b'],
  ['BEL', '\x07'],
  ['vertical tab', 'a\x0bb'],
  ['form feed', 'a\x0cb'],
  ['escape', 'a\x1b[31m'],
  ['DEL', 'a\x7fb'],
  ['bare CR', 'a\rb'],
  ['bare CR at the end', 'a\r'],
  ['a vertical tab in front, which is no blank', '\x0ba'],
]

const goodValues: readonly (readonly [string, string, string])[] = [
  ['no blank after the colon', 'X-V:a', 'a'],
  ['blanks on both sides', 'X-V: \t a \t ', 'a'],
  ['nothing', 'X-V:', ''],
  ['only blanks', 'X-V:  \t ', ''],
  ['blanks within', 'X-V: a  b\tc', 'a  b\tc'],
  ['colons', 'X-V: a: b::c', 'a: b::c'],
  ['obs-text kept byte by byte', 'X-V: caf\xe9 \xff\x80', 'caf\xe9 \xff\x80'],
  ['NBSP is no blank', 'X-V: \xa0a\xa0', '\xa0a\xa0'],
  ['NEL is no line end', 'X-V: a\x85b', 'a\x85b'],
  [
    'every visible character',
    'X-V: !"#$%&\'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~',
    '!"#$%&\'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~',
  ],
]

const folds: readonly (readonly [string, readonly string[]])[] = [
  ['with a space', ['X-A: a', ' b']],
  ['with a tab', ['X-A: a', '\tb']],
  ['to nothing', ['X-A: a', ' ']],
  ['before the first field', [' X-A: a']],
  ['of Transfer-Encoding', ['Transfer-Encoding:', ' chunked']],
  ['of Content-Length', ['Content-Length:', '\t5']],
  ['that hides a field', ['X-A: a', ' Content-Length: 5']],
]

const field = (name: string, text: string): RequestCase => row(NAME, name, get(text), reject(400))

const many = (count: number): string[] => Array.from({ length: count }, (_, i) => `X-${i}: ${i}`)

const named = (
  settings: RequestCase['settings'],
  name: string,
  fields: readonly Pair[],
  absent: readonly string[],
): RequestCase => {
  const accepted = accept({ fields: [['x_a', 'b']] })
  return row(UNDERSCORE, name, get('X_A: b'), accepted, {
    settings,
    upstream: [forwarded(accepted, { fields, absent })],
  })
}

/** Rows on Host, names, values, folds, counts and sizes. */
export const requestFieldCases: readonly RequestCase[] = [
  ...goodHosts.map((host) =>
    row(HOST, `${host} is good`, head('GET / HTTP/1.1', `Host: ${host}`), accept({ authority: host })),
  ),
  ...badHosts.map(([name, host]) =>
    row(HOST, `refused: ${name}`, head('GET / HTTP/1.1', `Host: ${host}`), reject(400, 'policy')),
  ),
  row(HOST, 'missing', head('GET / HTTP/1.1', 'X-A: b'), reject(400, 'policy')),
  row(HOST, 'missing, and no field at all', head('GET / HTTP/1.1'), reject(400, 'policy')),
  row(HOST, 'missing beside an absolute-form', head('GET http://a.example/ HTTP/1.1'), reject(400, 'policy')),
  row(HOST, 'twice the same', head('GET / HTTP/1.1', 'Host: a.example', 'Host: a.example'), reject(400)),
  row(HOST, 'two different', head('GET / HTTP/1.1', 'Host: a.example', 'Host: b.example'), reject(400)),
  row(HOST, 'twice, in another case', head('GET / HTTP/1.1', 'HOST: a.example', 'host: b.example'), reject(400)),
  row(HOST, 'twice, one of them empty', head('GET / HTTP/1.1', 'Host: a.example', 'Host:'), reject(400)),
  row(
    HOST,
    'twice beside an absolute-form',
    head('GET http://a.example/ HTTP/1.1', 'Host: a.example', 'Host: a.example'),
    reject(400),
  ),
  row(HOST, 'NUL in it', head('GET / HTTP/1.1', 'Host: a.example\0'), reject(400)),
  row(HOST, 'spelled in any case, blanks around it', head('GET / HTTP/1.1', 'hOsT:\t a.example '), accept()),
  ...badNames.map(([name, text]) => field(name, text)),
  row(NAME, 'every token character', get("X!#$%&'*+-.^`|~9: b"), accept({ fields: [["x!#$%&'*+-.^`|~9", 'b']] })),
  row(NAME, 'case does not matter', get('X-MiXeD: b'), accept({ fields: [['x-mixed', 'b']] })),
  row(
    NAME,
    'of an object prototype',
    get('__proto__: b', 'constructor: c'),
    accept({
      fields: [
        ['__proto__', 'b'],
        ['constructor', 'c'],
      ],
    }),
    {
      settings: { underscores: 'allow' },
    },
  ),
  ...badValues.map(([name, value]) => row(VALUE, `refused: ${name}`, get(`X-V: ${value}`), reject(400))),
  row(VALUE, 'refused: bare LF', get('X-V: a\nb'), reject(400)),
  row(VALUE, 'refused: bare LF that hides a field', get('X-V: a\nContent-Length: 5'), reject(400)),
  ...goodValues.map(([name, text, value]) => row(VALUE, name, get(text), accept({ fields: [['x-v', value]] }))),
  row(
    VALUE,
    'repeated fields stay apart and in order',
    get('X-V: 1', 'X-W: x', 'X-V: 2'),
    accept({
      fields: [
        ['x-v', '1'],
        ['x-w', 'x'],
        ['x-v', '2'],
      ],
    }),
  ),
  ...folds.map(([name, lines]) =>
    row(
      FOLD,
      name,
      head(
        'GET / HTTP/1.1',
        ...(name === 'before the first field' ? [...lines, 'Host: a.example'] : ['Host: a.example', ...lines]),
      ),
      reject(400),
    ),
  ),
  row(UNDERSCORE, 'an underscore is refused', get('X_A: b'), reject(400, 'policy')),
  row(UNDERSCORE, 'Transfer_Encoding is refused', get('Transfer_Encoding: chunked'), reject(400, 'policy')),
  named({ underscores: 'allow' }, 'an underscore is let through where that is allowed', [['x_a', 'b']], []),
  named({ underscores: 'drop' }, 'a field with an underscore is dropped where that is asked for', [], ['x_a']),
  row(
    LIMIT,
    'as many fields as there may be',
    get(...many(LIMITS.headers - 1)),
    accept({
      fields: [
        ['x-0', '0'],
        ['x-98', '98'],
      ],
    }),
  ),
  row(LIMIT, 'one field more', get(...many(LIMITS.headers)), reject(431)),
  row(LIMIT, 'many empty fields', get(...Array.from({ length: 2_000 }, () => 'X:')), reject(431)),
  row(
    LIMIT,
    'a large field that fits',
    get(`X-V: ${'v'.repeat(50_000)}`),
    accept({ fields: [['x-v', 'v'.repeat(50_000)]] }),
  ),
  row(LIMIT, 'one field beyond the limit', get(`X-V: ${'v'.repeat(LIMITS.headerBytes)}`), reject(431)),
  row(LIMIT, 'many fields beyond the limit', get(...many(90).map((text) => text + 'v'.repeat(800))), reject(431)),
  row(
    LIMIT,
    'a field that never ends',
    `GET / HTTP/1.1\r\nHost: a.example\r\nX-V: ${'v'.repeat(LIMITS.headerBytes)}`,
    reject(431),
  ),
  row(
    LIMIT,
    'a name that never ends',
    `GET / HTTP/1.1\r\nHost: a.example\r\n${'x'.repeat(LIMITS.headerBytes)}`,
    reject(431),
  ),
  row(
    LIMIT,
    'a head that never ends',
    `GET / HTTP/1.1\r\nHost: a.example\r\n${'X-V: 1\r\n'.repeat(9_000)}`,
    reject(431),
  ),
]
