import type { LocalityConfig } from '../config.ts'
import { type HostLocality, sameLocality } from '../host-view.ts'

export interface ZoneFacts {
  readonly own: LocalityConfig
  /** Of the cluster, the gateway's own first where it is there; `hosts` that may be used. */
  readonly localities: readonly { readonly locality: LocalityConfig | undefined; readonly hosts: number }[]
  /** The gateways by locality, the own first. */
  readonly gateways: readonly HostLocality[]
  readonly minClusterSize: number
  readonly forceLocalMinHosts: number | undefined
}

/** How requests are spread over localities, by their index. */
export interface Routing {
  /** All stay in the first. */
  readonly direct: boolean
  /** Of ten thousand requests so many stay in the first. */
  readonly localShare: number
  /** What localities can take beyond their share, cumulated. */
  readonly residual: readonly number[]
}

/**
 * Compares the gateway's locality's share of the gateways with its share of the hosts, in ten-thousandths as Envoy does, or
 * says why nothing can be gained by it.
 */
export function zoneRouting(facts: ZoneFacts): Routing | 'unsuitable' | 'too-small' | 'local-not-ok' {
  const { own, localities, gateways, minClusterSize, forceLocalMinHosts } = facts
  const total = localities.reduce((sum, { hosts }) => sum + hosts, 0)
  const hasOwn = localities.length > 0 && sameLocality(localities[0].locality, own)
  const forced = forceLocalMinHosts !== undefined && hasOwn && localities[0].hosts >= forceLocalMinHosts
  if (localities.length < 2 || (gateways.length < 2 && !forced)) return 'unsuitable'
  if (gateways.length === 0 || !sameLocality(gateways[0].locality, own)) return 'local-not-ok'
  if (total < minClusterSize) return 'too-small'
  const healthy = gateways.map(({ hosts }) => hosts.filter((host) => host.health === 'healthy').length)
  const allGateways = healthy.reduce((sum, count) => sum + count, 0)
  const upstream = localities.map(({ hosts }) => Math.trunc((10_000 * hosts) / total))
  const local = localities.map(({ locality }) => {
    const at = gateways.findIndex((gateway) => sameLocality(gateway.locality, locality))
    return at < 0 || allGateways === 0 ? 0 : Math.trunc((10_000 * healthy[at]) / allGateways)
  })
  const direct = hasOwn && upstream[0] > 0 && (forced || upstream[0] >= local[0])
  let residual = 0
  return {
    direct,
    localShare: hasOwn && local[0] > 0 ? Math.trunc((upstream[0] * 10_000) / local[0]) : 0,
    residual: upstream.map((share, i) => {
      if (!(hasOwn && i === 0) && share > local[i]) residual += share - local[i]
      return residual
    }),
  }
}
