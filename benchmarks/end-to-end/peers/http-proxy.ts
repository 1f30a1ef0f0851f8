/** The `http-proxy` package with a keep-alive agent. */
import { Agent, createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import { accessLog } from './access-log.ts'
import { addForwardingHeaders, KEEP_ALIVE_MS, peerSettings } from './settings.ts'

/** The package has no types of its own; this is the part that is used. */
interface ProxyServer {
  web(req: IncomingMessage, res: ServerResponse): void
  on(event: 'error', listener: (error: Error, req: IncomingMessage, res: ServerResponse) => void): void
}
interface HttpProxy {
  createProxyServer(options: { target: string; agent: Agent }): ProxyServer
}

const settings = peerSettings()
const log = accessLog(settings.logFile)
const httpProxy = createRequire(import.meta.url)('http-proxy') as HttpProxy
const proxy = httpProxy.createProxyServer({
  target: `http://127.0.0.1:${settings.originPort}`,
  agent: new Agent({ keepAlive: true }),
})
proxy.on('error', (_error, _req, res) => {
  if (res.headersSent) res.destroy()
  else res.writeHead(502).end()
})

createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (req, res) => {
  addForwardingHeaders(req)
  log?.(req, res)
  proxy.web(req, res)
}).listen(settings.listenPort, '127.0.0.1', 4096)
