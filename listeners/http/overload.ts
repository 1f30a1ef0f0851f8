import type { Exchange } from '../../lib/chain/exchange.ts'
import type { LocalReply } from '../../lib/chain/filter.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import { FAILURES } from '../../lib/core/failure.ts'
import type { HeavyStream } from '../../lib/runtime/overload/heavy-streams.ts'
import type { ConnectionHost } from '../http1/host.ts'
import type { ConnectionManager } from './connection-manager.ts'
import type { Refusal } from './local-reply.ts'

/** A new request under overload; no filter sees it. */
const OVERLOADED: Refusal = Object.freeze({ status: 503, details: 'overload' })
/** The same where `append_local_overload` is set. */
const OVERLOADED_AND_SAID: Refusal = Object.freeze({ ...OVERLOADED })

/** Envoy's answer; that it may be tried again in a second is ours. */
export const OVERLOAD_REPLY: LocalReply = Object.freeze({
  status: 503,
  body: 'envoy overloaded',
  headers: Object.freeze(['retry-after', '1']),
  details: 'overload',
  flag: 'OM',
})

const SAYING_REPLY: LocalReply = Object.freeze({
  ...OVERLOAD_REPLY,
  headers: Object.freeze(['retry-after', '1', 'x-envoy-local-overloaded', 'true']),
})

/** The answer to a refusal of `overloadRefusal`; undefined: it is none. */
export function overloadReply(refusal: Refusal): LocalReply | undefined {
  if (refusal === OVERLOADED) return OVERLOAD_REPLY
  return refusal === OVERLOADED_AND_SAID ? SAYING_REPLY : undefined
}

/** What is not even looked at over HTTP/1. Envoy's status. */
export const ABORT_REPLY: LocalReply = Object.freeze({
  status: 500,
  body: 'Internal Server Error',
  details: 'overload',
  flag: 'OM',
})

/** Why a request whose head is complete is not taken: there is too much to do already. */
export function overloadRefusal({ connection }: Exchange, manager: ConnectionManager): Refusal | undefined {
  if (connection.state.overload?.refusesRequest() !== true) return undefined
  manager.stats.overloadCloses.v++
  return manager.config.appendLocalOverload === true ? OVERLOADED_AND_SAID : OVERLOADED
}

/** Whether the connection ends with an answer because its listener drains; counted. Asked once for each: it may be by chance. */
export function drainsNow(host: ConnectionHost): boolean {
  if (!host.draining) return false
  host.manager.stats.drainCloses.v++
  return true
}

/** Whether the connection is to end with the answer that is due, because keep-alive is off under overload; counted. */
export function keepaliveIsOff(host: ConnectionHost, { state }: ConnectionInfo): boolean {
  if (state.overload?.disableKeepalive.acts() !== true) return false
  host.manager.stats.overloadKeepalives.v++
  return true
}

/** A request under way whose codec holds `codecBytes` of it. */
export function heavyStream(exchange: Exchange, codecBytes: number): HeavyStream {
  return {
    bufferedBytes: exchange.bufferedBytes + codecBytes,
    shed() {
      if (exchange.headersSent) exchange.abortFor(FAILURES.overload)
      else exchange.reply(OVERLOAD_REPLY)
    },
  }
}
