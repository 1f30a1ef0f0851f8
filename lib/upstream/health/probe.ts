/** What a check came to. */
export type CheckResult =
  /** `degraded`: it is well and would rather not be used. */
  | { readonly ok: true; readonly degraded: boolean }
  | {
      readonly ok: false
      /** `network`: nothing came that could be judged. */
      readonly how: 'active' | 'network' | 'timeout'
      /** Counts towards the threshold and does not make the host unhealthy by itself. */
      readonly retriable: boolean
      /** It wants to be left out at once. */
      readonly exclude: boolean
    }

export const PASSED: CheckResult = Object.freeze({ ok: true, degraded: false })
export const DEGRADED: CheckResult = Object.freeze({ ok: true, degraded: true })
export const WRONG: CheckResult = Object.freeze({ ok: false, how: 'active', retriable: false, exclude: false })
export const WRONG_EXCLUDED: CheckResult = Object.freeze({ ok: false, how: 'active', retriable: false, exclude: true })
export const RETRIABLE: CheckResult = Object.freeze({ ok: false, how: 'active', retriable: true, exclude: false })
export const RETRIABLE_EXCLUDED: CheckResult = Object.freeze({
  ok: false,
  how: 'active',
  retriable: true,
  exclude: true,
})
export const UNREACHABLE: CheckResult = Object.freeze({ ok: false, how: 'network', retriable: true, exclude: false })
export const TIMED_OUT: CheckResult = Object.freeze({ ok: false, how: 'timeout', retriable: true, exclude: false })

/** Who asked for a check; told once per `start`, possibly within it. */
export interface ProbeOwner {
  checked(result: CheckResult): void
}

/** Asks one host how it is, one question at a time. */
export interface Probe {
  /** Not while another is under way. */
  start(owner: ProbeOwner): void
  /** Gives up the question under way, and tells nobody; harmless where there is none. */
  cancel(): void
  /** Connections end; no `start` follows. Idempotent. */
  close(): void
}
