import { isIP } from 'node:net'
import type { Address, EndpointAddress } from '../../core/address.ts'
import type { UpstreamTlsConfig } from '../../tls/config.ts'
import type { ClusterConfig, LocalityEndpointsConfig } from '../../upstream/config.ts'
import type { Spot } from './spot.ts'
import { checkTls } from './tls.ts'

/** `sun_path` of Linux, without the NUL at its end. */
const MAX_SOCKET_PATH_BYTES = 107
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
  spot.each('localities', localities, (group, at) => checkLocality(group, at, type))
  const count = localities.reduce((total, group) => total + group.endpoints.length, 0)
  if (type === 'logical-dns' && (count !== 1 || localities.length !== 1)) {
    spot.error(`a logical DNS cluster must have a single endpoint, this one has ${count}`)
  }
  if (bindAddress !== undefined && isIP(bindAddress) === 0) {
    spot.field('bindAddress').error(`malformed IP address "${bindAddress}"`)
  }
  if (cluster.tls !== undefined) checkClusterTls(cluster, cluster.tls, spot)
  else if (cluster.protocol === 'auto') spot.field('protocol').error('auto needs tls: the protocol is chosen by ALPN')
  if (dns === undefined) {
    if (type !== 'static') spot.field('dns').error('is required by clusters whose endpoints have names')
    return
  }
  const at = spot.field('dns', dns)
  if (dns.failureRefreshMaxMs < dns.failureRefreshMs) {
    at.field('failureRefreshMaxMs').error('must not be shorter than failureRefreshMs')
  }
  at.each('resolvers', dns.resolvers, (server, where) => {
    if (!isServer(server)) where.error(`"${server}" is not an IP address with a port`)
  })
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
  })
  if (sum > MAX_WEIGHT_SUM)
    spot.field('endpoints').error(`the weights add up to ${sum}, the limit is ${MAX_WEIGHT_SUM}`)
}

function checkEndpointAddress(address: EndpointAddress, spot: Spot, type: ClusterConfig['type']): void {
  if (address.kind === 'internal') {
    if (type !== 'static') spot.error('a DNS cluster cannot have internal listeners')
    return
  }
  if (type === 'static') {
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
