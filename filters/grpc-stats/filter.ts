import type { HttpFilter, HttpStream, Next, NextChunk, Scope } from '../../lib/chain/filter.ts'
import { isGrpc, isGrpcResponse } from '../../lib/core/grpc.ts'
import { GrpcFrames } from '../../lib/core/grpc-frames.ts'
import type { Headers } from '../../lib/core/headers.ts'
import { type MethodStats, MethodStatsIndex } from '../../lib/telemetry/grpc-method-stats.ts'
import type { GrpcStatsConfig } from './config.ts'

/** Where the counts of a call's messages lie in its filter state, under the field names of Envoy's `FilterObject`. */
export const GRPC_STATS_KEY = 'envoy.filters.http.grpc_stats'

export interface GrpcMessageCounts {
  request_message_count: number
  response_message_count: number
}

/** One call; undefined frames where that direction is no gRPC. */
interface Call {
  stats: MethodStats | undefined
  requestFrames: GrpcFrames | undefined
  responseFrames: GrpcFrames | undefined
  counts: GrpcMessageCounts | undefined
  /** Its status has been counted. */
  ended: boolean
  /** The response has come to its end, so that its time counts. */
  timed: boolean
}

/** Compiles the filter. It looks on: nothing of a call is changed, held or copied. */
export function compileGrpcStats(config: GrpcStatsConfig, scope: Scope): HttpFilter<unknown> {
  const { methods, replaceDots, emitFilterState, upstreamTime } = config
  const index = new MethodStatsIndex(scope.metrics, scope.clusters, { protocol: 'grpc', methods, replaceDots })

  const filter: HttpFilter<Call> = {
    createState: newCall,

    onRequestHeaders(stream, _end, call): Next {
      if (!isGrpc(stream.request)) return
      call.requestFrames = new GrpcFrames()
      // Bound here, as in Envoy: filters behind this one may change the path.
      call.stats = index.find(stream.route?.cluster ?? '', stream.head.path)
    },

    onRequestData(stream, chunk, _end, call): NextChunk {
      const begun = call.requestFrames?.scan(chunk) ?? 0
      if (begun === 0) return
      if (emitFilterState) note(stream, call)
      call.stats?.requestMessages(begun)
    },

    onResponseHeaders(stream, end, call): Next {
      if (isGrpcResponse(stream.status, stream.response, end)) call.responseFrames = new GrpcFrames()
      countEnd(call, stream.response)
      call.timed = end
    },

    onResponseData(stream, chunk, _end, call): NextChunk {
      const begun = call.responseFrames?.scan(chunk) ?? 0
      if (begun === 0) return
      if (emitFilterState) note(stream, call)
      call.stats?.responseMessages(begun)
    },

    onResponseTrailers(_stream, trailers, call): Next {
      countEnd(call, trailers)
      call.timed = true
    },
  }
  if (upstreamTime) filter.onEnd = recordTime
  return Object.freeze(filter) as HttpFilter<unknown>
}

function newCall(): Call {
  return {
    stats: undefined,
    requestFrames: undefined,
    responseFrames: undefined,
    counts: undefined,
    ended: false,
    timed: false,
  }
}

function countEnd(call: Call, fields: Headers): void {
  if (call.stats === undefined || call.ended) return
  const status = fields.get('grpc-status')
  if (status === undefined) return
  call.ended = true
  call.stats.ended(status)
}

function note(stream: HttpStream, call: Call): void {
  if (call.counts === undefined) {
    call.counts = { request_message_count: 0, response_message_count: 0 }
    stream.filterState.set(GRPC_STATS_KEY, call.counts)
  }
  call.counts.request_message_count = call.requestFrames?.count ?? 0
  call.counts.response_message_count = call.responseFrames?.count ?? 0
}

/** From the last byte sent upstream to the last one received; not before the end, because only then both are known. */
function recordTime(stream: HttpStream, call: Call): void {
  const { upstreamLastSentMs, upstreamLastReceivedMs } = stream.info
  if (!call.timed || upstreamLastSentMs === 0 || upstreamLastReceivedMs === 0) return
  call.stats?.upstreamTime(upstreamLastReceivedMs - upstreamLastSentMs)
}
