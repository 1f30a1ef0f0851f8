import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A body longer than that is counted, not shown. */
const SHOWN_BYTES = 1024

export interface DemoUpstream {
  readonly port: number
  close(): Promise<void>
}

/**
 * The upstream of the built-in configuration: answers with what it received, as JSON. On loopback, on a port that the
 * system chooses.
 */
export async function startDemoUpstream(): Promise<DemoUpstream> {
  const server = createServer((req, res) => {
    answer(req, res).catch(() => res.destroy())
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
  const shown: Buffer[] = []
  let bytes = 0
  for await (const chunk of req as AsyncIterable<Buffer>) {
    if (bytes < SHOWN_BYTES) shown.push(chunk.subarray(0, SHOWN_BYTES - bytes))
    bytes += chunk.length
  }
  const { method, url, headers } = req
  const body = Buffer.concat(shown).toString()
  res.setHeader('content-type', 'application/json')
  res.end(`${JSON.stringify({ answeredBy: 'demo upstream', method, path: url, headers, bytes, body }, undefined, 2)}\n`)
}
