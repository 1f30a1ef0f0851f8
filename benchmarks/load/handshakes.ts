import { runGenerator } from './generator.ts'
import type { Machine } from './machine.ts'

/** Closed-loop load of new TLS connections: each is opened when the one before it has ended. Nothing is ever resumed. */
export interface HandshakeLoad {
  readonly port: number
  /** At once. */
  readonly connections: number
  readonly seconds: number
  /** It goes on longer, but not for more than a minute, until there were so many. */
  readonly atLeast?: number
  /** The one key exchange group that is offered (TLS 1.3 alone), in OpenSSL's name. */
  readonly group: string
  /** By turns; default: none is sent. `answer` is then all that must come, before the end. */
  readonly names?: readonly { readonly serverName: string; readonly answer: string }[]
}

export interface HandshakeResult {
  /** Full handshakes that both sides have finished, the connection ended in order by the proxy. */
  readonly handshakes: number
  readonly seconds: number
  readonly errors: number
  /** Of the first of them. */
  readonly firstError?: string
}

/** Runs the load from the load cores. Never throws for errors of the proxy: see `errors`. */
export function runHandshakes(load: HandshakeLoad, machine: Machine, folder: string): Promise<HandshakeResult> {
  return runGenerator('handshakes-process.ts', load, machine, folder)
}
