import {
  accept,
  acceptChunked,
  forwarded,
  get,
  head,
  type Pair,
  post,
  type RequestCase,
  type RowFacts,
  reject,
  row,
} from './case.ts'

const LENGTH = 'Content-Length'
const CODING = 'Transfer-Encoding'
const BOTH = 'smuggling'
const CHUNKS = 'chunks'
const TRAILERS = 'trailers'
const BODY = 'body on GET/HEAD/DELETE'

const badLengths: readonly (readonly [string, string])[] = [
  ['empty', ''],
  ['a plus sign', '+5'],
  ['a minus sign', '-5'],
  ['minus zero', '-0'],
  ['hexadecimal', '0x5'],
  ['hexadecimal digits', '5a'],
  ['an underscore', '1_0'],
  ['a leading zero', '05'],
  ['many zeros', '00'],
  ['a fraction', '5.0'],
  ['an exponent', '5e0'],
  ['a list of equals', '5, 5'],
  ['a list of two', '5, 6'],
  ['an empty list element', '5,'],
  ['a space within', '5 5'],
  ['a tab within', '5\t5'],
  ['quotes', '"5"'],
  ['NBSP behind', '5\xa0'],
  ['NBSP in front', '\xa05'],
  ['a parameter', '5;a=b'],
  ['2^53', '9007199254740992'],
  ['2^63', '9223372036854775808'],
  ['2^64', '18446744073709551616'],
  ['2^64 + 5, which wraps to 5', '18446744073709551621'],
  ['forty digits', '1'.repeat(40)],
  ['other digits', '\xb2'],
]

/** Value, status. 501: a coding we do not know, well-formed; 400: everything else. */
const badCodings: readonly (readonly [string, string, 400 | 501])[] = [
  ['empty', '', 400],
  ['identity', 'identity', 501],
  ['gzip', 'gzip', 501],
  ['a list that ends in chunked', 'gzip, chunked', 501],
  ['chunked not at the end', 'chunked, gzip', 400],
  ['chunked and identity', 'chunked, identity', 400],
  ['identity and chunked', 'identity, chunked', 501],
  ['chunked twice in a list', 'chunked, chunked', 400],
  ['an empty element before', ',chunked', 400],
  ['an empty element behind', 'chunked,', 400],
  ['only a comma', ',', 400],
  ['a letter too many', 'xchunked', 501],
  ['a letter too few', 'chunke', 501],
  ['a letter behind', 'chunkedx', 501],
  ['a parameter', 'chunked;q=1', 400],
  ['quotes', '"chunked"', 400],
  ['apostrophes', "'chunked'", 501],
  ['a space within', 'chun ked', 400],
  ['a word before', 'x chunked', 400],
  ['NBSP in front', '\xa0chunked', 400],
  ['NBSP behind', 'chunked\xa0', 400],
  ['a Kelvin sign, in UTF-8', 'chun\xe2\x84\xaaed', 400],
  ['a colon', ': chunked', 400],
  ['a long s, in latin1 dress', 'chunked\xff', 400],
]

/** Refused by the field rules before the value matters. */
const brokenCodings: readonly (readonly [string, string])[] = [
  ['a vertical tab in front', '\x0bchunked'],
  ['a form feed in front', '\x0cchunked'],
  ['NUL behind', 'chunked\0'],
  ['a vertical tab behind', 'chunked\x0b'],
]

const CH = 'Transfer-Encoding: chunked'
const chunked = (body: string): string => post(CH) + body
const bad = (name: string, body: string): RequestCase =>
  row(CHUNKS, `refused: ${name}`, chunked(body), reject(400, 'body'))
const good = (name: string, body: string, data: string, more?: RowFacts): RequestCase =>
  row(CHUNKS, name, chunked(body), acceptChunked(data), more)
const END = '0\r\n\r\n'
const extensions = (count: number, size: number): string => `1;${'e'.repeat(size - 1)}\r\na\r\n`.repeat(count) + END

