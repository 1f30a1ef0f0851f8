import type { Attempt, UpstreamEvents, UpstreamInfo, UpstreamStream } from '../../core/attempt.ts'
import type { Failure } from '../../core/failure.ts'
import type { Headers } from '../../core/headers.ts'
import type { Counter } from '../../core/metrics.ts'
import { ownAttempt } from '../../core/own-request.ts'
import { compileString } from '../../match/string.ts'
import type { Host } from '../host.ts'
import type { HttpProbeConfig, StatusRange } from './config.ts'
import { PayloadMatcher } from './matcher.ts'
import {
  type CheckResult,
  DEGRADED,
  PASSED,
  type Probe,
  type ProbeOwner,
  RETRIABLE,
  RETRIABLE_EXCLUDED,
  UNREACHABLE,
  WRONG,
  WRONG_EXCLUDED,
} from './probe.ts'
import type { CheckTarget } from './target.ts'

/** Of a body that is looked at whole. */
const MOST_BYTES = 1024 * 1024

/** Parts that all hosts of a check share. */
export class HttpCheck {
  readonly config: HttpProbeConfig
  readonly clusterName: string
  readonly verified: Counter
  /** False: names of clusters are not compared now (`health_check.verify_cluster`). */
  readonly verify: () => boolean
  readonly serviceName: ((name: string) => boolean) | undefined
  readonly send: Buffer | undefined

  constructor(config: HttpProbeConfig, from: { clusterName: string; verified: Counter; verify: () => boolean }) {
    this.config = config
    this.clusterName = from.clusterName
    this.verified = from.verified
    this.verify = from.verify
    this.serviceName = config.serviceName === undefined ? undefined : compileString(config.serviceName)
    this.send = config.send === undefined ? undefined : Buffer.from(config.send, 'base64')
  }
}

/** One request per question, and what its response says (Envoy's `http_health_check`). */
export class HttpProbe implements Probe, UpstreamEvents {
  readonly #check: HttpCheck
  readonly #host: Host
  readonly #target: CheckTarget
  readonly #matcher: PayloadMatcher
  #owner: ProbeOwner | undefined = undefined
  #stream: UpstreamStream | undefined = undefined
  #status = 0
  #headers: Headers | undefined = undefined
  #reused = false
  #repeated = false

  constructor(check: HttpCheck, host: Host, target: CheckTarget) {
    this.#check = check
    this.#host = host
    this.#target = target
    this.#matcher = new PayloadMatcher(check.config.receive, check.config.responseBufferBytes || MOST_BYTES)
  }

  start(owner: ProbeOwner): void {
    this.#owner = owner
    this.#repeated = false
    this.#ask()
  }

  #ask(): void {
    const target = this.#target
    this.#headers = undefined
    this.#reused = false
    this.#matcher.reset()
    target.refresh()
    const { send } = this.#check
    const stream = target.open(target.pick(), this.#attempt(send === undefined), this)
    // It may be over by now, and the next one may have begun within.
    if (stream === undefined || this.#owner === undefined || this.#stream !== undefined) return
    this.#stream = stream
    if (send !== undefined) stream.write(send, true)
  }

  #attempt(end: boolean): Attempt {
    const { config, clusterName, send } = this.#check
    const raw = ['user-agent', config.userAgent, ...config.headers]
    if (send !== undefined) raw.push('content-length', String(send.length))
    const authority = this.#host.check?.hostname || config.host || clusterName
    const attempt = ownAttempt({ method: config.method, authority, path: config.path, headers: raw, end })
    for (const name of config.removedHeaders) attempt.headers.delete(name)
    return attempt
  }

  cancel(): void {
    const stream = this.#stream
    this.#owner = undefined
    this.#stream = undefined
    stream?.cancel()
  }

  close(): void {
    this.cancel()
    this.#target.close()
  }

  // --- the response ---------------------------------------------------------------------------------------------------

  onConnected(info: UpstreamInfo): void {
    this.#reused = info.reused
  }

  onInformational(): void {}

  onHeaders(status: number, headers: Headers, end: boolean): void {
    this.#status = status
    this.#headers = headers
    if (end) this.#complete()
  }

  onData(chunk: Buffer, end: boolean): boolean {
    this.#matcher.add(chunk)
    if (end) this.#complete()
    return true
  }

  onTrailers(): void {
    this.#complete()
  }

  onUpgraded(): void {
    this.#finish(WRONG)
  }

  onDrain(): void {}

  onReset(why: Failure): void {
    this.#stream = undefined
    if (this.#owner === undefined) return
    // The host closed an idle connection at that moment: that says nothing of its health.
    const lost = why.code === 'upstream-closed' || why.code === 'upstream-reset'
    if (lost && !this.#repeated && (why.retry === 'always' || (why.retry === 'reused' && this.#reused))) {
      this.#repeated = true
      this.#ask()
      return
    }
    this.#finish(UNREACHABLE)
  }

  #complete(): void {
    const headers = this.#headers
    if (headers !== undefined) this.#finish(this.#judge(headers))
  }

  #judge(headers: Headers): CheckResult {
    const { config, serviceName, verified, verify } = this.#check
    if (!expected(this.#status, config.expectedStatuses)) {
      const exclude = headers.has('x-envoy-immediate-health-check-fail')
      if (within(this.#status, config.retriableStatuses)) return exclude ? RETRIABLE_EXCLUDED : RETRIABLE
      return exclude ? WRONG_EXCLUDED : WRONG
    }
    if (serviceName !== undefined && verify()) {
      verified.v++
      if (!serviceName(headers.get('x-envoy-upstream-healthchecked-cluster') ?? '')) return WRONG
    }
    if (!this.#matcher.matches()) return WRONG
    return headers.has('x-envoy-degraded') ? DEGRADED : PASSED
  }

  #finish(result: CheckResult): void {
    const owner = this.#owner
    this.#owner = undefined
    this.#stream = undefined
    this.#headers = undefined
    this.#matcher.reset()
    owner?.checked(result)
  }
}

function expected(status: number, ranges: readonly StatusRange[]): boolean {
  return ranges.length === 0 ? status === 200 : within(status, ranges)
}

function within(status: number, ranges: readonly StatusRange[]): boolean {
  for (const { start, end } of ranges) if (status >= start && status < end) return true
  return false
}
