import type { ClusterConfig } from './config.ts'
import type { Host } from './host.ts'
import type { ClusterStats } from './stats.ts'

/** Connections opened ahead of need with one request (as Envoy). */
const MAX_AT_ONCE = 3

/** What a cluster has under way, and how it finds and reaches what comes. */
export interface Outlook {
  readonly stats: ClusterStats
  /** The host that one of the next requests will go to, each call another one. */
  peek(): Host | undefined
  /** False: there is nothing to be opened. */
  open(host: Host): boolean
}

/**
 * Envoy's `predictive_preconnect_ratio`, before a request opens its stream: as long as the cluster has fewer connections
 * than `ratio` times its requests, this one included, one more is opened, to the host that is next.
 */
export function connectAhead(config: ClusterConfig, ratio: number, { stats, peek, open }: Outlook): void {
  const perConnection = config.protocol === 'http1' ? 1 : config.http2.maxConcurrentStreams
  const pending = config.protocol === 'http1' ? 0 : stats.rqPendingActive.v
  for (let i = 0; i < MAX_AT_ONCE; i++) {
    if ((stats.rqActive.v + pending + 1) * ratio <= stats.cxActive.v * perConnection) return
    const host = peek()
    if (host === undefined || !open(host)) return
  }
}