const badChunks: readonly (readonly [string, string])[] = [
  ['no size', `\r\nhello\r\n${END}`],
  ['only an extension', `;a\r\nhello\r\n${END}`],
  ['a letter that is no digit', `g\r\nhello\r\n${END}`],
  ['a space in front', ` 5\r\nhello\r\n${END}`],
  ['a space behind', `5 \r\nhello\r\n${END}`],
  ['a tab behind', `5\t\r\nhello\r\n${END}`],
  ['a plus sign', `+5\r\nhello\r\n${END}`],
  ['a minus sign', `-5\r\nhello\r\n${END}`],
  ['0x', `0x5\r\nhello\r\n${END}`],
  ['an underscore', `0_5\r\nhello\r\n${END}`],
  ['a comma', `5,5\r\nhello\r\n${END}`],
  ['a fraction', `5.0\r\nhello\r\n${END}`],
  ['quotes', `"5"\r\nhello\r\n${END}`],
  ['NUL behind', `5\0\r\nhello\r\n${END}`],
  ['NBSP behind', `5\xa0\r\nhello\r\n${END}`],
  ['a space before an extension', `5 ;a\r\nhello\r\n${END}`],
  ['fourteen digits', `00000000000005\r\nhello\r\n${END}`],
  ['sixteen digits', `ffffffffffffffff\r\nhello\r\n${END}`],
  ['seventeen digits, which wrap to 5', `10000000000000005\r\nhello\r\n${END}`],
  ['bare LF behind the size', `5\nhello\r\n${END}`],
  ['bare CR behind the size', `5\rhello\r\n${END}`],
  ['an extension without a name', `5;\r\nhello\r\n${END}`],
  ['bare LF behind an extension', `5;a\nhello\r\n${END}`],
  ['bare CR within an extension', `5;a\rb\r\nhello\r\n${END}`],
  ['NUL within an extension', `5;a\0b\r\nhello\r\n${END}`],
  ['a line end in a quoted extension', `5;a="\r\n"\r\nhello\r\n${END}`],
  ['data shorter than its size', `6\r\nhello\r\n${END}`],
  ['data longer than its size', `4\r\nhello\r\n${END}`],
  ['bare LF behind the data', `5\r\nhello\n${END}`],
  ['bare CR behind the data', `5\r\nhello\r${END}`],
  ['nothing behind the data', `5\r\nhello${END}`],
  ['LF CR behind the data', `5\r\nhello\n\r${END}`],
  ['two bytes other than CRLF behind the data', `5\r\nhelloXX${END}`],
  ['an empty line more behind the data', `5\r\nhello\r\n\r\n${END}`],
  ['bare LF behind the last size', '0\n\r\n'],
  ['bare LF as the last line', '0\r\n\n'],
  ['bare LF twice at the end', '0\n\n'],
  ['a space behind the last size', '0 \r\n\r\n'],
  ['an extension that is too long', `1;${'e'.repeat(300)}\r\na\r\n${END}`],
  ['an extension that never ends', `1;${'e'.repeat(70_000)}`],
  ['extensions that add up', extensions(70, 250)],
]

const trailer = (lines: readonly string[]): string =>
  chunked(`5\r\nhello\r\n0\r\n${lines.map((l) => `${l}\r\n`).join('')}\r\n`)

const badTrailers: readonly (readonly [string, readonly string[]])[] = [
  ['Content-Length', ['Content-Length: 5']],
  ['Transfer-Encoding', ['Transfer-Encoding: chunked']],
  ['Host', ['Host: b.example']],
  ['Authorization', ['Authorization: Basic eDp5']],
  ['Proxy-Authorization', ['Proxy-Authorization: Basic eDp5']],
  ['Cookie', ['Cookie: a=b']],
  ['Connection', ['Connection: close']],
  ['Upgrade', ['Upgrade: websocket']],
  ['X-Forwarded-For', ['X-Forwarded-For: 10.0.0.1']],
  ['Forwarded', ['Forwarded: for=10.0.0.1']],
  ['Content-Type, in another case', ['CONTENT-TYPE: text/html']],
  ['Content-Encoding', ['Content-Encoding: gzip']],
  ['Expect', ['Expect: 100-continue']],
  ['TE', ['TE: trailers']],
  ['a space before the colon', ['X-A : b']],
  ['a fold', ['X-A: a', ' b']],
  ['no colon', ['X-A']],
  ['no name', [': b']],
  ['NUL', ['X-A: a\0']],
  ['bare LF', ['X-A: a\nX-B: b']],
  ['bare CR', ['X-A: a\rX-B: b']],
  ['a request line', ['GET /evil HTTP/1.1', 'Host: a.example']],
  ['more bytes than there may be', [`X-A: ${'t'.repeat(9_000)}`]],
  ['more fields than there may be', Array.from({ length: 101 }, (_, i) => `X-${i}: 1`)],
]

const smuggled = 'GET /evil HTTP/1.1\r\nHost: a.example\r\n\r\n'
const five: Pair = ['content-length', '5']

