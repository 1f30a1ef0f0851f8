import { createServer as createHttp1, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createHttp2, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { sha256 } from '../support/ledger.ts'

/**
 * An origin in a process of its own, so that it can be killed and stopped: `PORT` (0: any) and `PROTOCOL` (`http1` or
 * `http2`) in its environment. It tells its parent its port, then of each request what it saw, before it answers with the
 * body that it got.
 */

/** A message to the parent. */
export type FaultOriginMessage =
  | { readonly port: number }
  | {
      readonly seq: string | undefined
      readonly declared: string | undefined
      readonly body: string
      readonly clean: boolean
    }

const tell = (message: FaultOriginMessage): void => void process.send?.(message)

type Request = Pick<IncomingMessage, 'headers'> & NodeJS.ReadableStream & { readonly stream?: ServerHttp2Stream }

function serve(request: Request, response: ServerResponse): void {
  const pieces: Buffer[] = []
  request.on('error', () => {})
  request.on('data', (piece: Buffer) => pieces.push(piece))
  request.on('end', async () => {
    // node:http2 ends the body cleanly where its connection breaks, and says so a moment later.
    if (request.stream !== undefined) await new Promise((resolve) => setImmediate(resolve))
    const clean = request.stream === undefined || !(request.stream.aborted || request.stream.destroyed)
    const body = Buffer.concat(pieces)
    const one = (name: string): string | undefined => request.headers[name] as string | undefined
    tell({ seq: one('x-seq'), declared: one('x-body-sha256'), body: body.toString('base64'), clean })
    if (!clean) return
    response.setHeader('x-seq', one('x-seq') ?? '')
    response.setHeader('x-body-sha256', sha256(body))
    response.setHeader('content-length', body.length)
    response.end(body)
  })
}

const handler = serve as unknown as (request: unknown, response: unknown) => void
const server =
  process.env.PROTOCOL === 'http2' ? createHttp2(handler) : createHttp1({ keepAliveTimeout: 60_000 }, handler)
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => tell({ port: (server.address() as AddressInfo).port }))
process.on('disconnect', () => process.exit(0))
