import { type Suite, speaking } from './suite.ts'
import { cpuTables, ratioBars, WORKLOADS } from './workload.ts'

const METHOD = `CPU microseconds per proxied request with TLS towards the client and plain HTTP/1 towards the origin: the load of
\`requests\` over HTTP/1 (64 connections) and that of \`http2\` (16 connections with 32 requests at once each). Every proxy
serves the same ECDSA P-256 certificate and offers h2 and http/1.1 by ALPN. Handshakes are a few per measured stretch, so
this is the cost of records, not of handshakes.`

/** CPU per small request behind TLS. */
export const tls: Suite = async (context) => {
  const overHttp1 = await cpuTables(WORKLOADS['tls-http1'], { plain: 'TLS, HTTP/1 → HTTP/1' }, context)
  const overHttp2 = await cpuTables(WORKLOADS['tls-http2'], { plain: 'TLS, HTTP/2 → HTTP/1' }, context)
  const { skipped } = speaking(WORKLOADS['tls-http2'].traffic, context)
  const bars = overHttp1.flatMap((table) => ratioBars(table, 'cpu', [{ what: '', limit: 1.5 }]))
  return { suite: 'tls', method: METHOD, tables: [...overHttp1, ...overHttp2], bars, skipped }
}
