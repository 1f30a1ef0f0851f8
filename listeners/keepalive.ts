import type { Socket } from 'node:net'
import type { KeepaliveConfig } from '../lib/config/listener.ts'

/** Switches TCP keep-alive on; what is undefined stays as the system has it. */
export function keepAlive(socket: Socket, { idleS, intervalS, probes }: KeepaliveConfig): void {
  // The types know the first two only.
  const set: (enable: boolean, idleMs?: number, intervalMs?: number, count?: number) => unknown = socket.setKeepAlive
  set.call(socket, true, (idleS ?? 0) * 1000, intervalS === undefined ? undefined : intervalS * 1000, probes)
}
