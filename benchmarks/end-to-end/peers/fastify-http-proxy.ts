/** `@fastify/http-proxy`, which forwards with undici; its access log is fastify's own (pino, two lines per request). */
import { randomUUID } from 'node:crypto'
import httpProxy from '@fastify/http-proxy'
import fastify from 'fastify'
import { KEEP_ALIVE_MS, peerSettings } from './settings.ts'

const settings = peerSettings()
const app = fastify({
  keepAliveTimeout: KEEP_ALIVE_MS,
  logger: settings.logFile === undefined ? false : { file: settings.logFile },
})
await app.register(httpProxy, {
  upstream: `http://127.0.0.1:${settings.originPort}`,
  replyOptions: {
    rewriteRequestHeaders: (request, headers) => {
      const forwarded = headers['x-forwarded-for']
      headers['x-forwarded-for'] = forwarded === undefined ? request.ip : `${forwarded}, ${request.ip}`
      headers['x-request-id'] = randomUUID()
      return headers
    },
  },
})
await app.listen({ port: settings.listenPort, host: '127.0.0.1', backlog: 4096 })
