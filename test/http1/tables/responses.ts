import { LIMITS } from './case.ts'
import { answer, broken, ok, type ResponseCase, refused, responseRow, whole } from './response-case.ts'

const STATUS = 'status line'
const ENDS = 'line ends'
const FIELD = 'fields'
const LENGTH = 'Content-Length'
const CODING = 'Transfer-Encoding'
const CHUNKS = 'chunks'
const CLOSE = 'up to the close'
const BODYLESS = 'bodyless'
const INTERIM = '1xx'
const REUSE = 'reuse'
const LIMIT = 'limits'
const EARLY = 'early end'

const CL5 = 'Content-Length: 5'
const CH = 'Transfer-Encoding: chunked'
const END = '0\r\n\r\n'
const hello = `${ok(CL5)}hello`
const inChunks = whole({ framing: 'chunked' })
const chunked = (body: string): string => ok(CH) + body
const none = (status: number, facts: Partial<Parameters<typeof whole>[0]> = {}): ReturnType<typeof whole> =>
  whole({ status, framing: 'none', body: '', ...facts })

const badStatusLines: readonly string[] = [
  'HTTP/2.0 200 OK',
  'HTTP/1.2 200 OK',
  'HTTP/0.9 200 OK',
  'http/1.1 200 OK',
  'HTTP/1.1.1 200 OK',
  'HTTP/1 200 OK',
  'ICY 200 OK',
  'HTTP/1.1  200 OK',
  'HTTP/1.1\t200 OK',
  ' HTTP/1.1 200 OK',
  'HTTP/1.1 20 OK',
  'HTTP/1.1 2000 OK',
  'HTTP/1.1 0200 OK',
  'HTTP/1.1 099 OK',
  'HTTP/1.1 -20 OK',
  'HTTP/1.1 2x0 OK',
  'HTTP/1.1 200OK',
  'HTTP/1.1 OK',
  'HTTP/1.1',
  'HTTP/1.1 200 a\0b',
  'HTTP/1.1 200 a\x0bb',
  'HTTP/1.1 200 a\x7fb',
  'GET / HTTP/1.1',
  '<!doctype html><html>hello</html>',
  '\x15\x03\x01\x00\x02\x02\x28',
]

const badFields: readonly (readonly [string, string])[] = [
  ['no colon', 'X-A'],
  ['no name', ': b'],
  ['8-bit in the name', 'X-\xc4: b'],
  ['NUL in the name', 'X\0A: b'],
  ['NUL in the value', 'X-A: a\0b'],
  ['a vertical tab in the value', 'X-A: a\x0bb'],
  ['escape in the value', 'X-A: \x1b[2J'],
  ['DEL in the value', 'X-A: \x7f'],
  ['bare CR in the value', 'X-A: a\rSet-Cookie: b=c'],
  ['bare LF in the value', 'X-A: a\nSet-Cookie: b=c'],
  ['a fold with a space', 'X-A: a\r\n b'],
  ['a fold with a tab', 'X-A: a\r\n\tb'],
  ['a pseudo-header', ':status: 200'],
]

const badLengths: readonly string[] = [
  '',
  '+5',
  '-5',
  '05',
  '0x5',
  '5, 5',
  '5, 6',
  '5 5',
  '5\xa0',
  '5.0',
  '1_0',
  '9007199254740992',
  '18446744073709551621',
]
const badCodings: readonly string[] = [
  '',
  'identity',
  'gzip',
  'gzip, chunked',
  'chunked, gzip',
  'chunked, chunked',
  ',chunked',
  'xchunked',
  '"chunked"',
  'chunked;q=1',
  'chunked\xa0',
]

const badChunks: readonly (readonly [string, string])[] = [
  ['no size', `\r\nhello\r\n${END}`],
  ['a size that is no number', `g\r\nhello\r\n${END}`],
  ['a space behind the size', `5 \r\nhello\r\n${END}`],
  ['a sign', `+5\r\nhello\r\n${END}`],
  ['0x', `0x5\r\nhello\r\n${END}`],
  ['fourteen digits', `00000000000005\r\nhello\r\n${END}`],
  ['bare LF behind the size', `5\nhello\r\n${END}`],
  ['bare LF behind an extension', `5;a\nhello\r\n${END}`],
  ['bare LF behind the data', `5\r\nhello\n${END}`],
  ['data longer than its size', `4\r\nhello\r\n${END}`],
  ['an extension that is too long', `5;${'e'.repeat(300)}\r\nhello\r\n${END}`],
  ['bare LF as the last line', '5\r\nhello\r\n0\r\n\n'],
  ['a trailer that frames', '5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n'],
  ['a trailer that sets a cookie', '5\r\nhello\r\n0\r\nSet-Cookie: a=b\r\n\r\n'],
  ['a trailer without a colon', '5\r\nhello\r\n0\r\nX-A\r\n\r\n'],
  ['trailers without end', `5\r\nhello\r\n0\r\nX-A: ${'t'.repeat(9_000)}`],
]

