/** What a host says of its load (`xds.data.orca.v3.OrcaLoadReport`), as far as weights are made from it. */
export interface LoadReport {
  cpuUtilization: number
  memUtilization: number
  applicationUtilization: number
  /** Requests per second. */
  rps: number
  /** Errors per second. */
  eps: number
  /** Undefined: none. */
  named: Map<string, number> | undefined
  utilization: Map<string, number> | undefined
  requestCost: Map<string, number> | undefined
}

export type MetricMap = 'named' | 'utilization' | 'requestCost'

/** Of one report and map: more are not believed. */
const MAX_METRICS = 1024

export function emptyReport(): LoadReport {
  return {
    cpuUtilization: 0,
    memUtilization: 0,
    applicationUtilization: 0,
    rps: 0,
    eps: 0,
    named: undefined,
    utilization: undefined,
    requestCost: undefined,
  }
}

/** Notes a metric of one of the maps; false where there are too many. */
export function setMetric(report: LoadReport, map: MetricMap, name: string, value: number): boolean {
  report[map] ??= new Map()
  const metrics = report[map]
  if (metrics.size >= MAX_METRICS) return false
  metrics.set(name, value)
  return true
}
