import { type ClientHttp2Session, connect } from 'node:http2'
import type { Answer } from '../client.ts'
import type { LoadRequest } from '../load.ts'

/** An answer over HTTP/2. */
export interface Http2Answer extends Answer {
  readonly trailers: Readonly<Record<string, unknown>>
  readonly bytes: Buffer
}

/** What is asked, and how. */
export interface Http2Request extends LoadRequest {
  readonly tls?: boolean
  readonly content?: Buffer
  readonly headers?: readonly (readonly [string, string])[]
}

/** A session of node:http2 with 127.0.0.1; certificates are not checked. Errors end it and are not thrown. */
export function openSession(port: number, tls = false): ClientHttp2Session {
  const authority = `${tls ? 'https' : 'http'}://127.0.0.1:${port}`
  const session = connect(authority, { rejectUnauthorized: false, settings: { enablePush: false } })
  session.on('error', () => session.destroy())
  return session
}

/** One request on a connection of its own. Fails after 5 s. */
export async function fetchHttp2(port: number, request: Http2Request): Promise<Http2Answer> {
  const session = openSession(port, request.tls)
  try {
    return await askOn(session, request)
  } finally {
    session.destroy()
  }
}

/** One request on an open session. Fails after 5 s. */
export function askOn(session: ClientHttp2Session, request: Http2Request): Promise<Http2Answer> {
  return new Promise((resolve, reject) => {
    const fail = (): void => reject(new Error(`${request.method} ${request.path}: no answer over HTTP/2`))
    if (session.destroyed) return fail()
    session.once('close', fail)
    const fields = Object.fromEntries(request.headers ?? [])
    const stream = session.request({ ':method': request.method, ':path': request.path, ...fields })
    const chunks: Buffer[] = []
    let status = 0
    let trailers: Record<string, unknown> = {}
    stream.setTimeout(5000, () => stream.destroy(new Error(`${request.path}: no answer for 5 s`)))
    stream.on('response', (headers) => {
      status = headers[':status'] ?? 0
    })
    stream.on('trailers', (headers) => {
      trailers = headers
    })
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('error', reject)
    stream.on('close', () => {
      session.off('close', fail)
      const bytes = Buffer.concat(chunks)
      if (stream.rstCode === 0) resolve({ status, body: bytes.toString('latin1'), bytes, trailers })
      else reject(new Error(`${request.path}: reset with code ${stream.rstCode}`))
    })
    stream.end(request.content)
  })
}
