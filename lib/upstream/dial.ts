import { connect, isIPv4, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { Address } from '../core/address.ts'
import type { ClusterConfig } from './config.ts'
import type { SocketReader } from './socket-reader.ts'

/** The settings of a cluster that its sockets are made with. */
export type SocketConfig = Pick<ClusterConfig, 'bindAddress' | 'extraBindAddresses' | 'keepalive'>

/** A socket that begins to connect. */
export function connectSocket(address: Address, config: SocketConfig, reader: SocketReader | undefined): Socket {
  // allowHalfOpen: the pool decides what an upstream's FIN means; Node must not answer it by itself.
  const onread = reader === undefined ? {} : { onread: reader.onread }
  if (address.kind === 'pipe') return connect({ path: socketPath(address.path), allowHalfOpen: true, ...onread })
  const localAddress = bindAddressFor(address.host, config)
  const socket = connect({
    host: address.host,
    port: address.port,
    noDelay: true,
    ...onread,
    allowHalfOpen: true,
    ...(localAddress === undefined ? {} : { localAddress }),
  })
  if (config.keepalive !== undefined) setKeepalive(socket, config.keepalive)
  return socket
}

/** Abstract sockets are written `@name`; the system wants a NUL in its place. */
function socketPath(path: string): string {
  return path.startsWith('@') ? `\0${path.slice(1)}` : path
}

function setKeepalive(socket: Socket, { idleS, intervalS, probes }: NonNullable<ClusterConfig['keepalive']>): void {
  const options = {
    enable: true,
    initialDelay: idleS * 1000,
    ...(intervalS !== undefined && { interval: intervalS * 1000 }),
    ...(probes !== undefined && { count: probes }),
  }
  // The types know the older form alone.
  const set = socket.setKeepAlive as unknown as (this: Socket, options: object) => Socket
  set.call(socket, options)
}

function bindAddressFor(host: string, { bindAddress, extraBindAddresses }: SocketConfig): string | undefined {
  if (bindAddress === undefined) return undefined
  if (extraBindAddresses === undefined || isIPv4(bindAddress) === isIPv4(host)) return bindAddress
  return extraBindAddresses.find((extra) => isIPv4(extra) === isIPv4(host)) ?? bindAddress
}

/**
 * Streams from within take the place of sockets: they have their methods and events. Where there is none, one that
 * reports it as a refused connection.
 */
export function internalSocket(stream: Duplex | undefined, listener: string): Socket {
  const end = stream ?? new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() })
  if (stream === undefined) {
    end.destroy(Object.assign(new Error(`no internal listener "${listener}"`), { code: 'ECONNREFUSED' }))
  }
  return end as unknown as Socket
}
