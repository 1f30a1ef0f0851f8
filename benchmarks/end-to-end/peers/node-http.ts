/** The proxy that everybody writes first: `node:http` on both sides, a keep-alive agent, `pipe` both ways. */
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { accessLog } from './access-log.ts'
import { addForwardingHeaders, KEEP_ALIVE_MS, peerSettings } from './settings.ts'

const settings = peerSettings()
const log = accessLog(settings.logFile)
const agent = new Agent({ keepAlive: true })

/** RFC 9110 section 7.6.1: fields that belong to one connection. */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'upgrade'])

/** Raw lists on both sides: about a quarter cheaper than header objects. */
function endToEnd(raw: readonly string[]): string[] {
  const kept: string[] = []
  for (let i = 0; i < raw.length; i += 2) if (!HOP_BY_HOP.has(raw[i].toLowerCase())) kept.push(raw[i], raw[i + 1])
  return kept
}

function proxy(req: IncomingMessage, res: ServerResponse): void {
  addForwardingHeaders(req)
  log?.(req, res)
  const headers = endToEnd(req.rawHeaders)
  headers.push(
    'X-Forwarded-For',
    String(req.headers['x-forwarded-for']),
    'X-Request-Id',
    String(req.headers['x-request-id']),
  )
  const upstream = request({
    host: '127.0.0.1',
    port: settings.originPort,
    method: req.method,
    path: req.url,
    headers,
    agent,
  })
  upstream.once('response', (answer) => {
    res.writeHead(answer.statusCode ?? 502, endToEnd(answer.rawHeaders))
    answer.pipe(res)
  })
  upstream.once('error', () => {
    if (res.headersSent) res.destroy()
    else res.writeHead(502).end()
  })
  res.once('close', () => res.writableFinished || upstream.destroy())
  if (req.headers['content-length'] === undefined && req.headers['transfer-encoding'] === undefined) upstream.end()
  else req.pipe(upstream)
}

createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, proxy).listen(settings.listenPort, '127.0.0.1', 4096)
