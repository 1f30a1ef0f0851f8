import type { ClusterConfig } from '../../lib/upstream/config.ts'

/**
 * PINGs on the connection of a control plane, where its cluster asks for none. Five minutes is the most often that a gRPC
 * server in Go bears by default (`keepalive.EnforcementPolicy.MinTime`; whoever is asked more often answers with GOAWAY
 * "too_many_pings"); jitter only makes it longer.
 */
const PING = Object.freeze({ intervalMs: 300_000, timeoutMs: 20_000, jitterPercent: 15, idleIntervalMs: 0 })

/** Probes of TCP find a machine or a network that is gone, after a minute and a half, and bother no server. */
const PROBES = Object.freeze({ idleS: 60, intervalS: 10, probes: 3 })

/**
 * The cluster of a control plane, with what finds a connection whose other end has gone silent: a stream of discovery may
 * hear nothing for days and be well. What the cluster has of its own stays (`connection_keepalive`, `tcp_keepalive`).
 */
export function withLiveness(config: ClusterConfig): ClusterConfig {
  const { http2, keepalive } = config
  return { ...config, http2: { ...http2, keepalive: http2.keepalive ?? PING }, keepalive: keepalive ?? PROBES }
}
