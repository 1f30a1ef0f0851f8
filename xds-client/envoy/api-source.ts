import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { ApiSourceConfig, GrpcTargetConfig } from '../config.ts'
import { translateValidators } from './config-validators.ts'
import type { EnvoyContext } from './context.ts'
import { durationMs } from './durations.ts'
import { checkManagementCluster, translateGrpcService } from './grpc-service.ts'
import { refuseV2 } from './refusals.ts'

/** Envoy's defaults. */
const REQUEST_TIMEOUT_MS = 1000
const MAX_TOKENS = 100
const FILL_RATE = 10

const APIS: ReadonlyMap<string, ApiSourceConfig['api']> = new Map([
  ['GRPC', 'grpc'],
  ['DELTA_GRPC', 'delta-grpc'],
  ['REST', 'rest'],
  ['AGGREGATED_GRPC', 'grpc'],
  ['AGGREGATED_DELTA_GRPC', 'delta-grpc'],
])

/**
 * `config.core.v3.ApiConfigSource`; undefined where it cannot be used, with the mistakes recorded. As in Envoy, gRPC has
 * services and no cluster names, REST the reverse.
 */
export function translateApiSource(
  reader: FieldReader | undefined,
  context: EnvoyContext,
): ApiSourceConfig | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  refuseV2(reader, 'transport_api_version')
  const minimumClusters = translateValidators(reader)
  const type = reader.enumName('api_type')
  const api = APIS.get(type)
  if (api === undefined) {
    reader.error('api_type', `${type} is not available`)
    reader.toJson()
    return undefined
  }
  const targets = api === 'rest' ? translateClusters(reader, context) : translateServices(reader, context)
  const refreshMs = durationMs(reader, 'refresh_delay') ?? 0
  if (api === 'rest' && refreshMs === 0) reader.error('refresh_delay', 'is required by REST')
  const rateLimit = translateRateLimit(reader.message('rate_limit_settings'))
  const source: ApiSourceConfig = {
    kind: 'api',
    api,
    ...(type.startsWith('AGGREGATED_') && { aggregated: true }),
    targets,
    refreshMs,
    requestTimeoutMs: durationMs(reader, 'request_timeout') ?? REQUEST_TIMEOUT_MS,
    nodeOnFirstMessageOnly: reader.bool('set_node_on_first_message_only'),
    ...(minimumClusters > 0 && { minimumClusters }),
    ...(rateLimit && { rateLimit }),
  }
  return targets.length === 0 ? undefined : source
}

function translateServices(reader: FieldReader, context: EnvoyContext): GrpcTargetConfig[] {
  reader.refuse('cluster_names', 'belongs to REST; use grpc_services')
  const services = reader.messages('grpc_services')
  if (services.length === 0) reader.error('grpc_services', 'is required by gRPC')
  return services.map((service) => translateGrpcService(service, context)).filter((target) => target !== undefined)
}

function translateClusters(reader: FieldReader, context: EnvoyContext): GrpcTargetConfig[] {
  reader.refuse('grpc_services', 'belongs to gRPC; use cluster_names')
  const names = reader.strings('cluster_names')
  if (names.length === 0) reader.error('cluster_names', 'is required by REST')
  return names.map((cluster, i) => {
    checkManagementCluster(reader, `cluster_names[${i}]`, cluster, context)
    return { cluster, authority: '', initialMetadata: [] }
  })
}

function translateRateLimit(reader: FieldReader | undefined): ApiSourceConfig['rateLimit'] {
  if (reader === undefined) return undefined
  return { maxTokens: reader.number('max_tokens') ?? MAX_TOKENS, fillRate: reader.number('fill_rate') ?? FILL_RATE }
}
