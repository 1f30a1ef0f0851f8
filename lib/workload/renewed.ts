import type { FilterChainConfig } from '../config/listener.ts'
import type { GatewayConfig } from '../config/model.ts'
import { checkTls } from '../tls/check.ts'
import { type MeshMaterial, meshClientTls } from '../tls/mesh.ts'
import type { TransportConfig, TransportLayerConfig } from '../upstream/config.ts'

interface WithMaterial {
  readonly certificates: readonly { readonly certificateChain: string; readonly privateKey: string }[]
  readonly validation?: { readonly trustedCa?: string }
}

type Swap = <T extends WithMaterial>(tls: T) => T

/** Why a certificate cannot be used; undefined: it can. Configurations are checked before it is put into them, not after. */
export function materialProblem(material: MeshMaterial): string | undefined {
  const [problem] = checkTls(meshClientTls(material, []))
  return problem && `${problem.path} ${problem.message}`
}

/**
 * The configuration with one workload's certificate and authorities in place of its former ones, which are known by their
 * private keys; all else as it was.
 */
export function withMaterial(config: GatewayConfig, before: ReadonlySet<string>, next: MeshMaterial): GatewayConfig {
  const swap: Swap = (tls) => {
    if (tls.certificates.length === 0 || !before.has(tls.certificates[0].privateKey)) return tls
    const { certificateChain, privateKey, trustedCa } = next
    return {
      ...tls,
      certificates: [{ certificateChain, privateKey }],
      ...(tls.validation && { validation: { ...tls.validation, trustedCa } }),
    }
  }
  return {
    ...config,
    listeners: config.listeners.map((listener) => ({
      ...listener,
      filterChains: listener.filterChains.map((chain) => swapChain(chain, swap)),
      ...(listener.defaultFilterChain && { defaultFilterChain: swapChain(listener.defaultFilterChain, swap) }),
    })),
    clusters: config.clusters.map((cluster) => {
      const { transportMatches } = cluster
      const swapped = swapTransport(cluster, swap)
      if (transportMatches === undefined) return swapped
      const matches = transportMatches.map((one) => ({ ...one, transport: swapTransport(one.transport, swap) }))
      return { ...swapped, transportMatches: matches }
    }),
  }
}

function swapChain(chain: FilterChainConfig, swap: Swap): FilterChainConfig {
  return chain.tls === undefined ? chain : { ...chain, tls: swap(chain.tls) }
}

function swapTransport<T extends TransportConfig>(transport: T, swap: Swap): T {
  const { layers } = transport
  return layers === undefined ? transport : { ...transport, layers: layers.map((layer) => swapLayer(layer, swap)) }
}

function swapLayer(layer: TransportLayerConfig, swap: Swap): TransportLayerConfig {
  if (layer.kind !== 'hbone') return layer
  const { gateway } = layer
  return { ...layer, tls: swap(layer.tls), ...(gateway && { gateway: { ...gateway, tls: swap(gateway.tls) } }) }
}
