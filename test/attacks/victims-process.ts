import { once } from 'node:events'
import { createServer } from 'node:http'
import { type ClientHttp2Session, connect, type OutgoingHttpHeaders } from 'node:http2'
import type { AddressInfo } from 'node:net'

/**
 * Clients that do nothing wrong, and the origin that answers them, in a process of their own: an attacker's work must not
 * show in their times. They speak node's HTTP/2, an independent peer. Commands come over IPC: `start` with a port, then
 * `take`, which answers what has happened since the last one.
 */

/** Between the answer and the next request of a client. */
const PAUSE_MS = 6
const CLIENTS = 4
const DEADLINE_MS = 10_000
const BODY = Buffer.alloc(100_000, 'headgate')

let times: number[] = []
let errors: string[] = []

/** One request on a session; rejects unless it is answered 200 with all of its body. */
async function exchange(session: ClientHttp2Session, headers: OutgoingHttpHeaders, body?: Buffer): Promise<void> {
  const stream = session.request({ ':path': '/small', ...headers }, { endStream: body === undefined })
  const timer = setTimeout(() => stream.destroy(new Error(`no answer within ${DEADLINE_MS} ms`)), DEADLINE_MS)
  try {
    let status = 0
    let bytes = 0
    stream.on('response', (fields) => {
      status = Number(fields[':status'])
    })
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length
    })
    stream.end(body)
    await once(stream, 'end')
    const wanted = body === undefined ? 'small'.length : body.length
    if (status !== 200 || bytes !== wanted) throw new Error(`status ${status} with ${bytes} bytes`)
    if (stream.rstCode !== 0) throw new Error(`reset with ${stream.rstCode}`)
  } finally {
    clearTimeout(timer)
  }
}

async function measured(what: string, pauseMs: number, work: () => Promise<void>): Promise<void> {
  const begin = performance.now()
  try {
    await work()
    times.push(performance.now() - begin)
  } catch (error) {
    errors.push(`${what}: ${error instanceof Error ? error.message : error}`)
  }
  await new Promise((resolve) => setTimeout(resolve, pauseMs))
}

function session(url: string): ClientHttp2Session {
  const made = connect(url)
  made.on('error', (error) => errors.push(`session: ${error.message}`))
  made.on('goaway', (code) => errors.push(`GOAWAY ${code}`))
  return made
}

/** Requests without end: on connections that stay, uploads echoed in full, and on connections made for one request. */
function run(url: string): void {
  const forEver = async (what: string, pauseMs: number, work: () => Promise<void>): Promise<never> => {
    for (;;) await measured(what, pauseMs, work)
  }
  for (let i = 0; i < CLIENTS; i++) {
    const kept = session(url)
    void forEver('get', PAUSE_MS, () => exchange(kept, {}))
  }
  const uploads = session(url)
  void forEver('upload', 8 * PAUSE_MS, () => exchange(uploads, { ':method': 'POST', ':path': '/echo' }, BODY))
  void forEver('fresh connection', 3 * PAUSE_MS, async () => {
    const fresh = session(url)
    await exchange(fresh, {})
    fresh.close()
  })
}

const origin = createServer((request, response) => {
  if (request.url === '/echo') request.pipe(response)
  else {
    request.resume()
    response.end('small')
  }
})
origin.keepAliveTimeout = 60_000
origin.listen(0, '127.0.0.1', () => process.send?.({ port: (origin.address() as AddressInfo).port }))
process.on('message', (command: { start?: number; take?: true }) => {
  if (command.start !== undefined) run(`http://127.0.0.1:${command.start}`)
  if (command.take !== true) return
  process.send?.({ times, errors })
  times = []
  errors = []
})
process.on('disconnect', () => process.exit())
