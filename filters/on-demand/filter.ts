import type { HttpFilter, HttpStream, Next, Scope } from '../../lib/chain/filter.ts'
import type { Demand } from '../../lib/core/demand.ts'
import type { OnDemandConfig } from './config.ts'

/** Requests wait for what they lack; where it cannot be had they go on without, and the router answers. */
export function compileOnDemand({ clusters }: OnDemandConfig, scope: Scope): HttpFilter {
  const { demand } = scope
  if (demand === undefined) return {}
  const needsCluster = (stream: HttpStream): string | undefined => {
    const name = stream.route?.cluster ?? ''
    return clusters === undefined || name === '' || scope.clusters.get(name) !== undefined ? undefined : name
  }
  const obtain = async (stream: HttpStream): Promise<undefined> => {
    if (stream.route === undefined) await obtainHost(stream, demand)
    const name = needsCluster(stream)
    if (name === undefined || clusters === undefined || stream.signal.aborted) return
    await demand.cluster(name, clusters.source, clusters.timeoutMs)
  }
  return {
    onRequestHeaders(stream: HttpStream): Next {
      const lacksHost = stream.route === undefined && stream.hostOnDemand !== undefined
      if (lacksHost || needsCluster(stream) !== undefined) return obtain(stream)
    },
  }
}

async function obtainHost(stream: HttpStream, demand: Demand): Promise<void> {
  const wanted = stream.hostOnDemand
  if (wanted === undefined) return
  const found = await demand.virtualHost(wanted.table, wanted.host)
  if (found && !stream.signal.aborted) stream.refreshRoute()
}
