import type { RoutingPriority } from '../core/attempt.ts'
import { Headers } from '../core/headers.ts'
import { ACCEPT_ENCODING, type GrpcEncoding } from './compression.ts'
import { isProtocolField } from './metadata.ts'

/** Of one call; what is left out is as the client has it. */
export interface GrpcCallOptions {
  /** From now until the status must be there; the peer learns of it. Undefined or infinite: no deadline. */
  readonly timeoutMs?: number
  /** Initial metadata besides the client's; fields of the protocol itself are left out. Read when the call opens. */
  readonly metadata?: Headers
  /** Aborting it ends the call with CANCELLED. */
  readonly signal?: AbortSignal
  /** Wait, until the deadline, for a host that can be connected to, instead of failing with UNAVAILABLE. */
  readonly waitForReady?: boolean
  /** Of the messages we send. */
  readonly encoding?: GrpcEncoding
  /** Of one message received, compressed and not; a larger one ends the call with RESOURCE_EXHAUSTED. Undefined: none. */
  readonly maxReceiveBytes?: number
  readonly authority?: string
}

/** What every call of a client has in common. */
export interface CallDefaults {
  readonly authority: string
  /** '': the connection decides. */
  readonly scheme: 'http' | 'https' | ''
  readonly userAgent: string
  readonly priority: RoutingPriority
  /** Without fields of the protocol. */
  readonly metadata: readonly string[]
}

/** The fields of a call; `timeoutMs` is what is left of its time, undefined where it has no deadline. */
export function requestHeaders(
  defaults: CallDefaults,
  encoding: GrpcEncoding,
  metadata: Headers | undefined,
  timeoutMs: number | undefined,
): Headers {
  const raw: string[] = []
  // First of all fields, as the protocol asks: a server can arm its timer before it reads the rest.
  if (timeoutMs !== undefined) raw.push('grpc-timeout', formatTimeout(timeoutMs))
  raw.push('te', 'trailers', 'content-type', 'application/grpc', 'user-agent', defaults.userAgent)
  if (encoding !== 'identity') raw.push('grpc-encoding', encoding)
  raw.push('grpc-accept-encoding', ACCEPT_ENCODING)
  for (const text of defaults.metadata) raw.push(text)
  if (metadata !== undefined) pushMetadata(raw, metadata)
  return new Headers(raw)
}

/** Copies metadata without the fields that are the protocol's own. */
export function pushMetadata(raw: string[], metadata: Headers): void {
  const from = metadata.raw
  for (let i = 0; i < from.length; i += 2) if (!isProtocolField(from[i])) raw.push(from[i], from[i + 1])
}

const MOST = 99_999_999

/** A `grpc-timeout`: at most eight digits and the finest unit in which it fits, rounded up and never 0. */
export function formatTimeout(ms: number): string {
  const whole = Math.max(1, Math.ceil(ms))
  if (whole <= MOST) return `${whole}m`
  const seconds = Math.ceil(whole / 1000)
  if (seconds <= MOST) return `${seconds}S`
  const minutes = Math.ceil(seconds / 60)
  return minutes <= MOST ? `${minutes}M` : `${Math.min(MOST, Math.ceil(minutes / 60))}H`
}

/** A response that may hold gRPC messages: `application/grpc`, alone or with a format or parameters. */
export function isGrpcResponse(status: number, contentType: string | undefined): boolean {
  if (status !== 200 || contentType === undefined || !contentType.startsWith('application/grpc')) return false
  const next = contentType.charCodeAt(16)
  return contentType.length === 16 || next === PLUS || next === SEMICOLON || next === SPACE
}

const PLUS = 0x2b
const SEMICOLON = 0x3b
const SPACE = 0x20
