import type { HttpFilter, Next } from '../../lib/chain/filter.ts'
import type { BufferConfig } from './config.ts'

/** Compiles the filter. Upgrades pass untouched: their bytes are no body. */
export function compileBuffer(config: BufferConfig): HttpFilter<unknown> {
  const limit = config.maxRequestBytes
  const filter: HttpFilter<unknown> = {
    onRequestHeaders(stream, end): Next {
      if (end || stream.head.protocol !== undefined || stream.head.method === 'CONNECT') return
      return stream.collectRequest(limit).then((body) => {
        // A Failure: the 413 has been sent, or the client has gone.
        if (!Buffer.isBuffer(body)) return
        const { request } = stream
        if (request.has('content-length')) return
        request.append('content-length', String(body.length))
      })
    },
  }
  return Object.freeze(filter)
}
