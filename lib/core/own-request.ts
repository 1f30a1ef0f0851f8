import type { Attempt } from './attempt.ts'
import { Headers } from './headers.ts'

/** A request of the gateway's own. */
export interface OwnRequest {
  readonly method: string
  readonly authority: string
  readonly path: string
  /** Flat, lower-case names; framing is the caller's. Taken over. */
  readonly headers: string[]
  /** Without a body. */
  readonly end: boolean
}

/** A request of the gateway's own as the attempt that a cluster takes: of normal priority, for no client. */
export function ownAttempt({ method, authority, path, headers, end }: OwnRequest): Attempt {
  return {
    head: { method, scheme: '', authority, path, protocol: undefined },
    headers: new Headers(headers),
    end,
    priority: 'default',
    upgrade: false,
    downstream: undefined,
    downstreamProtocol: 'HTTP/1.1',
    forwardContinue: false,
  }
}
