import { type Suite, speaking } from './suite.ts'
import { cpuTables, HTTP2_GET, ratioBars, WORKLOADS } from './workload.ts'

const METHOD = `CPU microseconds (user + system, all processes of the proxy) per proxied request, HTTP/2 by prior knowledge from the
client and HTTP/1 to the origin: ${HTTP2_GET.connections} connections with ${HTTP2_GET.streams} requests at once each, GET, an answer of 13 bytes, X-Forwarded-For and
X-Request-Id added by every proxy (nghttpx: only the former).`

const UPSTREAM_METHOD = `The same load with HTTP/2 by prior knowledge on both sides. The origin announces 100 streams a connection, so at least 6
connections are needed. nginx speaks HTTP/2 with gRPC upstreams only and is left out.`

/** CPU per small request, HTTP/2 to HTTP/1, access log off and on. */
export const http2: Suite = async (context) => {
  const tables = await cpuTables(
    WORKLOADS.http2,
    { plain: 'HTTP/2 → HTTP/1, access log off', logged: 'HTTP/2 → HTTP/1, access log on, to a file' },
    context,
  )
  const bars = tables.flatMap((table) =>
    ratioBars(table, 'cpu', [
      { what: 'first step', limit: 1.3 },
      { what: 'goal', limit: 1 },
    ]),
  )
  const { skipped } = speaking(WORKLOADS.http2.traffic, context)
  return { suite: 'http2', method: METHOD, tables, bars, skipped }
}

/** CPU per small request, HTTP/2 to HTTP/2. */
export const http2Upstream: Suite = async (context) => {
  const workload = WORKLOADS['http2-upstream']
  const tables = await cpuTables(workload, { plain: 'HTTP/2 → HTTP/2, access log off' }, context)
  const { skipped } = speaking(workload.traffic, context)
  return { suite: 'http2-upstream', method: UPSTREAM_METHOD, tables, bars: [], skipped }
}
