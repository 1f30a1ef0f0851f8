import type { FilterFactory } from '../../lib/chain/filter.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { AdmissionControlConfig } from './config.ts'
import { admissionControlFilter } from './index.ts'

/** Settings of `admissionControl`. */
export interface AdmissionControlOptions {
  /** Ranges of statuses that are successes, both ends included. Default: 100 to 499. */
  readonly httpSuccess?: readonly { readonly from: number; readonly to: number }[]
  /** gRPC statuses that are successes. Default: those that are no errors of the server's. */
  readonly grpcSuccess?: readonly number[]
  /** Whole seconds. Default: 30. */
  readonly windowS?: number
  /** 1: rejects in proportion; more: the sooner. Default: 1. */
  readonly aggression?: number
  /** Below that rate of successes requests are rejected. Default: 95. */
  readonly successPercent?: number
  /** With fewer requests per second none is rejected. Default: 0. */
  readonly minRequestsPerSecond?: number
  /** Default: 80. */
  readonly maxRejectionPercent?: number
}

/** A filter as native listeners take it. */
export interface NativeAdmissionControl {
  readonly factory: FilterFactory<AdmissionControlConfig>
  readonly config: JsonObject
}

/**
 * A filter that rejects requests while too many of them fail.
 *
 * @example
 * filters: [admissionControl({ successPercent: 90, minRequestsPerSecond: 5 })]
 */
export function admissionControl(options: AdmissionControlOptions = {}): NativeAdmissionControl {
  const { httpSuccess, grpcSuccess, windowS = 30, aggression = 1 } = options
  const percent = (value: number): JsonObject => ({ default_value: { value } })
  return {
    factory: admissionControlFilter,
    config: {
      success_criteria: {
        ...(httpSuccess && {
          http_criteria: { http_success_status: httpSuccess.map(({ from, to }) => ({ start: from, end: to + 1 })) },
        }),
        ...(grpcSuccess && { grpc_criteria: { grpc_success_status: [...grpcSuccess] } }),
      },
      sampling_window: `${windowS}s`,
      aggression: { default_value: aggression },
      sr_threshold: percent(options.successPercent ?? 95),
      rps_threshold: { default_value: options.minRequestsPerSecond ?? 0 },
      max_rejection_probability: percent(options.maxRejectionPercent ?? 80),
    },
  }
}
