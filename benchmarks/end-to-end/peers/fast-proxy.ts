/** The `fast-proxy` package with undici, the faster of its two clients. */
import { createServer } from 'node:http'
import fastProxy from 'fast-proxy'
import { accessLog } from './access-log.ts'
import { addForwardingHeaders, KEEP_ALIVE_MS, peerSettings } from './settings.ts'

const settings = peerSettings()
const log = accessLog(settings.logFile)
const { proxy } = fastProxy({
  base: `http://127.0.0.1:${settings.originPort}`,
  undici: { connections: 128, pipelining: 1 },
})

createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (req, res) => {
  addForwardingHeaders(req)
  log?.(req, res)
  proxy(req, res, req.url ?? '/', {})
}).listen(settings.listenPort, '127.0.0.1', 4096)
