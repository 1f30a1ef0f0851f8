import { OUTLIER_KINDS, type OutlierKind } from './config.ts'

/** The rows of failures that are counted of each host, by number: those of Envoy, then one for each monitor. */
export const ROW = Object.freeze({ all5xx: 0, gateway: 1, local: 2, monitors: 3 })

/** What ejects where that row is long enough. */
export function kindOfRow(row: number): OutlierKind | 'monitor' {
  return row < ROW.monitors ? OUTLIER_KINDS[row] : 'monitor'
}
