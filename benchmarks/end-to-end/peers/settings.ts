/**
 * What the Node peers share. Every peer is started as
 * `node PEER.ts LISTEN_PORT ORIGIN_PORT LOG_FILE [FLAG…]`; an empty LOG_FILE stands for none.
 */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

export interface PeerSettings {
  readonly listenPort: number
  readonly originPort: number
  readonly logFile: string | undefined
  readonly flags: readonly string[]
}

/** Reads the arguments and makes SIGTERM an orderly exit, so that `--cpu-prof` gets to write its file. */
export function peerSettings(): PeerSettings {
  process.on('SIGTERM', () => process.exit(0))
  const [listenPort, originPort, logFile, ...flags] = process.argv.slice(2)
  return { listenPort: Number(listenPort), originPort: Number(originPort), logFile: logFile || undefined, flags }
}

/** Gives the request what each proxy of the comparison adds: X-Forwarded-For and a new X-Request-Id. */
export function addForwardingHeaders(req: IncomingMessage): void {
  const address = req.socket.remoteAddress ?? ''
  const forwarded = req.headers['x-forwarded-for']
  req.headers['x-forwarded-for'] = forwarded === undefined ? address : `${forwarded}, ${address}`
  req.headers['x-request-id'] = randomUUID()
}

/** Milliseconds that an idle client connection is kept: longer than any suite holds one. */
export const KEEP_ALIVE_MS = 300_000
