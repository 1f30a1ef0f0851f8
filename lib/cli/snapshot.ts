import type { CompiledListener } from '../../listeners/compile.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { ClusterSet } from '../upstream/cluster-set.ts'

/** Everything compiled from one configuration. */
export interface Snapshot {
  readonly config: GatewayConfig
  readonly clusters: ClusterSet
  readonly listeners: ReadonlyMap<string, CompiledListener>
  readonly owned: (Disposable | AsyncDisposable)[]
}

/** Resolves when nothing that goes on uses a filter of it: no exchange, no connection of layer 4, no first bytes. */
export async function whenIdle({ listeners }: Snapshot): Promise<void> {
  const all = [...listeners.values()]
  const chains = all.flatMap((listener) => listener.chains)
  await Promise.all(chains.map(({ manager }) => manager?.whenIdle()))
  await Promise.all([...all, ...chains].map(({ usage }) => usage.whenIdle()))
}
