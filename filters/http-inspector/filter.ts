import type { Scope } from '../../lib/chain/filter.ts'
import type { Inspection, ListenerFilter } from '../../lib/chain/network.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import type { HttpInspectorConfig } from './config.ts'
import { inspectLine, type Progress } from './first-line.ts'

/** Envoy's limit of what its inspector reads. */
const MAX_BYTES = 65_536

const NOTHING: Inspection<Progress> = Object.freeze({ strip: 0, facts: Object.freeze({}) })

/** Compiles the filter that finds out which HTTP is spoken. */
export function compileHttpInspector(_config: HttpInspectorConfig, { metrics }: Scope): ListenerFilter {
  const http10 = metrics.counter('http_inspector.http10_found')
  const http11 = metrics.counter('http_inspector.http11_found')
  const http2 = metrics.counter('http_inspector.http2_found')
  const notFound = metrics.counter('http_inspector.http_not_found')
  const readError = metrics.counter('http_inspector.read_error')

  const filter: ListenerFilter<Progress> = {
    maxBytes: MAX_BYTES,

    inspect(peeked: Buffer, from: number, state: Progress | undefined, facts: ConnectionInfo): Inspection<Progress> {
      if (facts.transportProtocol === 'tls') return NOTHING
      const version = inspectLine(peeked, from, state ?? 'method')
      if (version === 'method' || version === 'rest') {
        if (peeked.length < MAX_BYTES) return { more: version }
        readError.v++
        return { refused: `no HTTP request line within ${MAX_BYTES} bytes` }
      }
      if (version === 'other') {
        notFound.v++
        return NOTHING
      }
      const found = version === 'h2c' ? http2 : version === 'http/1.1' ? http11 : http10
      found.v++
      return { strip: 0, facts: { applicationProtocols: [version] } }
    },
  }
  return Object.freeze(filter) as ListenerFilter
}
