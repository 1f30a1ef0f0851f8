import { isIP } from 'node:net'
import type { Address, EndpointAddress } from '../../core/address.ts'
import { isPending } from '../../tls/check.ts'
import type { UpstreamTlsConfig } from '../../tls/config.ts'
import type {
  AssignmentConfig,
  ClusterConfig,
  EndpointConfig,
  HboneLayerConfig,
  LocalityEndpointsConfig,
  TransportConfig,
  TransportLayerConfig,
} from '../../upstream/config.ts'
import { checkBalancer } from './balancers.ts'
import { checkAddressFilter, checkClusterType } from './cluster-types.ts'
import { checkHashPolicy } from './hash-policy.ts'
import type { Spot } from './spot.ts'
import { checkFormatConfig } from './texts.ts'
import { checkTls } from './tls.ts'

/** `sun_path` of Linux, without the NUL at its end. */
const MAX_SOCKET_PATH_BYTES = 107
/** What fits into a header beside addresses of IPv6 and the TLV's own head. */
const MAX_TLV_BYTES = 0xffff - 36 - 3
/** Types whose hosts have names. */
const NAMED: ReadonlySet<ClusterConfig['type']> = new Set(['strict-dns', 'logical-dns', 'srv', 'dynamic-forward-proxy'])
const MAX_WEIGHT_SUM = 0xffff_ffff
/** RFC 1123 labels, with underscores, which private zones use. */
const NAME =
  /^(?=.{1,253}\.?$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?$/

/** An address that is listened on or connected to by its numbers. */
export function checkAddress(address: Address, spot: Spot): void {
  if (address.kind === 'pipe') {
    checkSocketPath(address.path, spot.field('path'))
    return
  }
  if (isIP(address.host) === 0) spot.field('host').error(`malformed IP address "${address.host}"`)
  checkPort(address.port, spot.field('port'))
}

function checkSocketPath(path: string, spot: Spot): void {
  const size = Buffer.byteLength(path)
  if (path === '') spot.error('must not be empty')
  else if (size > MAX_SOCKET_PATH_BYTES) spot.error(`is ${size} bytes long, the limit is ${MAX_SOCKET_PATH_BYTES}`)
  else if (path.includes('\0')) spot.error('must not contain NUL')
}

function checkPort(port: number, spot: Spot): void {
  if (!Number.isInteger(port) || port < 0 || port > 65_535) spot.error(`${port} is not a port`)
}

/** One cluster: endpoints that fit its type, TLS that can be used, a protocol that it can have. */
export function checkCluster(cluster: ClusterConfig, spot: Spot): void {
  const { type, localities, dns, bindAddress } = cluster
  checkClusterType(cluster, spot)
  spot.each('localities', localities, (group, at) => checkLocality(group, at, type))
  const count = localities.reduce((total, group) => total + group.endpoints.length, 0)
  if (type === 'logical-dns' && (count !== 1 || localities.length !== 1)) {
    spot.error(`a logical DNS cluster must have a single endpoint, this one has ${count}`)
  }
  if (bindAddress !== undefined && isIP(bindAddress) === 0) {
    spot.field('bindAddress').error(`malformed IP address "${bindAddress}"`)
  }
  spot.each('extraBindAddresses', cluster.extraBindAddresses, (extra, at) => {
    if (isIP(extra) === 0) at.error(`malformed IP address "${extra}"`)
    if (bindAddress === undefined) at.error('needs bindAddress')
  })
  checkTransports(cluster, spot)
  checkBalancer(cluster.balancer, spot.field('balancer', cluster.balancer))
  spot.each('hashPolicies', cluster.hashPolicies, checkHashPolicy)
  if (dns === undefined) {
    if (NAMED.has(type)) spot.field('dns').error('is required by clusters whose endpoints have names')
    return
  }
  const at = spot.field('dns', dns)
  if (dns.failureRefreshMaxMs < dns.failureRefreshMs) {
    at.field('failureRefreshMaxMs').error('must not be shorter than failureRefreshMs')
  }
  checkAddressFilter(dns, at)
  at.each('resolvers', dns.resolvers, (server, where) => {
    if (!isServer(server)) where.error(`"${server}" is not an IP address with a port`)
  })
}

/** The endpoints of clusters of type `eds`: numbers, as those of static ones. */
export function checkAssignment({ localities }: AssignmentConfig, spot: Spot): void {
  spot.each('localities', localities, (group, at) => checkLocality(group, at, 'eds'))
}

/** A certificate that is checked for the endpoint's name needs an endpoint that has one. */
function checkClusterTls({ localities }: ClusterConfig, tls: UpstreamTlsConfig, spot: Spot): void {
  checkTls(tls, spot.field('tls', tls))
  if (!tls.autoSanValidation || tls.autoSni !== 'host' || tls.sni !== '') return
  spot.each('localities', localities, (group, at) => {
    at.each('endpoints', group.endpoints, ({ address, hostname }, where) => {
      if (hostname !== undefined || (address.kind === 'ip' && isIP(address.host) === 0)) return
      where.field('hostname').error('is required, or sni: TLS checks the certificate for a name')
    })
  })
}

/** The cluster's own transport and those of its matches. */
function checkTransports(cluster: ClusterConfig, spot: Spot): void {
  const { transportMatches = [], protocol } = cluster
  checkTransport(cluster, cluster, spot)
  if (transportMatches.length === 0) checkReach(cluster, spot)
  const names = new Set<string>()
  spot.each('transportMatches', transportMatches, ({ name, transport }, at) => {
    if (names.has(name)) at.field('name').error(`"${name}" is the name of an earlier transport`)
    names.add(name)
    checkTransport(cluster, transport, at.field('transport', transport))
  })
  if (protocol !== 'auto' || [cluster, ...transportMatches.map(({ transport }) => transport)].some(({ tls }) => tls))
    return
  spot.field('protocol').error('auto needs tls: the protocol is chosen by ALPN')
}

function checkTransport(cluster: ClusterConfig, { tls, layers }: TransportConfig, spot: Spot): void {
  if (tls !== undefined) checkClusterTls(cluster, tls, spot)
  spot.each('layers', layers, (layer, at) => checkLayer(layer, at))
}

/** Tunnels lead to addresses of the network: what has none would be reached past them. */
function checkReach({ layers, localities }: ClusterConfig, spot: Spot): void {
  const tunnel = layers?.find(({ kind }) => kind === 'hbone' || kind === 'http-connect')
  if (tunnel === undefined) return
  spot.each('localities', localities, (group, at) => {
    at.each('endpoints', group.endpoints, ({ address }, where) => {
      if (address.kind !== 'ip') where.field('address', address).error(`cannot be reached through ${tunnel.kind}`)
    })
  })
}

function checkLayer(layer: TransportLayerConfig, spot: Spot): void {
  if (layer.kind === 'http-connect') {
    const { proxyAddress } = layer
    if (proxyAddress !== undefined) checkTarget(proxyAddress, spot.field('proxyAddress', proxyAddress))
  }
  if (layer.kind === 'hbone') checkHbone(layer, spot)
  if (layer.kind !== 'proxy-protocol') return
  const { passTlvs, addedTlvs, version } = layer
  if (typeof passTlvs !== 'string') spot.each('passTlvs', passTlvs, (type, at) => checkTlvType(type, at))
  if (version === 1 && passTlvs !== 'none') spot.field('passTlvs').error('version 1 has no TLVs')
  spot.each('addedTlvs', addedTlvs, ({ type, value, format }, at) => {
    if (version === 1) at.error('version 1 has no TLVs')
    checkTlvType(type, at.field('type'))
    checkFormatConfig(format, at.field('format', format))
    const bytes = Buffer.byteLength(value, 'base64')
    if (bytes > MAX_TLV_BYTES) at.field('value').error(`is ${bytes} bytes long, a header has room for ${MAX_TLV_BYTES}`)
  })
}

/** There is no HBONE without a certificate on either side. */
function checkHbone({ proxy, tls, gateway }: HboneLayerConfig, spot: Spot): void {
  if (proxy !== undefined) checkTarget(proxy, spot.field('proxy', proxy))
  if (gateway !== undefined)
    checkTarget(gateway.address, spot.field('gateway', gateway).field('address', gateway.address))
  for (const one of gateway === undefined ? [tls] : [tls, gateway.tls]) {
    const at = spot.field('tls', one)
    if (one.certificates.length === 0 && !isPending(one))
      at.field('certificates').error('HBONE needs a certificate of our own')
    if (one.validation === undefined && !isPending(one))
      at.field('validation').error('HBONE needs to know whom to believe')
    checkTls(one, at)
  }
}

function checkTlvType(type: number, spot: Spot): void {
  if (!Number.isInteger(type) || type < 0 || type > 255) spot.error(`${type} is not a type of TLV, which is 0 to 255`)
}

/** Something that is connected to by its numbers. */
function checkTarget(address: Address, spot: Spot): void {
  checkAddress(address, spot)
  if (address.kind === 'ip' && address.port === 0) spot.field('port').error('port 0 cannot be connected to')
}

function isServer(text: string): boolean {
  const parts = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text)
  if (parts === null || Number(parts[3]) > 65_535 || Number(parts[3]) === 0) return false
  return isIP(parts[1] ?? parts[2]) === (parts[1] === undefined ? 4 : 6)
}

