import type { HttpFilter, HttpStream, Next, Replied, Scope } from '../../lib/chain/filter.ts'
import type { Cluster, PickContext } from '../../lib/core/attempt.ts'
import type { Failure } from '../../lib/core/failure.ts'
import type { ForwardProxyFilterConfig, HostRewriteConfig } from './config.ts'

/** Filter state that other filters and logs read (Envoy's key). */
const ADDRESS_KEY = 'envoy.stream.upstream_address'

/** What clients are told, by the reason of the failure; Envoy's words. */
const BODIES: ReadonlyMap<string, string> = new Map([
  ['dns_resolution_failure', 'DNS resolution failure'],
  ['dns_cache_overflow', 'DNS cache overflow'],
  ['dynamic_forward_proxy_pending_request_overflow', 'Dynamic forward proxy pending request overflow'],
  ['sub_cluster_overflow', 'Sub cluster overflow'],
])

/** Requests wait until their cluster knows the host that they name. */
export function compileForwardProxy(config: ForwardProxyFilterConfig, scope: Scope): HttpFilter {
  const { rewrite, fromFilterState, saveUpstreamAddress, subClusterTimeoutMs } = config
  const finish = (stream: HttpStream, cluster: Cluster, failure: Failure | undefined): Next => {
    if (failure !== undefined) return refused(stream, failure)
    // A cluster of its own chooses among addresses, and would choose another for the request itself.
    if (!saveUpstreamAddress || subClusterTimeoutMs !== undefined) return undefined
    const host = cluster.pick(contextOf(stream, true))
    if (!('code' in host)) stream.filterState.set(ADDRESS_KEY, host.addressText)
    return undefined
  }
  const wait = async (
    stream: HttpStream,
    cluster: Cluster,
    asked: Promise<Failure | undefined>,
  ): Promise<Awaited<Next>> => {
    const found = subClusterTimeoutMs === undefined ? await asked : await inTime(scope, subClusterTimeoutMs, asked)
    if (stream.signal.aborted) return undefined
    if (found === LATE) return late(stream)
    const successor = clusterOf(stream, scope)
    // Replaced in the meantime: what it has found is of no use to the one that the request goes to.
    return successor === undefined || successor === cluster ? finish(stream, cluster, found) : ask(stream, successor)
  }
  const ask = (stream: HttpStream, cluster: Cluster): Next => {
    const asked = cluster.prepare?.(contextOf(stream, fromFilterState), stream)
    return asked instanceof Promise ? wait(stream, cluster, asked) : finish(stream, cluster, asked)
  }
  return {
    onRequestHeaders(stream: HttpStream): Next {
      const cluster = clusterOf(stream, scope)
      if (cluster === undefined) return undefined
      const host = rewrite && rewritten(stream, rewrite)
      if (host !== undefined) stream.head.authority = host
      return ask(stream, cluster)
    },
  }
}

/** The forward proxy that a request goes to; undefined: it goes to none. */
function clusterOf({ route }: HttpStream, { clusters }: Scope): Cluster | undefined {
  const name = route?.cluster ?? ''
  const cluster = name === '' ? undefined : clusters.get(name)
  return cluster?.forwards === true ? cluster : undefined
}

function rewritten({ request }: HttpStream, { literal, header }: HostRewriteConfig): string | undefined {
  return literal ?? (header === undefined ? undefined : request.get(header))
}

function contextOf({ connection, head, filterState }: HttpStream, withState: boolean): PickContext {
  // What listener and network filters have said of the connection is its own, and not asked for by this filter either.
  return withState ? { downstream: connection, authority: head.authority, filterState } : { authority: head.authority }
}

function refused(stream: HttpStream, { code, status, flag, reason }: Failure): Replied | undefined {
  // Anything else is for the router to say.
  if (code !== 'dns-failed' && code !== 'overflow') return undefined
  const body = BODIES.get(reason) ?? reason
  return stream.reply({ status, body, details: reason, ...(flag !== '' && { flag }) })
}

function late(stream: HttpStream): Replied {
  return stream.reply({ status: 503, body: 'Sub cluster warming timeout', details: 'sub_cluster_warming_timeout' })
}

const LATE = Symbol('late')

function inTime(
  { clock }: Scope,
  limitMs: number,
  asked: Promise<Failure | undefined>,
): Promise<Failure | undefined | typeof LATE> {
  return new Promise((resolve) => {
    const cancel = clock.schedule(limitMs, () => resolve(LATE))
    void asked.then((found) => {
      cancel()
      resolve(found)
    })
  })
}