const withBody = (method: string): RequestCase[] => {
  const counted = accept({ method, framing: 'length', body: 'hello', fields: [five] })
  const inChunks = accept({ method, framing: 'chunked', body: 'hello' })
  const follow = accept({ target: '/2' })
  const next = head('GET /2 HTTP/1.1', 'Host: a.example')
  return [
    row(
      BODY,
      `${method} with a length`,
      `${head(`${method} / HTTP/1.1`, 'Host: a.example', 'Content-Length: 5')}hello${next}`,
      counted,
      { after: [follow] },
    ),
    row(
      BODY,
      `${method} with chunks`,
      `${head(`${method} / HTTP/1.1`, 'Host: a.example', CH)}5\r\nhello\r\n${END}${next}`,
      inChunks,
      { after: [follow] },
    ),
  ]
}

const counted = accept({ method: 'POST', framing: 'length', body: 'hello', fields: [five] })
const kept = acceptChunked('hello', { trailers: [['x-sum', '1']] })

/** Rows on how bodies are delimited: the classic ways to make two readers disagree. */
export const requestFramingCases: readonly RequestCase[] = [
  row(LENGTH, 'a body of five', `${post('Content-Length: 5')}hello`, counted),
  row(LENGTH, 'blanks around it', `${post('Content-Length:\t 5 \t')}hello`, counted),
  row(LENGTH, 'zero', post('Content-Length: 0'), accept({ method: 'POST', fields: [['content-length', '0']] })),
  row(LENGTH, 'none at all', post(), accept({ method: 'POST' })),
  row(
    LENGTH,
    'a body that holds what looks like a request',
    `${post(`Content-Length: ${smuggled.length}`)}${smuggled}`,
    accept({ method: 'POST', framing: 'length', body: smuggled }),
  ),
  row(LENGTH, 'a body that never ends', `${post('Content-Length: 10')}hello`, { kind: 'unfinished', in: 'body' }),
  row(
    LENGTH,
    'more bytes than were announced are the next request',
    `${post('Content-Length: 5')}helloGARBAGE\r\n\r\n`,
    counted,
    { after: [reject(400)], upstream: [forwarded(counted)] },
  ),
  ...badLengths.map(([name, value]) =>
    row(LENGTH, `refused: ${name}`, `${post(`Content-Length: ${value}`)}hello`, reject(400)),
  ),
  row(LENGTH, 'refused: twice the same', `${post('Content-Length: 5', 'Content-Length: 5')}hello`, reject(400)),
  row(LENGTH, 'refused: two different', `${post('Content-Length: 5', 'Content-Length: 0')}hello`, reject(400)),
  row(LENGTH, 'refused: twice, in another case', `${post('Content-Length: 5', 'content-length: 6')}hello`, reject(400)),
  row(LENGTH, 'refused: twice, apart', `${post('Content-Length: 0', 'X-A: b', 'Content-Length: 5')}hello`, reject(400)),
  row(CODING, 'chunked', chunked(`5\r\nhello\r\n${END}`), acceptChunked('hello', { absent: ['transfer-encoding'] }), {
    upstream: [forwarded(acceptChunked('hello'))],
  }),
  row(CODING, 'chunked in capitals', `${post('Transfer-Encoding: CHUNKED')}${END}`, acceptChunked('')),
  row(CODING, 'blanks around it', `${post('Transfer-Encoding: \t chunked \t')}${END}`, acceptChunked('')),
  ...badCodings.map(([name, value, status]) =>
    row(CODING, `refused: ${name}`, `${post(`Transfer-Encoding: ${value}`)}${END}`, reject(status)),
  ),
  ...brokenCodings.map(([name, value]) =>
    row(CODING, `refused: ${name}`, `${post(`Transfer-Encoding:${value}`)}${END}`, reject(400)),
  ),
  row(CODING, 'refused: twice', `${post(CH, CH)}${END}`, reject(400)),
  row(CODING, 'refused: twice, the second unknown', `${post(CH, 'Transfer-Encoding: x')}${END}`, reject(400)),
  row(CODING, 'refused: twice, the first unknown', `${post('Transfer-Encoding: identity', CH)}${END}`, reject(400)),
  row(CODING, 'refused on HTTP/1.0', `${head('POST / HTTP/1.0', 'Host: a.example', CH)}${END}`, reject(400), {
    settings: { http10: true },
  }),
  row(
    CODING,
    'refused on HTTP/1.0 that asks to be kept',
    `${head('POST / HTTP/1.0', 'Host: a.example', 'Connection: keep-alive', CH)}${END}`,
    reject(400),
    { settings: { http10: true } },
  ),
  row(BOTH, 'CL.TE', `${post('Content-Length: 6', CH)}${END}G`, reject(400)),
  row(BOTH, 'CL.TE with a request behind', `${post('Content-Length: 30', CH)}${END}${smuggled}`, reject(400)),
  row(BOTH, 'TE.CL', `${post(CH, 'Content-Length: 4')}28\r\n${smuggled}\r\n${END}`, reject(400)),
  row(BOTH, 'TE.CL with length zero', `${post(CH, 'Content-Length: 0')}${END}`, reject(400)),
  row(BOTH, 'TE.TE, one of them hidden by its value', `${post(CH, 'Transfer-Encoding: cow')}${END}`, reject(400)),
  row(BOTH, 'TE.TE, one of them hidden by a tab', `${post(CH, 'Transfer-Encoding\t: x')}${END}`, reject(400)),
  row(
    BOTH,
    'TE hidden in a fold',
    `${post('X: x', ' Transfer-Encoding: chunked', 'Content-Length: 5')}hello`,
    reject(400),
  ),
  row(
    BOTH,
    'TE hidden behind a bare LF',
    `${post('X: x\nTransfer-Encoding: chunked', 'Content-Length: 5')}hello`,
    reject(400),
  ),
  row(
    BOTH,
    'TE hidden behind a bare CR',
    `${post('X: x\rTransfer-Encoding: chunked', 'Content-Length: 5')}hello`,
    reject(400),
  ),
  row(
    BOTH,
    'a length and an unknown coding',
    `${post('Content-Length: 5', 'Transfer-Encoding: identity')}hello`,
    reject(400),
  ),
  row(BOTH, 'a length and an empty coding', `${post('Content-Length: 5', 'Transfer-Encoding:')}hello`, reject(400)),
  row(
    BOTH,
    'a length on a GET, a request behind it (CL.0)',
    `${get(`Content-Length: ${smuggled.length}`)}${smuggled}`,
    accept({ framing: 'length', body: smuggled }),
  ),
  row(
    BOTH,
    'a coding that only looks like one, in a name',
    `${post('X-Transfer-Encoding: chunked', 'Content-Length: 5')}hello`,
    accept({ method: 'POST', framing: 'length', body: 'hello', fields: [['x-transfer-encoding', 'chunked']] }),
  ),
  ...['GET', 'HEAD', 'DELETE', 'OPTIONS'].flatMap((method) => withBody(method)),
  good('one chunk', `5\r\nhello\r\n${END}`, 'hello'),
  good('many chunks', `1\r\nh\r\n3\r\nell\r\n1\r\no\r\n${END}`, 'hello'),
  good('no data', END, ''),
  good('digits in both cases', `A\r\n0123456789\r\na\r\n0123456789\r\n${END}`, '01234567890123456789'),
  good('leading zeros within thirteen digits', `0000000000005\r\nhello\r\n${END}`, 'hello'),
  good('many zeros at the end', '5\r\nhello\r\n000\r\n\r\n', 'hello'),
  good('data that looks like chunks', `b\r\n0\r\n\r\n5\r\nx\r\n\r\n${END}`, '0\r\n\r\n5\r\nx\r\n'),
  good('extensions are dropped', `5;a=b;c="d e"\r\nhello\r\n0;last\r\n\r\n`, 'hello'),
  good('an extension of the largest size', `1;${'e'.repeat(250)}\r\na\r\n${END}`, 'a'),
  good('extensions that just fit', extensions(60, 250), 'a'.repeat(60)),
  good('a request behind the last chunk', `5\r\nhello\r\n${END}${smuggled}`, 'hello', {
    after: [accept({ target: '/evil' })],
  }),
  row(CHUNKS, 'a body that never ends', chunked('5\r\nhello\r\n'), { kind: 'unfinished', in: 'body' }),
  row(CHUNKS, 'a body that ends before its last line', chunked('5\r\nhello\r\n0\r\n'), {
    kind: 'unfinished',
    in: 'body',
  }),
  row(CHUNKS, 'the largest size there may be', chunked('fffffffffffff\r\nhello'), { kind: 'unfinished', in: 'body' }),
  ...badChunks.map(([name, body]) => bad(name, body)),
  row(TRAILERS, 'are dropped by default', trailer(['X-Sum: 1']), kept, {
    upstream: [forwarded(kept, { absent: ['x-sum'] })],
  }),
  row(
    TRAILERS,
    'of several fields',
    trailer(['X-Sum: 1', 'X-Two: \t2 ']),
    acceptChunked('hello', {
      trailers: [
        ['x-sum', '1'],
        ['x-two', '2'],
      ],
    }),
  ),
  row(TRAILERS, 'are let through where that is allowed', trailer(['X-Sum: 1']), kept, { settings: { trailers: true } }),
  ...badTrailers.map(([name, lines]) => row(TRAILERS, `refused: ${name}`, trailer(lines), reject(400, 'body'))),
]
