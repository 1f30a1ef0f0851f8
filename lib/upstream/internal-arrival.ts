import type { Json, JsonObject } from '../core/errors.ts'
import type { InternalArrival } from '../core/internal-listeners.ts'
import type { InternalLayerConfig, TransportLayerConfig } from './config.ts'
import type { Host } from './host.ts'
import type { ConnectWish } from './opening.ts'

/** What an internal listener is told of a connection to it. */
export type DescribeArrival = (host: Host, wish: ConnectWish) => InternalArrival

/**
 * How a cluster introduces its connections to internal listeners. With an `internal` layer metadata of host and cluster
 * goes along, and the filter state that downstream filters have shared; without one only the addresses do.
 */
export function describeArrivals(
  layers: readonly TransportLayerConfig[] | undefined,
  clusterMetadata: JsonObject | undefined,
): DescribeArrival {
  const layer = layers?.find((one) => one.kind === 'internal')
  return (host, { downstream, depth = 0, arrival }) => {
    if (layer === undefined) return { ...arrival, downstream, depth }
    const picked = pick(layer, host.metadata, clusterMetadata)
    const metadata = picked && arrival?.metadata ? new Map([...picked, ...arrival.metadata]) : picked
    const objects = downstream?.state.sharedObjects
    return { ...arrival, downstream, depth, ...(metadata && { metadata }), ...(objects && { objects }) }
  }
}

function pick(
  { metadata }: InternalLayerConfig,
  host: JsonObject | undefined,
  cluster: JsonObject | undefined,
): ReadonlyMap<string, Json> | undefined {
  let picked: Map<string, Json> | undefined
  for (const { from, namespace } of metadata) {
    const source = from === 'host' ? host : cluster
    if (source === undefined || !Object.hasOwn(source, namespace)) continue
    picked ??= new Map()
    picked.set(namespace, source[namespace])
  }
  return picked
}
