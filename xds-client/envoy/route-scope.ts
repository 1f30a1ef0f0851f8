import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { EnvoyContext, FilterParser } from './context.ts'

/** One filter of the connection manager that a route table belongs to. */
export interface ChainEntry {
  /** Undefined: a filter we lack, kept as a name only; routes must not switch it on. */
  readonly parser: FilterParser | undefined
  /** A filter we lack but do without (`is_optional`, or known to be harmless): its per-route settings are reported. */
  readonly dispensable: boolean
  /** Its type is not known before it is delivered. */
  readonly delivered?: true
}

/** What the translation of routes knows of their surroundings. */
export interface RouteScope {
  readonly context: EnvoyContext
  /** Filters by instance name; undefined where the route table stands alone. */
  readonly chain: ReadonlyMap<string, ChainEntry> | undefined
  /** Known clusters, where the route table asks for validation; otherwise undefined. */
  readonly clusters: ReadonlySet<string> | undefined
  readonly maxDirectResponseBodyBytes: number
  /** Name of the route table; '' where a virtual host stands alone. */
  readonly table: string
  /** Of the virtual host, for messages and inheritance. */
  readonly virtualHost: string
  readonly bodyBufferLimitBytes: number | undefined
}

/** Notes that a route needs a cluster; a mistake where there is none, that can be known, and was asked for. */
export function checkCluster(
  reader: FieldReader,
  field: string,
  name: string,
  scope: RouteScope & { route: string },
): void {
  if (name === '') return
  scope.context.references?.add({ kind: 'cluster', name, key: name, source: undefined })
  if (scope.clusters === undefined || scope.clusters.has(name)) return
  const host = scope.virtualHost === '' ? 'the route table' : `virtual host "${scope.virtualHost}"`
  const where = scope.route === '' ? host : `route "${scope.route}"`
  reader.error(field, `unknown cluster "${name}" in ${where}`)
}
