import type { AcceptedSocket, FoundFacts, ListenerFilter } from '../../lib/chain/network.ts'
import { type ConnectionInfo, plainConnection } from '../../lib/core/connection.ts'
import type { Json, JsonObject } from '../../lib/core/errors.ts'

/** A connection from 192.0.2.7 that nobody has looked into. */
export function connection(more: Partial<ConnectionInfo> = {}): ConnectionInfo {
  const facts = plainConnection({
    id: 1,
    remoteAddress: '192.0.2.7',
    remotePort: 40_000,
    localAddress: '192.0.2.1',
    localPort: 443,
    kind: 'ip',
    listenerName: 'ingress',
  })
  return { ...facts, ...more }
}

/** What a filter made of a connection. */
export interface Inspected {
  readonly outcome: 'passed' | 'refused' | 'more'
  /** Why it was refused; else ''. */
  readonly why: string
  readonly facts: FoundFacts
  /** What the next one would see of all that was sent. */
  readonly rest: string
  readonly metadata: JsonObject
  readonly typed: JsonObject
}

const NO_ORIGINAL: AcceptedSocket = { originalDestination: () => undefined }
const NAMESPACES = ['envoy.filters.listener.proxy_protocol', 'envoy.filters.listener.tls_inspector', 'lb']

/**
 * Gives a filter what has been received so far, piece by piece, as the listener does, and stops at its verdict. Throws
 * where it asks for more than its `maxBytes`.
 */
export function inspect(
  filter: ListenerFilter,
  pieces: readonly Buffer[],
  {
    facts = connection(),
    socket = NO_ORIGINAL,
  }: { readonly facts?: ConnectionInfo; readonly socket?: AcceptedSocket } = {},
): Inspected {
  const all = Buffer.concat(pieces)
  const result = (outcome: Inspected['outcome'], found: FoundFacts, strip: number, why = ''): Inspected => ({
    outcome,
    why,
    facts: found,
    rest: all.latin1Slice(strip),
    metadata: collect((namespace) => facts.state.metadata(namespace)),
    typed: collect((namespace) => facts.state.typedMetadata(namespace)),
  })
  const accepted = filter.onAccept?.(facts, socket)
  if (accepted instanceof Promise) throw new Error('leases of one process never make anybody wait')
  if (accepted !== undefined && 'refused' in accepted) return result('refused', {}, 0, accepted.refused)
  if (filter.inspect === undefined) return result('passed', accepted ?? {}, 0)
  const now: ConnectionInfo = { ...facts, ...accepted }
  let state: unknown
  let peeked: Buffer = Buffer.alloc(0)
  for (const piece of pieces) {
    const from = peeked.length
    peeked = Buffer.concat([peeked, piece])
    const verdict = filter.inspect(peeked, from, state, now)
    if ('refused' in verdict) return result('refused', {}, 0, verdict.refused)
    if ('strip' in verdict) return result('passed', { ...accepted, ...verdict.facts }, verdict.strip)
    if (peeked.length >= filter.maxBytes) throw new Error(`it wants more than ${filter.maxBytes} bytes`)
    state = verdict.more
  }
  return result('more', {}, 0)
}

function collect(read: (namespace: string) => Json | undefined): JsonObject {
  return Object.fromEntries(NAMESPACES.flatMap((name) => [[name, read(name)]].filter((pair) => pair[1] !== undefined)))
}
