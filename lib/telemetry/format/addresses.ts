import { formatHostPort } from '../../core/address.ts'
import { maskIp } from './mask-ip.ts'
import { type Command, type CommandContext, type LogStream, plainCommand, type Read } from './operator.ts'

/** How the two ends of one address are read from an exchange; '' and 0 where there is none. */
interface Endpoint {
  host(stream: LogStream): string
  /** Undefined for Unix sockets. */
  port(stream: LogStream): number | undefined
}

const downstreamRemote: Endpoint = {
  host: ({ info, connection }) => info.clientAddress || connection.remoteAddress,
  port({ info, connection }) {
    // An address that a header named comes without its port: Envoy prints 0.
    if (info.clientAddress !== '' && info.clientAddress !== connection.remoteAddress) return 0
    return connection.kind === 'ip' ? connection.remotePort : undefined
  },
}

const downstreamDirectRemote: Endpoint = {
  host: ({ connection }) => connection.directRemoteAddress,
  port: ({ connection }) => (connection.kind === 'ip' ? connection.directRemotePort : undefined),
}

const downstreamLocal: Endpoint = {
  host: ({ connection }) => connection.localAddress,
  port: ({ connection }) => (connection.kind === 'ip' ? connection.localPort : undefined),
}

const downstreamDirectLocal: Endpoint = {
  host: ({ connection }) => connection.directLocalAddress,
  port: ({ connection }) => (connection.kind === 'ip' ? connection.directLocalPort : undefined),
}

const upstreamRemote: Endpoint = {
  host: ({ info }) => (info.upstreamConnectionId === 0 ? '' : hostOf(info.upstreamRemoteAddress || info.upstreamHost)),
  port: ({ info }) =>
    info.upstreamConnectionId === 0 ? undefined : portOf(info.upstreamRemoteAddress || info.upstreamHost),
}

const upstreamLocal: Endpoint = {
  host: ({ info }) => hostOf(info.upstreamLocalAddress),
  port: ({ info }) => portOf(info.upstreamLocalAddress),
}

/** Addresses of both sides. */
export const ADDRESS_COMMANDS: readonly Command[] = Object.freeze([
  ...family(
    'DOWNSTREAM_REMOTE',
    "the client, as X-Forwarded-For or a PROXY header tell (then the port is a header's 0)",
    downstreamRemote,
  ),
  ...family('DOWNSTREAM_DIRECT_REMOTE', 'the peer of the socket itself', downstreamDirectRemote),
  ...family('DOWNSTREAM_LOCAL', 'the address the client connected to', downstreamLocal),
  ...family('DOWNSTREAM_DIRECT_LOCAL', 'the local address of the socket itself', downstreamDirectLocal),
  ...family('UPSTREAM_REMOTE', 'the endpoint connected to', upstreamRemote),
  ...family('UPSTREAM_LOCAL', 'the local address of the upstream connection', upstreamLocal),
  plainCommand(
    'UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID',
    'endpoint id of an internal listener connected to',
    ({ info }) => endpointId(info.upstreamConnectionId === 0 ? '' : info.upstreamHost),
    'text',
  ),
  plainCommand('UPSTREAM_HOST', 'address of the endpoint chosen', ({ info }) => info.upstreamHost || undefined),
  plainCommand(
    'UPSTREAM_HOST_NAME',
    'host name of the endpoint, else its address',
    ({ info }) => info.upstreamHostName || info.upstreamHost || undefined,
    'text',
  ),
  plainCommand(
    'UPSTREAM_HOST_NAME_WITHOUT_PORT',
    'the same without its port',
    ({ info }) => hostOf(info.upstreamHostName || info.upstreamHost) || undefined,
    'text',
  ),
  plainCommand('UPSTREAM_CLUSTER', 'the cluster', ({ info }) => info.upstreamCluster || undefined, 'text'),
  plainCommand('UPSTREAM_CLUSTER_RAW', 'the cluster', ({ info }) => info.upstreamCluster || undefined, 'text'),
  plainCommand(
    'DOWNSTREAM_TRANSPORT_FAILURE_REASON',
    "why the client's TLS handshake failed: in the logs of listeners",
    ({ info }) => info.downstreamTransportFailure.replaceAll(' ', '_') || undefined,
    'text',
  ),
  plainCommand(
    'UPSTREAM_TRANSPORT_FAILURE_REASON',
    'why the upstream connection failed',
    ({ info }) => info.upstreamTransportFailure.replaceAll(' ', '_') || undefined,
    'text',
  ),
])

/** `X_ADDRESS`, `X_ADDRESS_WITHOUT_PORT(bits)` and `X_PORT`. */
function family(prefix: string, meaning: string, endpoint: Endpoint): Command[] {
  return [
    plainCommand(
      `${prefix}_ADDRESS`,
      meaning,
      (stream) => {
        const host = endpoint.host(stream)
        if (host === '') return undefined
        const port = endpoint.port(stream)
        return port === undefined ? host : formatHostPort(host, port)
      },
      'text',
    ),
    {
      name: `${prefix}_ADDRESS_WITHOUT_PORT`,
      argument: '(MASK_PREFIX_LEN)',
      needs: 'optional',
      length: 'refused',
      origin: 'text',
      meaning: 'the same without port; with a number of bits, its network',
      compile: (argument, context) => withoutPort(argument, context, endpoint),
    },
    plainCommand(`${prefix}_PORT`, 'its port', (stream) =>
      endpoint.host(stream) === '' ? undefined : endpoint.port(stream),
    ),
  ]
}

function withoutPort(argument: string | undefined, context: CommandContext, endpoint: Endpoint): Read {
  if (argument === undefined || argument === '') return (stream) => endpoint.host(stream) || undefined
  const bits = /^\d{1,3}$/.test(argument) ? Number(argument) : 129
  if (bits > 128) context.fail(`"${argument}" is not a prefix length between 0 and 128`)
  return (stream) => maskIp(endpoint.host(stream), bits)
}

/** The id in `envoy://listener/id`. */
function endpointId(address: string): string | undefined {
  return address.startsWith('envoy://') ? address.slice(address.indexOf('/', 8) + 1) || undefined : undefined
}

/** The host of `host:port` or `[v6]:port`; paths of Unix sockets and bare hosts are returned as they are. */
function hostOf(address: string): string {
  const colon = portColon(address)
  const host = colon < 0 ? address : address.slice(0, colon)
  return host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host
}

function portOf(address: string): number | undefined {
  const colon = portColon(address)
  return colon < 0 ? undefined : Number(address.slice(colon + 1))
}

/** Where the port's colon stands; -1 where there is no port. */
function portColon(address: string): number {
  if (address.startsWith('/')) return -1
  const colon = address.lastIndexOf(':')
  const bareV6 = colon > 0 && address[0] !== '[' && address.indexOf(':') !== colon
  return bareV6 || !/:\d{1,5}$/.test(address) ? -1 : colon
}
