import type { Command, CommandContext, LogStream, Read } from './operator.ts'

type Field = (stream: LogStream) => string | undefined

const ALTERNATIVES = '(X?Y)'

/** Values taken from the messages themselves: header fields, path and query. */
export const MESSAGE_COMMANDS: readonly Command[] = Object.freeze([
  headerCommand('REQ', 'REQUEST_HEADER', 'request header X, else Y; first value', requestField),
  headerCommand('RESP', 'RESPONSE_HEADER', 'response header X, else Y; first value', responseField),
  headerCommand('TRAILER', 'RESPONSE_TRAILER', 'response trailer X, else Y; first value', trailerField),
  {
    name: 'REQ_WITHOUT_QUERY',
    argument: ALTERNATIVES,
    needs: 'argument',
    length: 'cuts',
    origin: 'wire',
    meaning: 'request header X, else Y, cut at its first ?',
    compile: (argument, context) => {
      const read = alternatives(argument, context, requestField)
      return (stream) => withoutQuery(read(stream))
    },
  },
  {
    name: 'PATH',
    argument: '(WQ|NQ:ORIG|PATH|ORIG_OR_PATH)',
    needs: 'optional',
    length: 'cuts',
    origin: 'wire',
    meaning: 'the path with (WQ, default) or without (NQ) its query, from x-envoy-original-path where there is one',
    compile: path,
  },
  {
    name: 'QUERY_PARAM',
    argument: '(X)',
    needs: 'argument',
    length: 'cuts',
    origin: 'bytes',
    meaning: 'query parameter X, percent-decoded; first value',
    compile: (argument, context) => {
      const name = argument ?? ''
      if (name === '') context.fail('expects the name of a query parameter')
      const wanted = Buffer.from(name, 'utf8').toString('latin1')
      return (stream) => queryParameter(stream.head.path, wanted)
    },
  },
  {
    name: 'QUERY_PARAMS',
    argument: '(ORIG|DECODED)',
    needs: 'optional',
    length: 'cuts',
    origin: 'bytes',
    meaning: 'the whole query, as it is (default) or with visible ASCII percent-decoded',
    compile: (argument, context) => {
      const form = argument || 'ORIG'
      if (form !== 'ORIG' && form !== 'DECODED') context.fail(`unknown form "${form}": ORIG or DECODED`)
      if (form === 'ORIG') return (stream) => queryOf(stream.head.path)
      return (stream) => decodeVisible(queryOf(stream.head.path))
    },
  },
  {
    name: 'REQUESTED_SERVER_NAME',
    argument: '(SNI_ONLY|SNI_FIRST|HOST_FIRST:ORIG|HOST|ORIG_OR_HOST)',
    needs: 'optional',
    length: 'refused',
    origin: 'wire',
    meaning: "server name of the TLS handshake (SNI); with SNI_FIRST or HOST_FIRST also the request's host",
    compile: requestedServerName,
  },
  {
    name: 'TRACE_ID',
    argument: '',
    needs: 'nothing',
    length: 'refused',
    origin: 'plain',
    meaning: 'trace id of the traceparent header',
    compile: () => (stream) => traceId(stream.request.get('traceparent')),
  },
] satisfies Command[])

function headerCommand(name: string, alias: string, meaning: string, field: (name: string) => Field): Command {
  return {
    name,
    alias,
    argument: ALTERNATIVES,
    needs: 'argument',
    length: 'cuts',
    origin: 'wire',
    meaning,
    compile: (argument, context) => alternatives(argument, context, field),
  }
}

function alternatives(argument: string | undefined, context: CommandContext, field: (name: string) => Field): Field {
  const names = (argument ?? '').toLowerCase().split('?')
  if (names.length > 2) context.fail('at most one alternative header may be given')
  if (names.some((name) => !/^:?[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name))) {
    context.fail(`"${argument}" is not a header name, or two of the form X?Y`)
  }
  const first = field(names[0])
  if (names.length === 1) return first
  const second = field(names[1])
  return (stream) => first(stream) ?? second(stream)
}

/** Request field by lower-case name. `host` is `:authority`, which is where the Host field went. */
function requestField(name: string): Field {
  switch (name) {
    case ':method':
      return (stream) => stream.head.method || undefined
    case ':path':
      return (stream) => stream.head.path || undefined
    case ':scheme':
      return (stream) => stream.head.scheme || undefined
    case ':authority':
    case 'host':
      return (stream) => stream.head.authority || undefined
    case ':protocol':
      return (stream) => stream.head.protocol
    default:
      return (stream) => stream.request.get(name)
  }
}

