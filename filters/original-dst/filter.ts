import type { AcceptedSocket, FoundFacts, ListenerFilter, ListenerRefusal } from '../../lib/chain/network.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import type { OriginalDstConfig } from './config.ts'
import { restoredAddresses } from './restored.ts'

/** Compiles the filter that asks for the original destination. Unix sockets have none. */
export function compileOriginalDst(_config: OriginalDstConfig): ListenerFilter {
  return Object.freeze({
    maxBytes: 0,
    onAccept(facts: ConnectionInfo, socket: AcceptedSocket): FoundFacts | ListenerRefusal | undefined {
      if (facts.kind === 'internal') return restoredAddresses(facts.state)
      return facts.kind === 'pipe' ? undefined : ask(socket)
    },
  })
}

function ask(socket: AcceptedSocket): FoundFacts | ListenerRefusal | undefined {
  try {
    const original = socket.originalDestination()
    return original === undefined ? undefined : { localAddress: original.host, localPort: original.port }
  } catch (error) {
    // Chains are chosen by it: going on with the address of the listener would choose another.
    return {
      refused: `the original destination is not known: ${error instanceof Error ? error.message : String(error)}`,
    }
  }
}
