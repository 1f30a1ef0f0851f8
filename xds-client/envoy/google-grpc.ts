import { isIP } from 'node:net'
import { ENVOY_HTTP2 } from '../../lib/config/defaults.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { UpstreamTlsConfig } from '../../lib/tls/config.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import type { GrpcTargetConfig } from '../config.ts'
import { type ChannelArgs, translateChannelArgs } from './channel-args.ts'
import { translateCluster } from './cluster.ts'
import type { EnvoyContext } from './context.ts'
import { type CallMetadata, translateCallCredentials } from './google-credentials.ts'
import { type GoogleTarget, parseGoogleTarget } from './google-target.ts'
import { digest } from './source-key.ts'
import { translateChannelTls } from './tls/channel.ts'

const CLUSTER = 'envoy.config.cluster.v3.Cluster'

/**
 * `GrpcService.GoogleGrpc`: a target outside the clusters of the bootstrap. A cluster is made for it and goes to
 * `context.addCluster`: equal targets have one. Kinds of credentials that only Google's library has are refused.
 */
export function translateGoogleGrpc(
  reader: FieldReader | undefined,
  context: EnvoyContext,
): GrpcTargetConfig | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  reader.ignore('per_stream_buffer_limit_bytes')
  for (const field of ['channel_credentials_plugin', 'call_credentials_plugin'] as const) {
    reader.refuse(field, 'credentials by plugin are not available; Envoy does not read them either')
  }
  const statPrefix = reader.string('stat_prefix')
  const uri = reader.string('target_uri')
  const target = parseGoogleTarget(uri)
  if (typeof target === 'string') reader.error('target_uri', `"${uri}" ${target}`)
  const args = translateChannelArgs(reader.message('channel_args'))
  const tls = translateChannelTls(reader.message('channel_credentials'), context)
  const metadata = translateCallCredentials(reader, context)
  if (typeof target === 'string') return undefined
  if (metadata.bearer && tls === undefined && !isLocal(target)) {
    reader.error('call_credentials', 'need ssl_credentials: over plain TCP everybody on the way could read them')
  }
  if (reader.message('channel_credentials')?.has('local_credentials') && !isLocal(target)) {
    reader.error(
      'channel_credentials.local_credentials',
      'are for targets on this machine: local addresses and sockets',
    )
  }
  const cluster = assemble({ statPrefix, target, args, tls }, context)
  if (cluster === undefined || context.addCluster === undefined) {
    reader.error(undefined, 'google_grpc is not available here; use envoy_grpc')
    return undefined
  }
  context.addCluster(cluster)
  return grpcTarget(cluster.name, target, args, metadata)
}

function grpcTarget(
  cluster: string,
  target: GoogleTarget,
  args: ChannelArgs,
  metadata: CallMetadata,
): GrpcTargetConfig {
  return {
    cluster,
    authority: args.authority ?? target.authority,
    initialMetadata: metadata.headers,
    ...(metadata.files.length > 0 && { fileMetadata: metadata.files }),
    ...(metadata.serviceAccount && { serviceAccount: metadata.serviceAccount }),
    ...(args.maxReceiveBytes !== undefined && { maxReceiveBytes: args.maxReceiveBytes }),
    ...(args.backoff && { backoff: args.backoff }),
  }
}

interface Parts {
  readonly statPrefix: string
  readonly target: GoogleTarget
  readonly args: ChannelArgs
  readonly tls: UpstreamTlsConfig | undefined
}

/** Everything that Envoy's clusters have by default, and of its own what the target says. */
function assemble({ statPrefix, target, args, tls }: Parts, context: EnvoyContext): ClusterConfig | undefined {
  const empty = context.emptyFields?.(CLUSTER, '')
  if (empty === undefined) return undefined
  const { dns: _, ...standard } = translateCluster(empty, { ...context, references: undefined })
  const endpoints = target.addresses.map((address) => ({ address, weight: 1, health: 'healthy' }) as const)
  const dns = { ...DNS, resolvers: [], ...context.clusterDefaults?.resolvers }
  const sni = args.serverName ?? target.host
  const identity = `google_grpc:${target.authority}`
  const config: ClusterConfig = {
    ...standard,
    name: '',
    statName: statPrefix || identity,
    type: target.named ? 'strict-dns' : 'static',
    localities: [{ priority: 0, endpoints }],
    ...(target.named && { dns }),
    protocol: 'http2',
    http2: args.keepalive === undefined ? ENVOY_HTTP2 : { ...ENVOY_HTTP2, keepalive: args.keepalive },
    ...(tls && { tls: { ...tls, sni, autoSanValidation: true } }),
  }
  return { ...config, name: `${identity}#${digest(config)}` }
}

/** Envoy's defaults for names, and both families. */
const DNS = Object.freeze({
  refreshMs: 5000,
  failureRefreshMs: 5000,
  failureRefreshMaxMs: 5000,
  jitterMs: 0,
  respectTtl: true,
  family: 'all',
} as const)

function isLocal({ addresses }: GoogleTarget): boolean {
  return addresses.every((address) => {
    if (address.kind === 'pipe' || address.host === 'localhost' || address.host === '::1') return true
    return isIP(address.host) === 4 && address.host.startsWith('127.')
  })
}
