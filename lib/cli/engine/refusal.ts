import { ChangeRefused, type ResourceKind, type ResourceName } from '../../config/change.ts'
import { ConfigError, ConfigRefused } from '../../core/errors.ts'
import { BadCluster } from '../../upstream/cluster-table.ts'

/** What `error` refuses, as the engine's callers hear of it; whatever blames a resource already is left as it is. */
export function refusalOf(error: unknown): ChangeRefused {
  if (error instanceof ChangeRefused) return error
  if (error instanceof BadCluster) return blaming({ kind: 'clusters', name: error.cluster }, error)
  return new ChangeRefused(errorsOf(error), undefined)
}

/** Runs work for one resource: what it throws blames the resource. */
export async function blame<T>(kind: ResourceKind, name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw error instanceof ChangeRefused ? error : blaming({ kind, name }, error)
  }
}

function blaming(resource: ResourceName, error: unknown): ChangeRefused {
  return new ChangeRefused(errorsOf(error), resource)
}

function errorsOf(error: unknown): readonly ConfigError[] {
  if (error instanceof ConfigRefused) return error.errors
  return [new ConfigError('', error instanceof Error ? error.message : String(error))]
}
