import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { Http2Config } from '../../lib/http2/config.ts'

/** Identifiers of RFC 9113 §6.5.2, RFC 8441 §3 and RFC 9218 §2.1. */
const HEADER_TABLE_SIZE = 0x1
const ENABLE_PUSH = 0x2
const MAX_CONCURRENT_STREAMS = 0x3
const INITIAL_WINDOW_SIZE = 0x4
const MAX_FRAME_SIZE = 0x5
const ENABLE_CONNECT_PROTOCOL = 0x8
const NO_RFC7540_PRIORITIES = 0x9

const MAX_VALUE = 0xffff_ffff
const MAX_WINDOW = 0x7fff_ffff

type Named = Pick<Http2Config, 'hpackTableBytes' | 'maxConcurrentStreams' | 'initialStreamWindowBytes'>

/** Settings that the codec acts on: with their field of the message, their field of the IR and their range. */
const NAMED: ReadonlyMap<number, readonly [string, keyof Named, number, number]> = new Map([
  [HEADER_TABLE_SIZE, ['hpack_table_size', 'hpackTableBytes', 0, MAX_VALUE]],
  [MAX_CONCURRENT_STREAMS, ['max_concurrent_streams', 'maxConcurrentStreams', 1, MAX_WINDOW]],
  [INITIAL_WINDOW_SIZE, ['initial_stream_window_size', 'initialStreamWindowBytes', 65_535, MAX_WINDOW]],
])

/** What custom settings come to. */
export interface CustomSettings {
  /** Those that have a place of their own. */
  readonly named: Partial<Named>
  readonly customSettings: Http2Config['customSettings']
}

/**
 * `custom_settings_parameters`, by Envoy's rules: a setting may repeat with the same value only, none may be set here and
 * by its own field, push cannot be enabled and the CONNECT protocol is `allow_connect`'s alone. Frames larger than 16 KiB
 * are never accepted, so they cannot be announced either.
 */
export function translateCustomSettings(reader: FieldReader): CustomSettings {
  const named: { -readonly [K in keyof Named]?: number } = {}
  const others = new Map<number, number>()
  const seen = new Map<number, number>()
  for (const entry of reader.messages('custom_settings_parameters')) {
    const id = entry.number('identifier') ?? 0
    const value = entry.number('value') ?? 0
    const problem = problemOf(reader, id, value) ?? repeated(seen, id, value)
    if (problem !== undefined) entry.error(problem[0], problem[1])
    seen.set(id, value)
    const place = NAMED.get(id)
    if (place !== undefined) named[place[1]] = value
    else if (id !== ENABLE_PUSH) others.set(id, value)
  }
  return { named, customSettings: [...others].map(([id, value]) => ({ id, value })) }
}

type Problem = readonly [field: 'identifier' | 'value', message: string]

function repeated(seen: ReadonlyMap<number, number>, id: number, value: number): Problem | undefined {
  const before = seen.get(id)
  if (before === undefined || before === value) return undefined
  return ['value', `setting ${id} is ${before} already`]
}

function problemOf(reader: FieldReader, id: number, value: number): Problem | undefined {
  const place = NAMED.get(id)
  if (place !== undefined) {
    const [field, , min, max] = place
    if (reader.has(field)) return ['identifier', `setting ${id} is set by ${field} already`]
    return value < min || value > max ? ['value', `must be ${min} to ${max}, is ${value}`] : undefined
  }
  switch (id) {
    case ENABLE_PUSH:
      return value === 0 ? undefined : ['value', 'server push is not available']
    case MAX_FRAME_SIZE:
      return ['identifier', 'the size of frames cannot be set']
    case ENABLE_CONNECT_PROTOCOL:
      return ['identifier', 'the CONNECT protocol is set by allow_connect']
    case NO_RFC7540_PRIORITIES:
      return value > 1 ? ['value', `must be 0 or 1, is ${value}`] : undefined
    default:
      return undefined
  }
}
