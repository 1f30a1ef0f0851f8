/**
 * A proxy on `node:http2`: its stream interface towards the client; towards the origin a keep-alive agent of `node:http`,
 * or with the flag `upstream-http2` sessions of `node:http2`. With `raw` the headers stay arrays in both directions, which
 * is the cheapest that these modules offer.
 */
import { randomUUID } from 'node:crypto'
import { Agent, type IncomingMessage, request } from 'node:http'
import {
  type ClientHttp2Session,
  connect,
  createServer,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2'
import sonicBoom from 'sonic-boom'
import { peerSettings } from './settings.ts'

const settings = peerSettings()
const raw = settings.flags.includes('raw')
const sink =
  settings.logFile === undefined
    ? undefined
    : new sonicBoom.SonicBoom({ dest: settings.logFile, minLength: 8192, sync: false })
const agent = new Agent({ keepAlive: true })

/** RFC 9113 section 8.2.2: fields that belong to one connection and have no place in HTTP/2. */
const CONNECTION_FIELDS = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'te',
])

/** What the request needs, in the form that Node gives it. */
interface Head {
  readonly method: string
  readonly path: string
  readonly authority: string
  readonly fields: string[]
  readonly hasContent: boolean
}

function headOf(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, list: readonly string[], flags: number): Head {
  const fields: string[] = []
  let forwarded = stream.session?.socket.remoteAddress ?? ''
  const add = (name: string, value: string): void => {
    if (name === 'x-forwarded-for') forwarded = `${value}, ${forwarded}`
    else if (name !== 'x-request-id' && !name.startsWith(':') && !CONNECTION_FIELDS.has(name)) fields.push(name, value)
  }
  let method = ''
  let path = ''
  let authority = ''
  if (raw) {
    for (let i = 0; i < list.length; i += 2) {
      const name = list[i]
      if (name === ':method') method = list[i + 1]
      else if (name === ':path') path = list[i + 1]
      else if (name === ':authority') authority = list[i + 1]
      else add(name, list[i + 1])
    }
  } else {
    method = headers[':method'] ?? ''
    path = headers[':path'] ?? ''
    authority = headers[':authority'] ?? ''
    for (const name of Object.keys(headers)) add(name, String(headers[name]))
  }
  fields.push('x-forwarded-for', forwarded, 'x-request-id', randomUUID())
  // NGHTTP2_FLAG_END_STREAM
  return { method, path, authority, fields, hasContent: (flags & 1) === 0 }
}

function log(stream: ServerHttp2Stream, head: Head): void {
  const start = performance.now()
  stream.once('close', () => {
    const took = (performance.now() - start).toFixed(0)
    const status = stream.sentHeaders?.[':status'] ?? 0
    const [forwarded, id] = [head.fields.at(-3), head.fields.at(-1)]
    sink!.write(
      `[${new Date().toISOString()}] "${head.method} ${head.path} HTTP/2" ${status} ${took} "${forwarded}" "${id}" "${head.authority}"\n`,
    )
  })
}

function toHttp1(stream: ServerHttp2Stream, head: Head): void {
  const headers = ['host', head.authority, ...head.fields]
  const { method, path } = head
  const upstream = request({ host: '127.0.0.1', port: settings.originPort, method, path, headers, agent })
  upstream.once('response', (answer) => {
    if (stream.destroyed) return
    stream.respond(responseHead(answer) as never)
    answer.pipe(stream)
  })
  upstream.once('error', () => fail(stream))
  stream.once('close', () => stream.readableEnded || upstream.destroy())
  if (head.hasContent) stream.pipe(upstream)
  else upstream.end()
}

function responseHead(answer: IncomingMessage): unknown {
  if (!raw) {
    const headers: Record<string, unknown> = { ':status': answer.statusCode ?? 502 }
    for (const name of Object.keys(answer.headers))
      if (!CONNECTION_FIELDS.has(name)) headers[name] = answer.headers[name]
    return headers
  }
  const list = [':status', String(answer.statusCode ?? 502)]
  const { rawHeaders } = answer
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i].toLowerCase()
    if (!CONNECTION_FIELDS.has(name)) list.push(name, rawHeaders[i + 1])
  }
  return list
}

const sessions: ClientHttp2Session[] = []
/** Streams at once that the origin here allows on a connection. */
const STREAMS = 100
const streamsOf = new WeakMap<ClientHttp2Session, number>()

/** A session with room for one more stream. */
function sessionWithRoom(): ClientHttp2Session {
  for (const session of sessions) if ((streamsOf.get(session) ?? 0) < STREAMS) return session
  const session = connect(`http://127.0.0.1:${settings.originPort}`, { settings: { enablePush: false } })
  sessions.push(session)
  session.on('error', () => {})
  session.once('close', () => sessions.splice(sessions.indexOf(session), 1))
  return session
}

function toHttp2(stream: ServerHttp2Stream, head: Head): void {
  const session = sessionWithRoom()
  streamsOf.set(session, (streamsOf.get(session) ?? 0) + 1)
  const { method, path, authority } = head
  const pseudo = [':method', method, ':scheme', 'http', ':path', path, ':authority', authority]
  const upstream = session.request([...pseudo, ...head.fields], { endStream: !head.hasContent })
  upstream.once('response', (headers, _flags, list) => {
    if (stream.destroyed) return
    stream.respond((raw ? list : headers) as never, { waitForTrailers: true })
    upstream.pipe(stream)
  })
  let trailers: IncomingHttpHeaders = {}
  upstream.once('trailers', (headers) => {
    trailers = headers
  })
  stream.once('wantTrailers', () => stream.sendTrailers(trailers))
  upstream.once('close', () => streamsOf.set(session, (streamsOf.get(session) ?? 1) - 1))
  upstream.once('error', () => fail(stream))
  stream.once('close', () => upstream.destroy())
  if (head.hasContent) stream.pipe(upstream)
}

function fail(stream: ServerHttp2Stream): void {
  if (stream.destroyed) return
  if (stream.headersSent) stream.destroy()
  else stream.respond({ ':status': 502 }, { endStream: true })
}

const forward = settings.flags.includes('upstream-http2') ? toHttp2 : toHttp1
const server = createServer({ settings: { maxConcurrentStreams: STREAMS } })
server.on('session', (session) => session.on('error', () => {}))
server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number, list: string[]) => {
  const head = headOf(stream, headers, list, flags)
  stream.on('error', () => {})
  if (sink !== undefined) log(stream, head)
  forward(stream, head)
})
server.listen(settings.listenPort, '127.0.0.1', 4096)