const many = (count: number): string[] => Array.from({ length: count }, (_, i) => `X-${i}: ${i}`)
const interim = (...statuses: readonly number[]): string =>
  statuses.map((s) => answer(`HTTP/1.1 ${s} Interim`, 'X-I: 1')).join('')

/** Every response row of edge-safety §3.3: what an upstream may say, and what becomes of it. */
export const responseCases: readonly ResponseCase[] = [
  responseRow(STATUS, 'an ordinary response', hello, whole()),
  responseRow(STATUS, 'no reason', `${answer('HTTP/1.1 200 ', CL5)}hello`, whole()),
  responseRow(
    STATUS,
    'a reason with blanks and obs-text',
    `${answer('HTTP/1.1 200 Tr\xe8s\tbien  fait', CL5)}hello`,
    whole(),
  ),
  responseRow(STATUS, 'a status that nobody knows', `${answer('HTTP/1.1 299 Odd', CL5)}hello`, whole({ status: 299 })),
  responseRow(
    STATUS,
    'HTTP/1.0 ends with the connection',
    `${answer('HTTP/1.0 200 OK', CL5)}hello`,
    whole({ reusable: false }),
    { ends: 'fin' },
  ),
  responseRow(
    STATUS,
    'HTTP/1.0 that is kept',
    `${answer('HTTP/1.0 200 OK', CL5, 'Connection: keep-alive')}hello`,
    whole(),
  ),
  ...badStatusLines.map((line) =>
    responseRow(STATUS, `refused: ${JSON.stringify(line)}`, `${answer(line, CL5)}hello`, refused(), { ends: 'fin' }),
  ),
  responseRow(ENDS, 'bare LF everywhere', 'HTTP/1.1 200 OK\nContent-Length: 5\n\nhello', refused()),
  responseRow(ENDS, 'bare LF behind the status line', 'HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello', refused()),
  responseRow(ENDS, 'bare LF behind a field', 'HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\nhello', refused()),
  responseRow(ENDS, 'bare LF as the empty line', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello', refused(), {
    ends: 'fin',
  }),
  responseRow(ENDS, 'bare CR behind the status line', 'HTTP/1.1 200 OK\rContent-Length: 5\r\n\r\nhello', refused()),
  responseRow(ENDS, 'CR CR LF behind a field', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\r\n\r\nhello', refused()),
  responseRow(
    FIELD,
    'repeated fields stay apart and in order',
    `${ok('Set-Cookie: a=1', CL5, 'Set-Cookie: b=2')}hello`,
    whole({
      fields: [
        ['set-cookie', 'a=1'],
        ['set-cookie', 'b=2'],
      ],
    }),
  ),
  responseRow(
    FIELD,
    'obs-text is kept byte by byte',
    `${ok('X-A: caf\xe9\xff', CL5)}hello`,
    whole({ fields: [['x-a', 'caf\xe9\xff']] }),
  ),
  responseRow(FIELD, 'an empty value', `${ok('X-A:', CL5)}hello`, whole({ fields: [['x-a', '']] })),
  responseRow(
    FIELD,
    'a space before the colon is taken away (RFC 9112 §5.1)',
    `${ok('X-A : b', CL5)}hello`,
    whole({ fields: [['x-a', 'b']] }),
  ),
  responseRow(
    FIELD,
    'a space before the colon of Content-Length is taken away',
    `${ok('Content-Length : 5')}hello`,
    whole({ fields: [['content-length', '5']] }),
  ),
  responseRow(
    FIELD,
    'what Connection lists is stripped',
    `${ok('Connection: X-Hop', 'X-Hop: 1', 'Keep-Alive: timeout=5', CL5)}hello`,
    whole({ absent: ['x-hop', 'connection', 'keep-alive'] }),
  ),
  responseRow(
    FIELD,
    'an Upgrade on a 200 is no upgrade',
    `${ok('Connection: Upgrade', 'Upgrade: websocket', CL5)}hello`,
    whole({ absent: ['upgrade', 'connection'] }),
  ),
  responseRow(
    FIELD,
    'Connection cannot take the framing away',
    `${ok('Connection: Content-Length', CL5)}hello`,
    whole(),
  ),
  ...badFields.map(([name, text]) => responseRow(FIELD, `refused: ${name}`, `${ok(text, CL5)}hello`, refused())),
  responseRow(LENGTH, 'zero', ok('Content-Length: 0'), whole({ framing: 'none', body: '' })),
  ...badLengths.map((value) =>
    responseRow(LENGTH, `refused: ${JSON.stringify(value)}`, `${ok(`Content-Length: ${value}`)}hello`, refused()),
  ),
  responseRow(LENGTH, 'refused: twice the same', `${ok(CL5, CL5)}hello`, refused()),
  responseRow(LENGTH, 'refused: two different', `${ok(CL5, 'Content-Length: 0')}hello`, refused()),
  responseRow(CODING, 'chunked', chunked(`5\r\nhello\r\n${END}`), inChunks),
  responseRow(CODING, 'chunked in capitals', `${ok('Transfer-Encoding: Chunked')}5\r\nhello\r\n${END}`, inChunks),
  ...badCodings.map((value) =>
    responseRow(
      CODING,
      `refused: ${JSON.stringify(value)}`,
      `${ok(`Transfer-Encoding: ${value}`)}5\r\nhello\r\n${END}`,
      refused(),
      { ends: 'fin' },
    ),
  ),
  responseRow(CODING, 'refused: twice', `${ok(CH, CH)}5\r\nhello\r\n${END}`, refused()),
  responseRow(
    CODING,
    'beside a length: chunked counts, the length goes, no reuse',
    `${ok(CL5, CH)}5\r\nhello\r\n${END}`,
    whole({ framing: 'chunked', reusable: false, absent: ['content-length'] }),
  ),
  responseRow(
    CODING,
    'beside a length, in the other order',
    `${ok(CH, 'Content-Length: 3')}5\r\nhello\r\n${END}`,
    whole({ framing: 'chunked', reusable: false, absent: ['content-length'] }),
  ),
  responseRow(
    CODING,
    'on HTTP/1.0 means nothing: up to the close, no reuse',
    `${answer('HTTP/1.0 200 OK', CH)}5\r\nhello\r\n${END}`,
    whole({ framing: 'close', body: `5\r\nhello\r\n${END}`, reusable: false }),
    { ends: 'fin' },
  ),
  responseRow(
    CHUNKS,
    'many chunks, extensions dropped',
    chunked(`1;a=b\r\nh\r\n3;c\r\nell\r\n01\r\no\r\n${END}`),
    inChunks,
  ),
  responseRow(CHUNKS, 'no data', chunked(END), whole({ framing: 'chunked', body: '' })),
  responseRow(
    CHUNKS,
    'trailers',
    chunked('5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n'),
    whole({ framing: 'chunked', trailers: [['x-sum', '1']] }),
  ),
  ...badChunks.map(([name, body]) => responseRow(CHUNKS, `broken: ${name}`, chunked(body), broken())),
  responseRow(CLOSE, 'a clean end', `${ok()}hello`, whole({ framing: 'close', reusable: false }), { ends: 'fin' }),
  responseRow(CLOSE, 'no body at all', ok(), whole({ framing: 'close', body: '', reusable: false }), { ends: 'fin' }),
  responseRow(
    CLOSE,
    'keep-alive cannot save it',
    `${ok('Connection: keep-alive')}hello`,
    whole({ framing: 'close', reusable: false }),
    { ends: 'fin' },
  ),
  responseRow(CLOSE, 'a reset is no end', `${ok()}hello`, broken(), { ends: 'reset' }),
  responseRow(BODYLESS, 'HEAD with a length', ok(CL5), none(200, { fields: [['content-length', '5']] }), {
    method: 'HEAD',
  }),
  responseRow(BODYLESS, 'HEAD with chunked', ok(CH), none(200), { method: 'HEAD' }),
  responseRow(BODYLESS, 'HEAD with no framing', ok(), none(200), { method: 'HEAD' }),
  responseRow(BODYLESS, 'HEAD with a body all the same: surplus', hello, none(200, { reusable: false }), {
    method: 'HEAD',
  }),
  responseRow(BODYLESS, '204', answer('HTTP/1.1 204 No Content'), none(204)),
  responseRow(
    BODYLESS,
    '204 with a length and a body: surplus',
    `${answer('HTTP/1.1 204 No Content', CL5)}hello`,
    none(204, { reusable: false }),
  ),
  responseRow(
    BODYLESS,
    '304 with a length',
    answer('HTTP/1.1 304 Not Modified', CL5),
    none(304, { fields: [['content-length', '5']] }),
  ),
  responseRow(
    BODYLESS,
    '304 with a body all the same: surplus',
    `${answer('HTTP/1.1 304 Not Modified', CL5)}hello`,
    none(304, { reusable: false }),
  ),
  responseRow(INTERIM, '100, then the response', `${interim(100)}${hello}`, whole({ interim: [100] })),
  responseRow(
    INTERIM,
    '102 and 103, then the response',
    `${interim(102, 103)}${hello}`,
    whole({ interim: [102, 103] }),
  ),
  responseRow(
    INTERIM,
    'ten of them',
    `${interim(...Array.from({ length: 10 }, () => 103))}${hello}`,
    whole({ interim: Array.from({ length: 10 }, () => 103) }),
  ),
  responseRow(
    INTERIM,
    'more than ten',
    `${interim(...Array.from({ length: 11 }, () => 103))}${hello}`,
    refused(502, 'client'),
  ),
  responseRow(INTERIM, 'without end', interim(...Array.from({ length: 500 }, () => 103)), refused(502, 'client')),
  responseRow(
    INTERIM,
    '101 that nobody asked for',
    answer('HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket'),
    refused(502, 'client'),
  ),
  responseRow(INTERIM, 'and then the end', interim(103), refused(503), { ends: 'fin' }),
  responseRow(
    REUSE,
    'Connection: close',
    `${ok(CL5, 'Connection: close')}hello`,
    whole({ reusable: false, absent: ['connection'] }),
    { ends: 'fin' },
  ),
  responseRow(REUSE, 'close within a list', `${ok(CL5, 'Connection: foo, CLOSE')}hello`, whole({ reusable: false }), {
    ends: 'fin',
  }),
  responseRow(REUSE, 'bytes behind the body', `${hello}XX`, whole({ reusable: false })),
  responseRow(REUSE, 'a second response that nobody asked for', `${hello}${hello}`, whole({ reusable: false })),
  responseRow(
    REUSE,
    'bytes behind the last chunk',
    `${chunked(`5\r\nhello\r\n${END}`)}XX`,
    whole({ framing: 'chunked', reusable: false }),
  ),
  responseRow(REUSE, 'an empty line behind the body', `${hello}\r\n`, whole({ reusable: false })),
  responseRow(LIMIT, 'as many fields as there may be', `${ok(...many(LIMITS.headers - 1), CL5)}hello`, whole()),
  responseRow(LIMIT, 'one field more', `${ok(...many(LIMITS.headers), CL5)}hello`, refused()),
  responseRow(
    LIMIT,
    'a field beyond the limit',
    `${ok(`X-A: ${'v'.repeat(LIMITS.headerBytes)}`, CL5)}hello`,
    refused(502),
  ),
  responseRow(LIMIT, 'a head that never ends', `HTTP/1.1 200 OK\r\n${'X-A: 1\r\n'.repeat(9_000)}`, refused(502)),
  responseRow(EARLY, 'before the first byte', '', refused(503), { ends: 'fin' }),
  responseRow(EARLY, 'a reset before the first byte', '', refused(503), { ends: 'reset' }),
  responseRow(EARLY, 'within the status line', 'HTTP/1.1 20', refused(503), { ends: 'fin' }),
  responseRow(EARLY, 'within the fields', 'HTTP/1.1 200 OK\r\nContent-Le', refused(503), { ends: 'fin' }),
  responseRow(EARLY, 'a reset within the fields', 'HTTP/1.1 200 OK\r\nContent-Le', refused(503), { ends: 'reset' }),
  responseRow(EARLY, 'within a body of known length', `${ok('Content-Length: 10')}hello`, broken(), { ends: 'fin' }),
  responseRow(EARLY, 'a reset within a body of known length', `${ok('Content-Length: 10')}hello`, broken(), {
    ends: 'reset',
  }),
  responseRow(EARLY, 'within a chunk', chunked('a\r\nhello'), broken(), { ends: 'fin' }),
  responseRow(EARLY, 'between two chunks', chunked('5\r\nhello\r\n'), broken(), { ends: 'fin' }),
  responseRow(EARLY, 'before the last line', chunked('5\r\nhello\r\n0\r\n'), broken(), { ends: 'fin' }),
  responseRow(EARLY, 'within the trailers', chunked('5\r\nhello\r\n0\r\nX-Sum: 1\r\n'), broken(), { ends: 'fin' }),
  responseRow(EARLY, 'a reset between two chunks', chunked('5\r\nhello\r\n'), broken(), { ends: 'reset' }),
]
