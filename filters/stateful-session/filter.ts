import type { HttpFilter, HttpStream, Scope } from '../../lib/chain/filter.ts'
import { FAILURES, type Failure, flagBit } from '../../lib/core/failure.ts'
import type { Counter } from '../../lib/core/metrics.ts'
import type { StatefulSessionConfig } from './config.ts'
import { createState } from './states.ts'

/** What is known of the session of one request. */
interface Session {
  /** False: requests like it have none. */
  covered: boolean
  asked: string | undefined
}

/** Sends requests to the host that their session says, and tells clients which that is. */
export function compileStatefulSession(config: StatefulSessionConfig, scope: Scope): HttpFilter<Session> {
  const { strict, status } = config
  const state = config.state && createState(config.state, scope.clock)
  const counters = compileCounters(config, scope)
  if (state === undefined && counters === undefined) return {}
  const missing: Failure = Object.freeze({ ...FAILURES.noHealthyHost, status })
  const otherwise = strict ? missing : undefined
  return {
    createState: () => ({ covered: false, asked: undefined }),
    onRequestHeaders(stream: HttpStream, _end: boolean, session: Session): void {
      if (state === undefined || !state.covers(stream)) return
      session.covered = true
      session.asked = state.read(stream)
      if (session.asked !== undefined) stream.info.wantedHosts = { addresses: [session.asked], otherwise }
    },
    onResponseHeaders(stream: HttpStream, _end: boolean, session: Session): void {
      const { upstreamHost, flags } = stream.info
      const { asked } = session
      if (session.covered && upstreamHost !== '') state?.write(stream, upstreamHost, asked)
      if (counters === undefined) return
      if (upstreamHost === '') {
        if (strict && asked !== undefined && (flags & flagBit('UH')) !== 0) counters.failedClosed.v++
      } else if (asked === undefined) counters.noSession.v++
      else if (asked === upstreamHost) counters.routed.v++
      else if (!strict) counters.failedOpen.v++
    },
  }
}

interface Counters {
  readonly routed: Counter
  readonly failedOpen: Counter
  readonly failedClosed: Counter
  readonly noSession: Counter
}

/** Undefined where nothing is counted. */
function compileCounters({ statPrefix }: StatefulSessionConfig, scope: Scope): Counters | undefined {
  if (statPrefix === '') return undefined
  const counter = (name: string): Counter =>
    scope.metrics.counter(`${scope.statPrefix}stateful_session.${statPrefix}.${name}`)
  return {
    routed: counter('routed'),
    failedOpen: counter('failed_open'),
    failedClosed: counter('failed_closed'),
    noSession: counter('no_session'),
  }
}
