import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { GrpcTargetConfig } from '../config.ts'
import type { EnvoyContext } from './context.ts'
import { durationMs } from './durations.ts'
import { translateGoogleGrpc } from './google-grpc.ts'

/** Where the maximum of a back-off is not set, it is so many times its base, as in Envoy. */
const BACKOFF_FACTOR = 10

/** RFC 9110 section 5.5 forbids these in field values. */
const BAD_VALUE = /[\0\r\n]/

/** `config.core.v3.GrpcService`; undefined where it cannot be used, with the mistakes recorded. */
export function translateGrpcService(reader: FieldReader, context: EnvoyContext): GrpcTargetConfig | undefined {
  reader.unread('refuse')
  // Of unary calls, which are tried once; what streams do is said inside envoy_grpc.
  reader.ignore('retry_policy')
  const timeoutMs = durationMs(reader, 'timeout') ?? 0
  const initialMetadata = translateMetadata(reader)
  const kind = reader.which('target_specifier')
  const target =
    kind === 'google_grpc'
      ? translateGoogleGrpc(reader.message('google_grpc'), context)
      : translateEnvoyGrpc(reader.message('envoy_grpc'), context)
  if (target === undefined) return undefined
  const metadata = [...initialMetadata, ...target.initialMetadata]
  return { ...target, ...(timeoutMs > 0 && { timeoutMs }), initialMetadata: metadata }
}

/** As in Envoy, whatever delivers configuration must be reached without it: by a cluster of the bootstrap. */
export function checkManagementCluster(reader: FieldReader, field: string, name: string, context: EnvoyContext): void {
  if (name === '' || context.managementClusters === undefined || context.managementClusters.has(name)) return
  reader.error(field, `"${name}" must be a cluster of static_resources, and not of type EDS`)
}

function translateEnvoyGrpc(reader: FieldReader | undefined, context: EnvoyContext): GrpcTargetConfig | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  // No call carries headers of that kind.
  reader.bool('skip_envoy_headers')
  const cluster = reader.string('cluster_name')
  checkManagementCluster(reader, 'cluster_name', cluster, context)
  const maxReceiveBytes = reader.number('max_receive_message_length') ?? 0
  const backoff = translateBackoff(reader.message('retry_policy'))
  return {
    cluster,
    authority: reader.string('authority'),
    initialMetadata: [],
    ...(maxReceiveBytes > 0 && { maxReceiveBytes }),
    ...(backoff && { backoff }),
  }
}

/** `config.core.v3.RetryPolicy` of a stream: how long to wait before it is opened anew; it is always opened anew. */
function translateBackoff(reader: FieldReader | undefined): GrpcTargetConfig['backoff'] {
  if (reader === undefined) return undefined
  reader.ignore(
    'num_retries',
    'retry_on',
    'retry_priority',
    'retry_host_predicate',
    'host_selection_retry_max_attempts',
  )
  const at = reader.message('retry_back_off')
  const baseMs = durationMs(at, 'base_interval')
  if (at === undefined || baseMs === undefined) return undefined
  const maxMs = durationMs(at, 'max_interval') ?? baseMs * BACKOFF_FACTOR
  if (maxMs < baseMs) at.error('max_interval', 'must not be shorter than base_interval')
  return { baseMs, maxMs }
}

/** `initial_metadata`: names in lower case, values as they are. */
function translateMetadata(reader: FieldReader): string[] {
  return reader.messages('initial_metadata').flatMap((entry) => {
    entry.unread('refuse')
    const name = entry.string('key').toLowerCase()
    const raw = entry.bytes('raw_value')
    const value = raw === undefined ? entry.string('value') : raw.toString('latin1')
    if (BAD_VALUE.test(value)) entry.error('value', 'must not contain NUL, CR or LF')
    if (!/^[0-9a-z_.-]+$/.test(name)) entry.error('key', `"${name}" is not a name of gRPC metadata`)
    return [name, value]
  })
}
