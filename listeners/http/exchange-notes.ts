import type { Exchange } from '../../lib/chain/exchange.ts'
import type { Route } from '../../lib/chain/filter.ts'
import { streamLimitMs } from '../../lib/router/grpc-timeout.ts'
import type { ForwardAction } from '../../lib/router/route.ts'

/** What logs tell of the route, whoever answers in the end. */
export function noteRoute({ info }: Exchange, route: Route | undefined): void {
  info.routeName = route?.name ?? ''
  info.virtualHostName = route?.virtualHost ?? ''
  info.upstreamCluster = route?.cluster ?? ''
}

/** When it has been idle for too long: earlier under overload. */
export function idleDue({ idleLimitMs, lastActivityMs, connection }: Exchange): number {
  if (idleLimitMs <= 0) return Number.POSITIVE_INFINITY
  const { overload } = connection.state
  return lastActivityMs + (overload === undefined ? idleLimitMs : overload.streamIdle.of(idleLimitMs))
}

/** The earliest of an exchange's deadlines. */
export function nextDue(exchange: Exchange): number {
  let due = idleDue(exchange)
  if (exchange.maxDurationAtMs > 0 && exchange.maxDurationAtMs < due) due = exchange.maxDurationAtMs
  if (exchange.requestDeadlineAtMs > 0 && exchange.requestDeadlineAtMs < due) due = exchange.requestDeadlineAtMs
  return due
}

/** When an exchange of that action has taken too long; 0: never. */
export function durationDue(exchange: Exchange, action: ForwardAction | undefined, otherwiseMs: number): number {
  const limit = streamLimitMs(exchange, action, otherwiseMs)
  return limit === undefined ? 0 : Math.max(1, exchange.info.startMs + limit)
}
