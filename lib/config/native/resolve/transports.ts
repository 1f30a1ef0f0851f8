import { indexPath, keyPath } from '../../../proto/path.ts'
import type {
  EndpointConfig,
  TransportConfig,
  TransportLayerConfig,
  TransportMatchConfig,
} from '../../../upstream/config.ts'
import type { NativeCluster, NativeEndpoint } from '../clusters.ts'
import type { NativeConnectProxy, NativeProxyHeader, NativeTransport } from '../transports.ts'
import { readAddress } from './addresses.ts'
import { readHbone } from './hbone.ts'
import type { Reading } from './reading.ts'
import { readUpstreamTls } from './tls.ts'

const NAMESPACE = 'envoy.transport_socket_match'

/** TLS and layers: a CONNECT proxy is met first, so that a PROXY header is for the endpoint. */
export function readTransport(value: NativeTransport, path: string, reading: Reading): TransportConfig {
  const { tls, proxyProtocol, connectProxy, hbone } = value
  const layers: TransportLayerConfig[] = []
  if (hbone !== undefined) {
    const layer = readHbone(hbone, `${path}.hbone`, reading)
    if (layer !== undefined) layers.push(layer)
    if (connectProxy !== undefined || proxyProtocol !== undefined) {
      reading.findings.error(`${path}.hbone`, 'goes together with neither connectProxy nor proxyProtocol')
    }
  }
  if (connectProxy !== undefined) {
    const layer = readConnectProxy(connectProxy, `${path}.connectProxy`, reading)
    if (layer !== undefined) layers.push(layer)
  }
  if (proxyProtocol !== undefined) layers.push(readProxyHeader(proxyProtocol, `${path}.proxyProtocol`, reading))
  return {
    ...(tls && { tls: readUpstreamTls(tls, { path: `${path}.tls`, reading }) }),
    ...(layers.length > 0 && { layers }),
  }
}

/** Transports by name; endpoints that name one have its label. */
export function readTransports(
  transports: { readonly [name: string]: NativeTransport },
  path: string,
  reading: Reading,
): TransportMatchConfig[] {
  return Object.entries(transports).map(([name, value]) => {
    const at = keyPath(path, name)
    const transport = reading.origins.at(at, readTransport(value, at, reading))
    return reading.origins.at(at, { name, labels: { transport: name }, transport })
  })
}

/** Endpoints may name transports of their own cluster alone. */
export function checkTransportNames(cluster: NativeCluster, path: string, { findings }: Reading): void {
  const check = (endpoints: readonly NativeEndpoint[], at: string): void => {
    endpoints.forEach((endpoint, i) => {
      const name = typeof endpoint === 'string' ? undefined : endpoint.transport
      if (name === undefined || Object.hasOwn(cluster.transports ?? {}, name)) return
      findings.error(`${indexPath(`${at}.endpoints`, i)}.transport`, `unknown transport "${name}"`)
    })
  }
  const checks = cluster.healthCheck?.transport
  if (checks !== undefined && !Object.hasOwn(cluster.transports ?? {}, checks)) {
    findings.error(`${path}.healthCheck.transport`, `unknown transport "${checks}"`)
  }
  check(cluster.endpoints ?? [], path)
  cluster.localities?.forEach(({ endpoints }, i) => {
    check(endpoints, indexPath(`${path}.localities`, i))
  })
}

/** The metadata of an endpoint that names its transport. */
export function labelled(metadata: EndpointConfig['metadata'], transport: string): EndpointConfig['metadata'] {
  return { ...metadata, [NAMESPACE]: { transport } }
}

function readConnectProxy(
  value: NonNullable<NativeTransport['connectProxy']>,
  path: string,
  reading: Reading,
): TransportLayerConfig | undefined {
  const long = isConnectProxy(value)
  const proxyAddress = readAddress(long ? value.address : value, long ? `${path}.address` : path, reading)
  if (proxyAddress === undefined) return undefined
  const target = (long ? value.target : undefined) ?? 'hostname'
  return reading.origins.at<TransportLayerConfig>(path, { kind: 'http-connect', proxyAddress, target })
}

function isConnectProxy(value: NonNullable<NativeTransport['connectProxy']>): value is NativeConnectProxy {
  return typeof value === 'object' && 'address' in value
}

function readProxyHeader(value: 1 | 2 | NativeProxyHeader, path: string, reading: Reading): TransportLayerConfig {
  const { version, passTlvs = 'none', addedTlvs = [] } = typeof value === 'number' ? { version: value } : value
  return reading.origins.at<TransportLayerConfig>(path, {
    kind: 'proxy-protocol',
    version,
    passTlvs: typeof passTlvs === 'string' ? passTlvs : [...passTlvs],
    addedTlvs: addedTlvs.map(({ type, value: content = '', format: text }, i) => {
      const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : Buffer.from(content)
      const format = text === undefined ? undefined : { kind: 'text' as const, text }
      const tlv = { type, value: bytes.toString('base64'), ...(format && { format }) }
      return reading.origins.at(indexPath(`${path}.addedTlvs`, i), tlv)
    }),
  })
}
