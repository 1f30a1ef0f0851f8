import type { Socket } from 'node:net'
import type { AcceptedSocket } from '../lib/chain/network.ts'
import { type Address, canonicalIp, formatAddress } from '../lib/core/address.ts'
import { type ConnectionInfo, plainConnection } from '../lib/core/connection.ts'

/** What is known of a socket that came in on `address`; undefined: the client was gone before we looked. */
export function factsOf(
  socket: Socket,
  address: Address,
  { id, listenerName }: Pick<ConnectionInfo, 'id' | 'listenerName'>,
): ConnectionInfo | undefined {
  const pipe = address.kind === 'pipe'
  const remote = pipe ? '' : socket.remoteAddress
  if (remote === undefined) return undefined
  return plainConnection({
    id,
    remoteAddress: canonicalIp(remote),
    remotePort: socket.remotePort ?? 0,
    localAddress: pipe ? formatAddress(address) : canonicalIp(socket.localAddress ?? ''),
    localPort: socket.localPort ?? 0,
    kind: address.kind,
    listenerName,
  })
}

/** What is made on behalf of other connections was counted with those. */
export function fromWithin({ state }: ConnectionInfo): boolean {
  return state.depth > 0
}

/** Unix sockets have clients without addresses. */
export function hasSource(facts: ConnectionInfo): boolean {
  return facts.directRemoteAddress !== '' && !fromWithin(facts)
}

/** For the application log. */
export function parties(facts: ConnectionInfo): Record<string, unknown> {
  return {
    listener: facts.listenerName,
    client: facts.remoteAddress,
    serverName: facts.serverName,
    destination: facts.localAddress,
    destinationPort: facts.localPort,
  }
}

/** Sockets that were accepted here. */
export const NO_ORIGINAL: AcceptedSocket = Object.freeze({
  originalDestination(): never {
    throw new Error('this platform does not tell where a connection was redirected from')
  },
})
