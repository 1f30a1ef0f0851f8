/**
 * Closed-loop load over HTTP/2 with node:http2, started by generator.ts where h2load is not installed. It costs about ten
 * times what h2load does, so it is what limits requests/s; figures of the two are never mixed in one table.
 */
import { performance } from 'node:perf_hooks'
import { build } from 'hdr-histogram-js'
import type { Load, LoadResult } from '../load.ts'
import { openSession } from './client.ts'

const latency = build({
  lowestDiscernibleValue: 1,
  highestTrackableValue: 60_000_000,
  numberOfSignificantValueDigits: 3,
})

async function run(load: Load): Promise<LoadResult> {
  const [request] = load.requests
  const content = load.content ?? (load.bodyBytes > 0 ? Buffer.alloc(load.bodyBytes, 'x') : undefined)
  const headers = {
    ':method': content === undefined ? request.method : 'POST',
    ':path': request.path,
    ...Object.fromEntries(load.headers ?? []),
  }
  const result = { requests: 0, errors: 0, bytesRead: 0 }
  let ended = false
  const sessions = Array.from({ length: load.connections }, () => openSession(load.port, load.tls))
  const ask = (session: (typeof sessions)[number]): void => {
    if (ended || session.destroyed) return
    const sentAt = performance.now()
    const stream = session.request(headers, { endStream: content === undefined })
    let status = 0
    stream.on('response', (answer) => {
      status = answer[':status'] ?? 0
    })
    stream.on('data', (chunk: Buffer) => {
      result.bytesRead += chunk.length
    })
    stream.on('error', () => {})
    stream.on('close', () => {
      if (ended) return
      if (stream.rstCode === 0 && status >= 200 && status < 300) {
        result.requests++
        latency.recordValue(Math.round((performance.now() - sentAt) * 1000))
      } else result.errors++
      // Not at once after an error: a proxy that refuses everything must not turn this into a busy loop.
      if (status === 0) setTimeout(() => ask(session), 20)
      else ask(session)
    })
    if (content !== undefined) stream.end(content)
  }
  const start = performance.now()
  for (const session of sessions) {
    session.on('close', () => {
      if (!ended) result.errors++
    })
    session.once('connect', () => {
      for (let i = 0; i < (load.streams ?? 1); i++) ask(session)
    })
  }
  await new Promise((resolve) => setTimeout(resolve, load.seconds * 1000))
  const seconds = (performance.now() - start) / 1000
  ended = true
  for (const session of sessions) session.destroy()
  const [p50Us, p99Us] = [latency.getValueAtPercentile(50), latency.getValueAtPercentile(99)]
  return { tool: 'own', ...result, seconds, p50Us, p99Us }
}

process.once('message', (load: Load) => {
  void run(load).then((result) => process.send?.(result, () => process.exit(0)))
})
process.on('disconnect', () => process.exit(0))
