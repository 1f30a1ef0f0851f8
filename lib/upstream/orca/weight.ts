import type { LoadReport, MetricMap } from './report.ts'

/** A metric by its name in configuration (`named_metrics.foo`, `named_metrics.*`, `cpu_utilization`); 0: there is none. */
export type ReadMetric = (report: LoadReport) => number

const SCALARS: Readonly<Record<string, ReadMetric>> = Object.freeze({
  cpu_utilization: (report: LoadReport) => report.cpuUtilization,
  mem_utilization: (report: LoadReport) => report.memUtilization,
  application_utilization: (report: LoadReport) => report.applicationUtilization,
  rps_fractional: (report: LoadReport) => report.rps,
  eps: (report: LoadReport) => report.eps,
})

const MAPS: Readonly<Record<string, MetricMap>> = Object.freeze({
  named_metrics: 'named',
  utilization: 'utilization',
  request_cost: 'requestCost',
})

/** A metric that reports do not have is always 0. */
export function compileMetric(name: string): ReadMetric {
  if (Object.hasOwn(SCALARS, name)) return SCALARS[name]
  const dot = name.indexOf('.')
  const map = name.slice(0, Math.max(0, dot))
  if (!Object.hasOwn(MAPS, map)) return () => 0
  const of = MAPS[map]
  const key = name.slice(dot + 1)
  if (key !== '*') return (report) => report[of]?.get(key) ?? 0
  return (report) => {
    let largest = 0
    for (const value of report[of]?.values() ?? []) if (value > largest) largest = value
    return largest
  }
}

/**
 * Requests per second by utilization, errors counted into it (gRFC A58): what a host could take if it were used whole. The
 * utilization is the largest of `metrics`, or else the application's, or else the CPU's. 0: the report does not tell.
 */
export function weightOf(report: LoadReport, metrics: readonly ReadMetric[], errorPenalty: number): number {
  const { rps, eps, applicationUtilization, cpuUtilization } = report
  if (!(rps > 0)) return 0
  let utilization = 0
  for (const metric of metrics) utilization = Math.max(utilization, metric(report))
  if (utilization <= 0) utilization = applicationUtilization > 0 ? applicationUtilization : cpuUtilization
  utilization += (errorPenalty * eps) / rps
  const weight = utilization > 0 ? Math.min(rps / utilization, MAX_WEIGHT) : 0
  return weight < MIN_WEIGHT ? 0 : weight
}

/** One request in 30 years. What is less has no reciprocal that could be scheduled by. */
const MIN_WEIGHT = 1e-9

/** Envoy's weights have 32 bits. */
const MAX_WEIGHT = 0xffff_ffff
