import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import type net from 'node:net'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

/**
 * An origin that answers with the request's body, a GET with its own path, and says the method in `x-method`, until the
 * test ends.
 */
export interface Echo {
  readonly port: number
  requests(): number
  connections(): number
}

interface Certificate {
  readonly key: string
  readonly cert: string
}

/** An echo of node:http, which keeps its connections. */
export async function startEcho(t: Test): Promise<Echo> {
  const counts = { requests: 0, connections: 0 }
  const server = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    counts.requests++
    response.setHeader('x-method', request.method ?? '')
    if (request.headers['content-length'] !== undefined)
      response.setHeader('content-length', request.headers['content-length'])
    if (request.method === 'GET') response.end(request.url)
    else request.pipe(response)
  })
  return listening(t, server, counts)
}

/**
 * An echo of node:http2. Every answer has a trailer `x-count` with the bytes it had, and gives the request's trailer
 * `x-sum` back.
 */
export async function startHttp2Echo(t: Test, certificate?: Certificate): Promise<Echo> {
  const counts = { requests: 0, connections: 0 }
  const server = certificate === undefined ? http2.createServer() : http2.createSecureServer(certificate)
  server.on('stream', (opened, headers) => {
    const stream = opened as http2.ServerHttp2Stream
    counts.requests++
    let bytes = 0
    let sum: string | undefined
    // A client may give up at any time.
    stream.on('error', () => undefined)
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length
    })
    stream.on('trailers', (trailers) => {
      sum = trailers['x-sum'] as string | undefined
    })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-count': String(bytes), ...(sum && { 'x-sum': sum }) }))
    const length = headers['content-length']
    stream.respond(
      {
        ':status': 200,
        'x-method': headers[':method'],
        'content-type': headers['content-type'] ?? 'application/octet-stream',
        ...(length !== undefined && headers[':method'] !== 'HEAD' && { 'content-length': length }),
      },
      { waitForTrailers: true },
    )
    if (headers[':method'] !== 'GET') stream.pipe(stream)
    else {
      stream.resume()
      stream.end(headers[':path'])
    }
  })
  return listening(t, server, counts)
}

async function listening(
  t: Test,
  server: net.Server,
  counts: { requests: number; connections: number },
): Promise<Echo> {
  const open = new Set<net.Socket>()
  server.on('connection', (socket: net.Socket) => {
    counts.connections++
    open.add(socket)
    socket.on('close', () => open.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    server.close()
    for (const socket of open) socket.destroy()
    await once(server, 'close')
  })
  return {
    port: (server.address() as AddressInfo).port,
    requests: () => counts.requests,
    connections: () => counts.connections,
  }
}
