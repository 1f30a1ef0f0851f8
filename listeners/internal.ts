import type { Duplex } from 'node:stream'
import type { ListenerConfig } from '../lib/config/listener.ts'
import { type ConnectionInfo, ConnectionState, plainConnection } from '../lib/core/connection.ts'
import type { InternalArrival, InternalListeners } from '../lib/core/internal-listeners.ts'
import type { Counter, Log, Metrics } from '../lib/core/metrics.ts'
import { createPipe, type PipeEnd } from '../lib/core/pipe.ts'

/**
 * Internal listeners that a connection may come through, one after another. Whoever configures a longer chain has most
 * likely made a circle of them, in which one connection would become thousands.
 */
const MAX_DEPTH = 8

/** A listener, as far as connections from within need it. */
export interface InternalTarget {
  readonly config: ListenerConfig
  /** False: it has no room for more. */
  acceptInternal(stream: PipeEnd, facts: ConnectionInfo): boolean
}

/** What connections from within are made with. */
export interface InternalParts {
  /** The listener of the moment. */
  readonly find: (name: string) => InternalTarget | undefined
  readonly nextConnectionId: () => number
  readonly metrics: Metrics
  readonly log: Log
}

/**
 * The internal listeners of one gateway, over any number of snapshots. The far end of each connection looks to its
 * listener like an accepted socket whose client is the one that the connection is made for.
 */
export class InternalListenerTable implements InternalListeners {
  readonly #parts: InternalParts
  readonly #loops: Counter

  constructor(parts: InternalParts) {
    this.#parts = parts
    this.#loops = parts.metrics.counter('internal_listener.depth_exceeded')
  }

  connect(name: string, arrival: InternalArrival): Duplex | undefined {
    const listener = this.#parts.find(name)
    if (listener === undefined || !listener.config.internal) return undefined
    const depth = (arrival.downstream?.state.depth ?? arrival.depth ?? 0) + 1
    if (depth > MAX_DEPTH) {
      this.#loops.v++
      this.#parts.log.warn('a connection comes back through internal listeners again and again', { listener: name })
      return undefined
    }
    const facts = this.#describe(name, arrival, depth)
    const { near, far } = createPipe({
      near: { address: facts.remoteAddress, port: facts.remotePort },
      far: { address: facts.localAddress, port: facts.localPort },
    })
    if (listener.acceptInternal(far, facts)) return near
    near.destroy()
    far.destroy()
    return undefined
  }

  /** The client's addresses are those of the connection behind it; its TLS is not: that ended there. */
  #describe(listenerName: string, arrival: InternalArrival, depth: number): ConnectionInfo {
    const { downstream, destination } = arrival
    const state = new ConnectionState(depth, arrival.peer)
    if (arrival.metadata !== undefined) {
      for (const [namespace, value] of arrival.metadata) state.mergeMetadata(namespace, value)
    }
    // Shared with the connections that are made for this one in turn.
    if (arrival.objects !== undefined) for (const [key, value] of arrival.objects) state.setObject(key, value, true)
    const facts = plainConnection({
      id: this.#parts.nextConnectionId(),
      remoteAddress: downstream?.remoteAddress ?? '',
      remotePort: downstream?.remotePort ?? 0,
      localAddress: destination?.address ?? downstream?.localAddress ?? '',
      localPort: destination?.port ?? downstream?.localPort ?? 0,
      kind: 'internal',
      listenerName,
    })
    if (downstream === undefined) return { ...facts, state }
    const { directRemoteAddress, directRemotePort } = downstream
    return { ...facts, directRemoteAddress, directRemotePort, state }
  }
}
