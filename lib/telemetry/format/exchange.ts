import { RESPONSE_FLAGS } from '../../core/failure.ts'
import { isGrpc } from '../../core/grpc.ts'
import { GRPC_STATUS_NAMES, grpcStatus } from './grpc-status.ts'
import { type Command, type CommandContext, type LogStream, plainCommand, type Read } from './operator.ts'

/** Outcome, sizes and identities of the exchange. */
export const EXCHANGE_COMMANDS: readonly Command[] = Object.freeze([
  plainCommand('PROTOCOL', 'HTTP/1.0, HTTP/1.1 or HTTP/2', ({ info, layer4 }) =>
    layer4 === true ? undefined : info.protocol,
  ),
  plainCommand('UPSTREAM_PROTOCOL', 'the same of the upstream', ({ info }) => info.upstreamProtocol || undefined),
  plainCommand('RESPONSE_CODE', 'HTTP status; 0 where no response began', (stream) => stream.status),
  {
    name: 'RESPONSE_CODE_DETAILS',
    argument: '(ALLOW_WHITESPACES)',
    needs: 'optional',
    length: 'refused',
    origin: 'text',
    meaning: 'who set the status and why; white space becomes _ unless allowed',
    compile: responseCodeDetails,
  },
  plainCommand(
    'CONNECTION_TERMINATION_DETAILS',
    'why the connection was closed by this proxy',
    ({ info }) => info.connectionTerminationDetails || undefined,
    'text',
  ),
  flagsCommand('RESPONSE_FLAGS', 'short response flags (UH, UF, …), joined with commas; - for none', 'short'),
  flagsCommand('RESPONSE_FLAGS_LONG', 'long response flags (NoHealthyUpstream, …); - for none', 'long'),
  {
    name: 'GRPC_STATUS',
    argument: '(CAMEL_STRING|SNAKE_STRING|NUMBER)',
    needs: 'optional',
    length: 'refused',
    origin: 'plain',
    meaning: 'gRPC status of gRPC requests, from trailers, headers or the HTTP status',
    compile: grpcStatusText,
  },
  plainCommand('GRPC_STATUS_NUMBER', 'the same as a number', grpcNumber),

  plainCommand('BYTES_RECEIVED', 'body bytes received', ({ info }) => info.bytesReceived),
  plainCommand('BYTES_SENT', 'body bytes sent', ({ info }) => info.bytesSent),
  plainCommand('REQUEST_HEADERS_BYTES', 'bytes of the request head', ({ info }) => info.requestHeaderBytes),
  plainCommand('RESPONSE_HEADERS_BYTES', 'bytes of the response head', ({ info }) => info.responseHeaderBytes),
  plainCommand('RESPONSE_TRAILERS_BYTES', 'bytes of names and values of the response trailers', trailerBytes),
  plainCommand(
    'DOWNSTREAM_WIRE_BYTES_RECEIVED',
    'head and body bytes received, without framing',
    ({ info }) => info.requestHeaderBytes + info.bytesReceived,
  ),
  plainCommand(
    'DOWNSTREAM_WIRE_BYTES_SENT',
    'head and body bytes sent, without framing',
    ({ info }) => info.responseHeaderBytes + info.bytesSent,
  ),
  plainCommand('DOWNSTREAM_HEADER_BYTES_RECEIVED', 'as REQUEST_HEADERS_BYTES', ({ info }) => info.requestHeaderBytes),
  plainCommand('DOWNSTREAM_HEADER_BYTES_SENT', 'as RESPONSE_HEADERS_BYTES', ({ info }) => info.responseHeaderBytes),
  plainCommand(
    'DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED',
    'as REQUEST_HEADERS_BYTES',
    ({ info }) => info.requestHeaderBytes,
  ),
  plainCommand(
    'DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT',
    'as RESPONSE_HEADERS_BYTES',
    ({ info }) => info.responseHeaderBytes,
  ),
  plainCommand(
    'UPSTREAM_WIRE_BYTES_SENT',
    'body bytes sent upstream (heads and framing are not counted)',
    ({ info }) => info.upstreamBytesSent,
  ),
  plainCommand(
    'UPSTREAM_WIRE_BYTES_RECEIVED',
    'body bytes received from upstream (heads and framing are not counted)',
    ({ info }) => info.upstreamBytesReceived,
  ),
  plainCommand('BYTES_RETRANSMITTED', '0: counted for HTTP/3 only', () => 0),
  plainCommand('PACKETS_RETRANSMITTED', '0: counted for HTTP/3 only', () => 0),

  plainCommand('UPSTREAM_REQUEST_ATTEMPT_COUNT', 'attempts made upstream', ({ info }) => info.attempts),
  plainCommand('ROUTE_NAME', 'name of the route', ({ info }) => info.routeName || undefined, 'text'),
  plainCommand('CONNECTION_ID', 'number of the downstream connection', ({ connection }) => connection.id),
  plainCommand('UPSTREAM_CONNECTION_ID', 'number of the upstream connection', ({ info }) => info.upstreamConnectionId),
  plainCommand(
    'STREAM_ID',
    'the request id, as in x-request-id',
    ({ info, request }) => info.requestId || request.get('x-request-id'),
    'wire',
  ),
  plainCommand(
    'FILTER_CHAIN_NAME',
    'name of the filter chain',
    ({ connection }) => connection.filterChainName || undefined,
    'text',
  ),
  {
    name: 'ACCESS_LOG_TYPE',
    argument: '',
    needs: 'nothing',
    length: 'refused',
    origin: 'plain',
    meaning: 'DownstreamEnd in access logs, TcpConnectionEnd and the like in those of tcp_proxy, NotSet elsewhere',
    compile:
      (_, { logType }: CommandContext) =>
      () =>
        logType,
  },
  plainCommand('LOCAL_REPLY_BODY', 'body of the local reply', (stream) => stream.localReplyBody ?? '', 'text'),
] satisfies Command[])

