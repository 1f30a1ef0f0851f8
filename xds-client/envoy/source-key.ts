import { createHash } from 'node:crypto'
import type { ApiSourceConfig } from '../config.ts'

/** The key of a management server: how it is spoken to and by which clusters, and a digest of all that may differ besides. */
export function apiSourceKey(source: ApiSourceConfig): string {
  const clusters = source.targets.map(({ cluster }) => cluster).join(',')
  return `${source.api}:${clusters}#${digest(source)}`
}

/** Short, and the same for values whose JSON is the same. Not for secrets: whoever knows the rest could guess them. */
export function digest(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 8)
}
