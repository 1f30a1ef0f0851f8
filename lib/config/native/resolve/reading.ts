import type { LowerFilters } from '../../../chain/factories.ts'
import type { FilterRegistry } from '../../../chain/registry.ts'
import type { Findings } from '../../../core/errors.ts'
import type { MeshMaterial } from '../../../tls/mesh.ts'
import type { Origins } from '../origins.ts'

/** What all parts of one reading share. */
export interface Reading {
  readonly findings: Findings
  readonly origins: Origins
  readonly registry: FilterRegistry
  readonly filters: LowerFilters
  readonly readFile: (path: string) => Buffer
  /** The certificate and authorities that the gateway has got for itself; undefined: none. */
  readonly workload?: MeshMaterial
}

/** Leaves out fields that are undefined: the IR has a field or it has not. */
export function defined<T extends object>(fields: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const out: { [key: string]: unknown } = {}
  for (const [key, value] of Object.entries(fields)) if (value !== undefined) out[key] = value
  return out as { [K in keyof T]: Exclude<T[K], undefined> }
}
