import { ENVOY_HTTP2 } from '../../lib/http2/config.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'

const WIDE = { maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024, maxRetries: 3 }

/** A cluster `web` of HTTP/1 whose endpoints are delivered, with Envoy's defaults. */
export const CLUSTER: ClusterConfig = {
  name: 'web',
  statName: 'web',
  type: 'eds',
  assignment: 'web',
  localities: [],
  balancer: { kind: 'round-robin' },
  connectTimeoutMs: 5_000,
  bufferLimitBytes: 1024 * 1024,
  thresholds: { default: WIDE, high: WIDE },
  idleTimeoutMs: 3_600_000,
  maxResponseHeaderBytes: 60 * 1024,
  maxResponseHeaders: 100,
  protocol: 'http1',
  http1: { headerCase: 'lower', enableTrailers: false },
  http2: ENVOY_HTTP2,
  preconnectRatio: 1,
}