function responseCodeDetails(argument: string | undefined, context: CommandContext): Read {
  if (argument !== undefined && argument !== '' && argument !== 'ALLOW_WHITESPACES') {
    context.fail(`unknown option "${argument}": ALLOW_WHITESPACES is the only one`)
  }
  if (argument === 'ALLOW_WHITESPACES') return ({ info }) => info.details || undefined
  return ({ info: { details } }) => {
    if (details === '') return undefined
    return /\s/.test(details) ? details.replace(/\s/g, '_') : details
  }
}

function flagsCommand(name: string, meaning: string, form: 'short' | 'long'): Command {
  // Envoy answers "-" rather than nothing: in header values and JSON as well.
  return plainCommand(name, meaning, ({ info }) => (info.flags === 0 ? '-' : flagNames(info.flags, form)))
}

function flagNames(flags: number, form: 'short' | 'long'): string {
  const names: string[] = []
  for (const [short, [long, bit]] of Object.entries(RESPONSE_FLAGS)) {
    if ((flags & bit) !== 0) names.push(form === 'short' ? short : long)
  }
  return names.join(',')
}

function grpcNumber(stream: LogStream): number | undefined {
  return isGrpc(stream.request) ? grpcStatus(stream) : undefined
}

function grpcStatusText(argument: string | undefined, context: CommandContext): Read {
  if (argument === 'NUMBER') return grpcNumber
  const known = argument === undefined || argument === '' || argument === 'CAMEL_STRING' || argument === 'SNAKE_STRING'
  if (!known) context.fail(`unknown form "${argument}": CAMEL_STRING, SNAKE_STRING or NUMBER`)
  const form = argument === 'SNAKE_STRING' ? 1 : 0
  return (stream) => {
    const status = grpcNumber(stream)
    if (status === undefined) return undefined
    return status < GRPC_STATUS_NAMES.length ? GRPC_STATUS_NAMES[status][form] : `${status}`
  }
}

function trailerBytes(stream: LogStream): number {
  let bytes = 0
  for (const text of stream.responseTrailers?.raw ?? []) bytes += text.length
  return bytes
}
