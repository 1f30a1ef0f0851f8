import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { Http2KeepaliveConfig } from '../../lib/http2/config.ts'
import type { GrpcTargetConfig } from '../config.ts'

/** Of gRPC's channel arguments, those that have a counterpart here. */
export interface ChannelArgs {
  readonly authority?: string
  /** The name that the certificate must have. */
  readonly serverName?: string
  readonly maxReceiveBytes?: number
  readonly keepalive?: Http2KeepaliveConfig
  readonly backoff?: GrpcTargetConfig['backoff']
}

/** gRPC's defaults. */
const KEEPALIVE_TIMEOUT_MS = 20_000
const INITIAL_BACKOFF_MS = 1000
const MAX_BACKOFF_MS = 120_000

/** `GoogleGrpc.ChannelArgs`; arguments that are not known tune Google's library, and are reported. */
export function translateChannelArgs(reader: FieldReader | undefined): ChannelArgs {
  const args = reader?.messageMap('args') ?? new Map<string, FieldReader>()
  const text = (name: string): string | undefined => args.get(name)?.string('string_value') || undefined
  const number = (name: string): number | undefined => {
    const at = args.get(name)
    return at?.which('value_specifier') === 'int_value' ? at.number('int_value') : undefined
  }
  const authority = text('grpc.default_authority')
  const serverName = text('grpc.ssl_target_name_override')
  const maxReceiveBytes = number('grpc.max_receive_message_length')
  const keepalive = translateKeepalive(number('grpc.keepalive_time_ms'), number('grpc.keepalive_timeout_ms'))
  const backoff = translateBackoff(
    number('grpc.initial_reconnect_backoff_ms') ?? number('grpc.min_reconnect_backoff_ms'),
    number('grpc.max_reconnect_backoff_ms'),
  )
  for (const at of args.values()) reportUnread(at)
  return {
    ...(authority !== undefined && { authority }),
    ...(serverName !== undefined && { serverName }),
    ...(maxReceiveBytes !== undefined && maxReceiveBytes > 0 && { maxReceiveBytes }),
    ...(keepalive && { keepalive }),
    ...(backoff && { backoff }),
  }
}

function reportUnread(at: FieldReader): void {
  at.unread('report')
}

function translateKeepalive(intervalMs = 0, timeoutMs = KEEPALIVE_TIMEOUT_MS): Http2KeepaliveConfig | undefined {
  if (intervalMs <= 0) return undefined
  return { intervalMs, timeoutMs: Math.max(1, timeoutMs), jitterPercent: 0, idleIntervalMs: 0 }
}

function translateBackoff(baseMs: number | undefined, maxMs: number | undefined): ChannelArgs['backoff'] {
  if (baseMs === undefined && maxMs === undefined) return undefined
  const base = Math.max(1, baseMs ?? INITIAL_BACKOFF_MS)
  return { baseMs: base, maxMs: Math.max(base, maxMs ?? MAX_BACKOFF_MS) }
}
