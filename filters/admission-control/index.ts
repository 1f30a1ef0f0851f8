import type { FilterFactory } from '../../lib/chain/filter.ts'
import { type AdmissionControlConfig, parseAdmissionControl } from './config.ts'
import { compileAdmissionControl } from './filter.ts'

/**
 * Rejects requests with 503 while too many of them fail: the likelier, the lower the rate of successes in the last seconds,
 * so that an upstream in trouble is left what it can do. Rejected requests do not count as failures, so what recovers is
 * given more again. Health checks pass and do not count.
 *
 * Posture: robust against untrusted clients, but whoever can make requests fail can have others rejected.
 *
 * Statistics: `http.<stat_prefix>.admission_control.` with `rq_rejected`, `rq_success`, `rq_failure`.
 */
export const admissionControlFilter: FilterFactory<AdmissionControlConfig> = Object.freeze({
  name: 'envoy.filters.http.admission_control',
  typeUrls: ['envoy.extensions.filters.http.admission_control.v3.AdmissionControl'],
  upstream: true,
  routeTypeUrls: [],
  parse: parseAdmissionControl,
  compile: compileAdmissionControl,
})
