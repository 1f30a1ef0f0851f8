import type { HttpFilter, HttpStream, Next, NextChunk, Scope } from '../../lib/chain/filter.ts'
import { Headers } from '../../lib/core/headers.ts'
import { compileFeatureFlag } from '../../lib/match/feature-flag.ts'
import type { BandwidthLimitConfig } from './config.ts'
import { type DirectionCells, PacedBody } from './paced-body.ts'
import { Throttle } from './throttle.ts'

/** One exchange; undefined: that direction is not limited. */
interface Bodies {
  request: PacedBody | undefined
  response: PacedBody | undefined
}

/** Compiles the filter; it has hooks for the directions that are limited. The bytes of upgrades pass as they come. */
export function compileBandwidthLimit(config: BandwidthLimitConfig, scope: Scope): HttpFilter<unknown> {
  const { bytesPerSecond, request, response, fillIntervalMs: intervalMs } = config
  if (bytesPerSecond === undefined || !(request || response)) return NO_HOOKS
  const { leases, wheel, random, place, filterName } = scope
  const key = `bandwidth_limit/${place}/${filterName}/${config.written}`
  const throttle = scope.own(new Throttle({ leases, key, wheel, random, bytesPerSecond, intervalMs }))
  return Object.freeze({
    createState: (): Bodies => ({ request: undefined, response: undefined }),
    ...(request && requestHooks(config, scope, throttle)),
    ...(response && responseHooks(config, scope, throttle)),
    onEnd(_stream, bodies) {
      bodies.request?.close()
      bodies.response?.close()
    },
  } satisfies HttpFilter<Bodies>) as HttpFilter<unknown>
}

const NO_HOOKS: HttpFilter<unknown> = Object.freeze({})

function requestHooks(config: BandwidthLimitConfig, scope: Scope, throttle: Throttle): HttpFilter<Bodies> {
  const enabled = compileFeatureFlag(config.enabled, scope.runtime)
  const cells = cellsOf(config, 'request', scope)
  const options = { throttle, cells, clock: scope.clock }
  return {
    onRequestHeaders(stream, _end, bodies): Next {
      if (!enabled()) return
      cells.enabled.v++
      bodies.request = new PacedBody(options, (part) => stream.writeRequest(part))
    },
    onRequestData(_stream, chunk, end, { request }): NextChunk {
      return request?.push(chunk, end ? () => request.complete() : undefined)
    },
    onRequestTrailers(_stream, _trailers, { request }): Next {
      request?.complete()
    },
  }
}

function responseHooks(config: BandwidthLimitConfig, scope: Scope, throttle: Throttle): HttpFilter<Bodies> {
  const enabled = compileFeatureFlag(config.enabled, scope.runtime)
  const cells = cellsOf(config, 'response', scope)
  const options = { throttle, cells, clock: scope.clock }
  const tell = config.trailers ? compileTrailers(config.trailerPrefix) : undefined
  const finish = (stream: HttpStream, bodies: Bodies): void => {
    bodies.response?.complete()
    if (tell === undefined) return
    const trailers = new Headers()
    tell(trailers, bodies)
    if (trailers.size > 0) stream.setResponseTrailers(trailers)
  }
  return {
    onResponseHeaders(stream, _end, bodies): Next {
      if (!enabled()) return
      cells.enabled.v++
      bodies.response = new PacedBody(options, (part) => stream.writeResponse(part))
    },
    onResponseData(stream, chunk, end, bodies): NextChunk {
      return bodies.response?.push(chunk, end ? () => finish(stream, bodies) : undefined)
    },
    onResponseTrailers(_stream, trailers, bodies): Next {
      bodies.response?.complete()
      if (bodies.response !== undefined) tell?.(trailers, bodies)
    },
  }
}

/** Whole milliseconds; what took none is not told of. */
function compileTrailers(prefix: string): (trailers: Headers, bodies: Bodies) => void {
  const requestDelay = `${prefix}bandwidth-request-delay-ms`
  const responseDelay = `${prefix}bandwidth-response-delay-ms`
  const requestFilterDelay = `${prefix}bandwidth-request-filter-delay-ms`
  const responseFilterDelay = `${prefix}bandwidth-response-filter-delay-ms`
  const add = (trailers: Headers, name: string, ms: number | undefined): void => {
    if (ms !== undefined && ms >= 1) trailers.set(name, String(Math.floor(ms)))
  }
  return (trailers, { request, response }) => {
    add(trailers, requestDelay, request?.durationMs)
    add(trailers, requestFilterDelay, request?.delayMs)
    add(trailers, responseDelay, response?.durationMs)
    add(trailers, responseFilterDelay, response?.delayMs)
  }
}

function cellsOf(
  { statPrefix }: BandwidthLimitConfig,
  direction: 'request' | 'response',
  { metrics }: Scope,
): DirectionCells {
  const prefix = `${statPrefix}.http_bandwidth_limit.${direction}_`
  return {
    enabled: metrics.counter(`${prefix}enabled`),
    enforced: metrics.counter(`${prefix}enforced`),
    pending: metrics.gauge(`${prefix}pending`),
    incomingSize: metrics.gauge(`${prefix}incoming_size`),
    incomingTotalSize: metrics.counter(`${prefix}incoming_total_size`),
    allowedSize: metrics.gauge(`${prefix}allowed_size`),
    allowedTotalSize: metrics.counter(`${prefix}allowed_total_size`),
    transferDuration: metrics.histogram(`${prefix}transfer_duration`),
  }
}
