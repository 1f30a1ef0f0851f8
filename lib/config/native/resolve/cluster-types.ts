import { indexPath } from '../../../proto/path.ts'
import type { AddressFilterConfig, ClusterConfig, ForwardProxyConfig } from '../../../upstream/config.ts'
import { DEFAULT_FORWARD_PROXY } from '../../../upstream/discovery/forward-proxy.ts'
import { PUBLIC_ONLY } from '../../../upstream/discovery/private-ranges.ts'
import type { NativeForwardProxy, NativeOriginalDst } from '../cluster-types.ts'
import type { NativeCluster } from '../clusters.ts'
import type { NativeCidr } from '../matches.ts'
import { readAddress, readCidr } from './addresses.ts'
import { readBalancer } from './balancers.ts'
import { defined, type Reading } from './reading.ts'

/** How long one lookup of a forward proxy takes at most, whatever there is of name servers. */
export const FORWARD_QUERY_MS = 5_000
/** Answers are not asked for again sooner than this, whatever their TTL. */
export const FORWARD_MIN_REFRESH_MS = 5_000
const CLEANUP_MS = 5_000
const STORE_FLUSH_MS = 1_000
const STORED_NAMES = 1_000

type TypeParts = Pick<ClusterConfig, 'type' | 'service' | 'members' | 'forwardProxy' | 'originalDst'>

/** What stands in place of endpoints; undefined: they are listed. */
export function readClusterType(cluster: NativeCluster, path: string, reading: Reading): TypeParts | undefined {
  const { members, forwardProxy, originalDst, service } = cluster
  if (service !== undefined) return { type: 'srv', service }
  if (members !== undefined) {
    return { type: cluster.type === 'composite' ? 'composite' : 'aggregate', members: [...members] }
  }
  if (forwardProxy !== undefined) {
    const at = `${path}.forwardProxy`
    return {
      type: 'dynamic-forward-proxy',
      forwardProxy: reading.origins.at(at, readForwardProxy(forwardProxy, at, reading)),
    }
  }
  return (
    originalDst && { type: 'original-dst', originalDst: readOriginalDst(originalDst, `${path}.originalDst`, reading) }
  )
}

/** A `type` that contradicts what stands in place of endpoints. */
export function typeMistake({ type }: NativeCluster, parts: TypeParts | undefined): string | undefined {
  const own = parts?.type
  if (type === undefined || type === own) return undefined
  if (own !== undefined) return `"${type}" is not what the cluster is: ${own}`
  return LISTED.has(type) ? undefined : `"${type}" has no endpoints`
}

const LISTED: ReadonlySet<string> = new Set(['static', 'strict-dns', 'logical-dns'])

function readForwardProxy(given: NativeForwardProxy, path: string, reading: Reading): ForwardProxyConfig {
  const { hostTtlMs, maxHosts, maxPending, preresolve = [], balanceWithin, store } = given
  if (store !== undefined && balanceWithin !== undefined) {
    reading.findings.error(`${path}.store`, 'does not go with balanceWithin')
  }
  return {
    ...DEFAULT_FORWARD_PROXY,
    ...defined({ hostTtlMs, maxHosts, maxPending }),
    preresolve: preresolve.flatMap((text, i) => {
      const at = indexPath(`${path}.preresolve`, i)
      const address = readAddress(text, at, reading)
      if (address?.kind === 'pipe') reading.findings.error(at, `"${text}" is not host:port`)
      return address?.kind === 'ip' ? [{ host: address.host, port: address.port }] : []
    }),
    ...(store && { store: { flushMs: STORE_FLUSH_MS, maxEntries: STORED_NAMES, ...defined(store) } }),
    ...(balanceWithin && { subClusters: { balancer: readBalancer(balanceWithin) } }),
  }
}

/** Which addresses a cluster may be led to by names; undefined: any. */
export function readAddressFilter(
  cluster: NativeCluster,
  path: string,
  reading: Reading,
): AddressFilterConfig | undefined {
  if (cluster.forwardProxy === undefined) return undefined
  const { addresses = 'public' } = cluster.forwardProxy
  if (addresses === 'any') return undefined
  if (addresses === 'public') return PUBLIC_ONLY
  const at = `${path}.forwardProxy.addresses`
  const read = (list: readonly NativeCidr[], field: string) =>
    list.map((value, i) => readCidr(value, indexPath(`${at}.${field}`, i), reading))
  const filter: AddressFilterConfig =
    'allow' in addresses
      ? { kind: 'allow', ranges: read(addresses.allow, 'allow') }
      : { kind: 'deny', ranges: read(addresses.deny, 'deny') }
  return reading.origins.at(at, filter)
}

function readOriginalDst(given: NativeOriginalDst, path: string, reading: Reading): ClusterConfig['originalDst'] {
  const { header, metadata, port, cleanupMs = CLEANUP_MS } = given
  return reading.origins.at(path, {
    ...defined({ header: header?.toLowerCase(), metadata: metadata && structuredClone(metadata), port }),
    cleanupMs,
  })
}
