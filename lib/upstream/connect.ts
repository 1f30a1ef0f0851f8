import { connect, type Socket } from 'node:net'
import type { ClusterConfig } from './config.ts'
import type { Host } from './host.ts'

/** Begins to connect to a host; success, failure and end arrive as events of the socket. */
export function connectHost(host: Host, config: ClusterConfig): Socket {
  const { address } = host
  // allowHalfOpen: the pool decides what an upstream's FIN means; Node must not answer it by itself.
  if (address.kind === 'pipe') return connect({ path: address.path, allowHalfOpen: true })
  return connect({
    host: address.host,
    port: address.port,
    noDelay: true,
    allowHalfOpen: true,
    ...(config.bindAddress === undefined ? {} : { localAddress: config.bindAddress }),
    ...(config.keepalive === undefined
      ? {}
      : { keepAlive: true, keepAliveInitialDelay: config.keepalive.idleS * 1000 }),
  })
}
