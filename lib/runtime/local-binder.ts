import type { Address } from '../core/address.ts'
import type { Binder } from './engine.ts'
import { clearStaleSocket, pipeName, setSocketMode } from './unix-socket.ts'

/**
 * The binder of an embedded gateway: one process, so every listener binds for itself. Answers options for
 * `server.listen`; a stale socket file is out of the way by then.
 */
export const localBinder: Binder = Object.freeze({
  async bind(address: Address, backlog: number): Promise<unknown> {
    if (address.kind === 'pipe') await clearStaleSocket(address.path)
    return listenOptions(address, backlog)
  },
  release(): void {},
})

/** Options for `server.listen`; IPv6 sockets take IPv6 only, as Envoy's do unless `ipv4_compat` is set. */
export function listenOptions(address: Address, backlog: number): ListenOptions {
  if (address.kind === 'pipe') return { path: pipeName(address.path), backlog }
  const { host, port, dualStack = false } = address
  return { host, port, ipv6Only: host.includes(':') && !dualStack, backlog }
}

/** The part of `net.ListenOptions` that is needed here. */
export type ListenOptions =
  | { readonly path: string; readonly backlog: number }
  | { readonly host: string; readonly port: number; readonly ipv6Only: boolean; readonly backlog: number }

/** Applies `Pipe.mode` to a socket file that `server.listen` has made. */
export async function applySocketMode(address: Address): Promise<void> {
  if (address.kind === 'pipe') await setSocketMode(address.path, address.mode)
}
