import type { HttpFilter, HttpStream } from '../../lib/chain/filter.ts'
import type { Headers } from '../../lib/core/headers.ts'
import type { HeaderMutationConfig, HeaderStep, Mutations } from './config.ts'
import { compileHeaderStep, type HeaderEdit } from './headers.ts'
import { compileQueryStep } from './query.ts'

/** Compiles the filter; it has hooks only for what its configuration changes. */
export function compileHeaderMutation(config: HeaderMutationConfig): HttpFilter<unknown> {
  const request = compileRequest(config.levels)
  const response = compileHeaders(config.levels.flatMap((level) => level.response))
  const requestTrailers = compileHeaders(config.levels.flatMap((level) => level.requestTrailers))
  const responseTrailers = compileHeaders(config.levels.flatMap((level) => level.responseTrailers))
  const filter: HttpFilter<unknown> = {
    ...(request && { onRequestHeaders: (stream) => request(stream) }),
    ...(response && { onResponseHeaders: (stream) => response(stream.response, stream) }),
    ...(requestTrailers && { onRequestTrailers: (stream, trailers) => requestTrailers(trailers, stream) }),
    ...(responseTrailers && { onResponseTrailers: (stream, trailers) => responseTrailers(trailers, stream) }),
  }
  return Object.freeze(filter)
}

/** Level by level: headers first, then the query. */
function compileRequest(levels: readonly Mutations[]): ((stream: HttpStream) => void) | undefined {
  const steps = levels.flatMap((level) => {
    const headers = level.request
      .map(compileHeaderStep)
      .map((edit) => (stream: HttpStream) => edit(stream.request, stream))
    const query = level.query.map(compileQueryStep).map((edit) => (stream: HttpStream) => {
      // CONNECT has no path.
      if (stream.head.path !== '') stream.head.path = edit(stream.head.path, stream)
    })
    return [...headers, ...query]
  })
  if (steps.length === 0) return undefined
  return (stream) => {
    for (const step of steps) step(stream)
  }
}

function compileHeaders(steps: readonly HeaderStep[]): HeaderEdit | undefined {
  if (steps.length === 0) return undefined
  const edits = steps.map(compileHeaderStep)
  return (headers: Headers, stream: HttpStream) => {
    for (const edit of edits) edit(headers, stream)
  }
}
