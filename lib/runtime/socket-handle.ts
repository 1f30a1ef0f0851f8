import net from 'node:net'
import { getSystemErrorName } from 'node:util'
import type { Address } from '../core/address.ts'
import { clearStaleSocket, pipeName, setSocketMode } from './unix-socket.ts'

/**
 * Binds a socket without accepting on it, which `node:net` offers nowhere: a `net.Server` accepts as soon as it listens,
 * and the supervisor must never take a connection away from its workers. `net._createServerHandle` is what `node:cluster`
 * itself uses for that purpose; it is undocumented, and nothing but this file may know it. `test/runtime/socket-handle.test.ts`
 * fails by name when a new Node changes it.
 *
 * Fall-back, should it vanish: `canBindHandles()` answers false, the supervisor hands out the address itself, and every
 * worker binds it with `reusePort` (a documented option). What is lost then is written in `lib/runtime/README.md`.
 */
export interface SocketHandle {
  getsockname(out: object): number
  close(): void
}

type CreateServerHandle = (
  address: string,
  port: number,
  addressType: number,
  fd: number,
  flags: number,
) => SocketHandle | number

const IPV6_ONLY = 1

function createServerHandle(): CreateServerHandle | undefined {
  const found = (net as unknown as { _createServerHandle?: unknown })._createServerHandle
  return typeof found === 'function' ? (found as CreateServerHandle) : undefined
}

/** False where this Node can't bind without accepting. */
export function canBindHandles(): boolean {
  return createServerHandle() !== undefined
}

/** Why a socket could not be bound: the system's name of the error (`EADDRINUSE`) and a sentence. */
export class BindError extends Error {
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.name = 'BindError'
    this.code = code
  }
}

/**
 * A bound socket that is not listening yet: whoever receives it by `child.send` passes it to `server.listen`. The caller
 * owns it; closing it leaves the copies of other processes alone. IPv6 sockets take IPv6 only, as Envoy's do unless
 * `ipv4_compat` is set.
 *
 * @throws BindError
 */
export async function bindHandle(address: Address): Promise<SocketHandle> {
  const create = createServerHandle()
  if (create === undefined) throw new BindError('ENOTSUP', 'this version of Node cannot bind without listening')
  if (address.kind === 'pipe') return bindPipe(create, address)
  const v6 = address.host.includes(':')
  const handle = create(address.host, address.port, v6 ? 6 : 4, -1, v6 ? IPV6_ONLY : 0)
  if (typeof handle === 'number') throw bindError(handle, address)
  // libuv keeps EADDRINUSE back until the socket is asked for its name.
  const error = handle.getsockname({})
  if (error !== 0) {
    handle.close()
    throw bindError(error, address)
  }
  return handle
}

async function bindPipe(create: CreateServerHandle, address: Address & { kind: 'pipe' }): Promise<SocketHandle> {
  await clearStaleSocket(address.path)
  const handle = create(pipeName(address.path), -1, -1, -1, 0)
  if (typeof handle === 'number') throw bindError(handle, address)
  try {
    await setSocketMode(address.path, address.mode)
  } catch (error) {
    handle.close()
    const code = (error as NodeJS.ErrnoException).code ?? 'EIO'
    throw new BindError(code, `its mode cannot be set (${code})`)
  }
  return handle
}

function bindError(errno: number, address: Address): BindError {
  const code = getSystemErrorName(errno)
  return new BindError(code, describeBindError(code, address))
}

/** A sentence for the errors that people meet, and what to do about them. */
export function describeBindError(code: string, address: Address): string {
  switch (code) {
    case 'EADDRINUSE':
      return 'the address is already in use (EADDRINUSE)'
    case 'EADDRNOTAVAIL':
      return 'no interface of this machine has that address (EADDRNOTAVAIL)'
    case 'EACCES':
      // libuv reports a missing directory of a Unix socket so, too.
      if (address.kind === 'pipe') return 'permission denied, or its directory does not exist (EACCES)'
      return address.port < 1024
        ? `no permission to bind port ${address.port}, which is privileged (EACCES)`
        : 'permission denied (EACCES)'
    case 'EINVAL':
      return address.kind === 'pipe' ? 'not a path that a socket can have (EINVAL)' : 'not an address to bind (EINVAL)'
    default:
      return `cannot be bound (${code})`
  }
}
