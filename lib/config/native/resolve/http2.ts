import { EDGE_HTTP2, type Http2Config } from '../../../http2/config.ts'
import type { NativeHttp2 } from '../http2.ts'
import { defined } from './reading.ts'

const KEEPALIVE = { intervalMs: 0, timeoutMs: 10_000, jitterPercent: 15, idleIntervalMs: 0 } as const

/** What is left out is safe at the edge of a network. */
export function readHttp2(http2: NativeHttp2 = {}): Http2Config {
  const { keepalive, customSettings, ...limits } = http2
  return {
    ...EDGE_HTTP2,
    ...defined(limits),
    ...(keepalive && { keepalive: { ...KEEPALIVE, ...defined(keepalive) } }),
    customSettings: (customSettings ?? []).map(({ id, value }) => ({ id, value })),
  }
}