function checkLocality(group: LocalityEndpointsConfig, spot: Spot, type: ClusterConfig['type']): void {
  let sum = 0
  spot.each('endpoints', group.endpoints, (endpoint, at) => {
    sum += endpoint.weight
    if (endpoint.weight < 1) at.field('weight').error(`must be at least 1, is ${endpoint.weight}`)
    checkEndpointAddress(endpoint.address, at.field('address', endpoint.address), type)
    checkOtherAddresses(endpoint, at, type)
  })
  if (sum > MAX_WEIGHT_SUM)
    spot.field('endpoints').error(`the weights add up to ${sum}, the limit is ${MAX_WEIGHT_SUM}`)
}

/** What an endpoint has besides its address: further ones, and a proxy in front of it. */
function checkOtherAddresses(endpoint: EndpointConfig, spot: Spot, type: ClusterConfig['type']): void {
  const { address, additionalAddresses, proxyAddress } = endpoint
  spot.each('additionalAddresses', additionalAddresses, (other, at) => {
    if (!isNumeric(type)) at.error('the endpoints of a DNS cluster get their addresses from DNS')
    else if (address.kind !== 'ip' || other.kind !== 'ip') at.error('only IP addresses can stand beside each other')
    else checkTarget(other, at)
  })
  if (proxyAddress !== undefined) checkTarget(proxyAddress, spot.field('proxyAddress', proxyAddress))
}

/** Its endpoints have addresses, not names. */
function isNumeric(type: ClusterConfig['type']): boolean {
  return type === 'static' || type === 'eds'
}

function checkEndpointAddress(address: EndpointAddress, spot: Spot, type: ClusterConfig['type']): void {
  if (address.kind === 'internal') {
    if (!isNumeric(type)) spot.error('a DNS cluster cannot have internal listeners')
    return
  }
  if (isNumeric(type)) {
    checkAddress(address, spot)
  } else if (address.kind === 'pipe') {
    spot.error('a DNS cluster cannot have Unix sockets')
  } else {
    checkPort(address.port, spot.field('port'))
    if (isIP(address.host) === 0 && !NAME.test(address.host)) {
      spot.field('host').error(`"${address.host}" is neither an IP address nor a name`)
    }
  }
  if (address.kind === 'ip' && address.port === 0) spot.field('port').error('port 0 cannot be connected to')
}