function responseField(name: string): Field {
  if (name === ':status') return (stream) => (stream.status === 0 ? undefined : `${stream.status}`)
  return (stream) => stream.response.get(name)
}

function trailerField(name: string): Field {
  return (stream) => stream.responseTrailers?.get(name)
}

function path(argument: string | undefined, context: CommandContext): Read {
  const [query = '', source = '', ...rest] = (argument ?? '').split(':')
  if (rest.length > 0) context.fail('expects at most two options, as in PATH(NQ:ORIG)')
  if (!['', 'WQ', 'NQ'].includes(query)) context.fail(`unknown option "${query}": WQ or NQ`)
  if (!['', 'ORIG', 'PATH', 'ORIG_OR_PATH'].includes(source)) {
    context.fail(`unknown source "${source}": ORIG, PATH or ORIG_OR_PATH`)
  }
  const read = originalOr(source, 'x-envoy-original-path', ['ORIG', 'PATH'], (stream) => stream.head.path)
  return query === 'NQ' ? (stream) => withoutQuery(read(stream)) : read
}

function requestedServerName(argument: string | undefined, context: CommandContext): Read {
  const [order = '', source = '', ...rest] = (argument ?? '').split(':')
  if (rest.length > 0) context.fail('expects at most two options, as in REQUESTED_SERVER_NAME(SNI_FIRST:HOST)')
  if (!['', 'SNI_ONLY', 'SNI_FIRST', 'HOST_FIRST'].includes(order)) {
    context.fail(`unknown option "${order}": SNI_ONLY, SNI_FIRST or HOST_FIRST`)
  }
  if (!['', 'ORIG', 'HOST', 'ORIG_OR_HOST'].includes(source)) {
    context.fail(`unknown source "${source}": ORIG, HOST or ORIG_OR_HOST`)
  }
  const serverName: Field = ({ connection }) => connection.serverName ?? connection.tls?.serverName
  const host = originalOr(
    source,
    'x-envoy-original-host',
    ['ORIG', 'HOST'],
    (stream) => stream.head.authority || undefined,
  )
  if (order === 'SNI_FIRST') return (stream) => serverName(stream) ?? host(stream)
  if (order === 'HOST_FIRST') return (stream) => host(stream) ?? serverName(stream)
  return serverName
}

/** The value a header kept from before a rewrite, the present one, or the first of them that exists. */
function originalOr(source: string, header: string, words: readonly [string, string], present: Field): Field {
  if (source === words[0]) return (stream) => stream.request.get(header)
  if (source === words[1]) return present
  return (stream) => stream.request.get(header) ?? present(stream)
}

function withoutQuery(value: string | undefined): string | undefined {
  const query = value === undefined ? -1 : value.indexOf('?')
  return query < 0 ? value : value?.slice(0, query)
}

function queryOf(target: string): string | undefined {
  const start = target.indexOf('?')
  return start < 0 ? undefined : target.slice(start + 1)
}

/** First value of a parameter, decoded; '' where it has no `=`. `name` as latin1 of its UTF-8 bytes. */
function queryParameter(target: string, name: string): string | undefined {
  let at = target.indexOf('?') + 1
  if (at === 0) return undefined
  while (at <= target.length) {
    const ampersand = target.indexOf('&', at)
    const end = ampersand < 0 ? target.length : ampersand
    const equals = target.indexOf('=', at)
    const nameEnd = equals < 0 || equals > end ? end : equals
    if (nameEnd > at && percentDecode(target.slice(at, nameEnd)) === name) {
      return nameEnd === end ? '' : percentDecode(target.slice(nameEnd + 1, end))
    }
    at = end + 1
  }
  return undefined
}

/** Bytes in, bytes out (as latin1); what is not a valid escape stays. */
function percentDecode(text: string): string
function percentDecode(text: string | undefined): string | undefined
function percentDecode(text: string | undefined): string | undefined {
  if (text === undefined || !text.includes('%')) return text
  return text.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

/** Escapes of visible ASCII, decoded; what could break a line or a field stays escaped. */
function decodeVisible(query: string | undefined): string | undefined {
  return query?.replace(/%([2-7][0-9a-f])/gi, (escaped, digits: string) => {
    const code = Number.parseInt(digits, 16)
    return code > 0x20 && code < 0x7f ? String.fromCharCode(code) : escaped
  })
}

/** W3C Trace Context §3.2. */
function traceId(traceparent: string | undefined): string | undefined {
  const match =
    traceparent === undefined ? null : /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/.exec(traceparent)
  return match === null || /^0+$/.test(match[1]) ? undefined : match[1]
}
