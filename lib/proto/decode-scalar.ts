import { type DescEnum, ScalarType } from '@bufbuild/protobuf'
import { describe } from './describe.ts'
import { didYouMean } from './suggest.ts'

/** What is wrong with a value, where a decoder found something wrong; anything else a decoder answers is the value. */
export class Wrong {
  readonly message: string

  constructor(message: string) {
    this.message = message
  }
}

export type ScalarValue = string | number | bigint | boolean | Uint8Array

const UINT32_MAX = 0xffffffff
const INT32_MAX = 0x7fffffff
const FLOAT_MAX = 3.4028234663852886e38
const INTEGER = /^-?(0|[1-9][0-9]*)$/
const DECIMAL = /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$/
const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/
const DURATION = /^(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s$/
const TIMESTAMP =
  /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.([0-9]{1,9}))?(?:Z|[+-][0-9]{2}:[0-9]{2})$/
/** google.protobuf.Duration reaches 10,000 years both ways. */
const DURATION_MAX_SECONDS = 315_576_000_000

/** A scalar by the ProtoJSON rules; 64-bit integers become bigint, bytes Uint8Array. */
export function decodeScalar(type: ScalarType, json: unknown): ScalarValue | Wrong {
  switch (type) {
    case ScalarType.STRING:
      return decodeString(json)
    case ScalarType.BOOL:
      return typeof json === 'boolean' ? json : new Wrong(`expected true or false, got ${describe(json)}`)
    case ScalarType.BYTES:
      return decodeBytes(json)
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return decodeFloat(json, type === ScalarType.FLOAT)
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return decodeInteger(json, 0, UINT32_MAX)
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return decodeInteger(json, -INT32_MAX - 1, INT32_MAX)
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return decodeLong(json, 0n, 0xffffffffffffffffn)
    default:
      return decodeLong(json, -0x8000000000000000n, 0x7fffffffffffffffn)
  }
}

function decodeString(json: unknown): string | Wrong {
  if (typeof json !== 'string') return new Wrong(`expected a string, got ${describe(json)}`)
  return json.isWellFormed() ? json : new Wrong('is not valid Unicode: half of a surrogate pair')
}

function decodeBytes(json: unknown): Uint8Array | Wrong {
  if (typeof json !== 'string') return new Wrong(`expected bytes in base64, got ${describe(json)}`)
  const digits = json.replace(/=+$/, '').length
  if (!BASE64.test(json) || digits % 4 === 1) return new Wrong(`is not base64: ${describe(json)}`)
  return new Uint8Array(Buffer.from(json, 'base64'))
}

function decodeFloat(json: unknown, single: boolean): number | Wrong {
  let value: number
  if (typeof json === 'number') value = json
  else if (json === 'NaN' || json === 'Infinity' || json === '-Infinity') value = Number(json)
  else if (typeof json === 'string' && DECIMAL.test(json)) value = Number(json)
  else return new Wrong(`expected a number, got ${describe(json)}`)
  // A finite text may overflow: 1e999. Only the words stand for infinity.
  const overflow = typeof json === 'string' && DECIMAL.test(json) && !Number.isFinite(value)
  if (overflow || (single && Number.isFinite(value) && Math.abs(value) > FLOAT_MAX)) {
    return new Wrong(`is out of range: ${describe(json)}`)
  }
  return value
}

function decodeInteger(json: unknown, min: number, max: number): number | Wrong {
  const value = typeof json === 'string' && DECIMAL.test(json) ? Number(json) : json
  if (typeof value !== 'number' || !Number.isInteger(value))
    return new Wrong(`expected an integer, got ${describe(json)}`)
  if (value < min || value > max) return new Wrong(`must be between ${min} and ${max}, is ${value}`)
  return value
}

function decodeLong(json: unknown, min: bigint, max: bigint): bigint | Wrong {
  let value: bigint
  if (typeof json === 'string' && INTEGER.test(json) && json.length <= 21) value = BigInt(json)
  else if (typeof json === 'string' && DECIMAL.test(json) && Number.isSafeInteger(Number(json)))
    value = BigInt(Number(json))
  else if (typeof json === 'number' && Number.isSafeInteger(json)) value = BigInt(json)
  else if (typeof json === 'number' && Number.isInteger(json)) {
    return new Wrong(`is beyond 2^53 and must be written as a string in quotes, is ${json}`)
  } else return new Wrong(`expected an integer, got ${describe(json)}`)
  if (value < min || value > max) return new Wrong(`must be between ${min} and ${max}, is ${value}`)
  return value
}

/** The number of an enum value given by its name, or by a number that the enum has. */
export function decodeEnum(desc: DescEnum, json: unknown): number | Wrong {
  if (typeof json === 'string') {
    for (const value of desc.values) if (value.name === json) return value.number
    const names = desc.values.map((value) => value.name)
    const hint = didYouMean(json, names)
    const choice = hint === '' && names.length <= 12 ? `: expected ${names.join(', ')}` : hint
    return new Wrong(`${describe(json)} is not a value of ${desc.typeName}${choice}`)
  }
  if (typeof json === 'number' && Number.isInteger(json)) {
    return desc.value[json] === undefined ? new Wrong(`${json} is not a value of ${desc.typeName}`) : json
  }
  return new Wrong(`expected a value of ${desc.typeName} by name, got ${describe(json)}`)
}

/** Seconds and nanoseconds, both with the sign. */
export interface SecondsNanos {
  readonly seconds: bigint
  readonly nanos: number
}

/** `1.5s`: a decimal number of seconds and the letter s. */
export function decodeDuration(json: unknown): SecondsNanos | Wrong {
  const match = typeof json === 'string' ? DURATION.exec(json) : null
  if (match === null) return new Wrong(`expected a duration such as "1.5s", got ${describe(json)}`)
  const seconds = Number(match[2])
  if (seconds > DURATION_MAX_SECONDS) return new Wrong(`must be within 10000 years, is ${describe(json)}`)
  const nanos = Number((match[3] ?? '').padEnd(9, '0'))
  return match[1] === '-'
    ? { seconds: BigInt(-seconds), nanos: nanos === 0 ? 0 : -nanos }
    : { seconds: BigInt(seconds), nanos }
}

/** RFC 3339 with a zone; years 1 to 9999. */
export function decodeTimestamp(json: unknown): SecondsNanos | Wrong {
  const match = typeof json === 'string' ? TIMESTAMP.exec(json) : null
  const ms = match === null ? Number.NaN : Date.parse((json as string).replace(/\.[0-9]+/, ''))
  if (match === null || Number.isNaN(ms)) {
    return new Wrong(`expected a time such as "2030-01-31T10:00:00Z", got ${describe(json)}`)
  }
  if (ms < -62_135_596_800_000 || ms > 253_402_300_799_000) return new Wrong(`is out of range: ${describe(json)}`)
  return { seconds: BigInt(ms / 1000), nanos: Number((match[1] ?? '').padEnd(9, '0')) }
}

/** Comma-separated camelCase paths, made snake_case. */
export function decodeFieldMask(json: unknown): string[] | Wrong {
  if (typeof json !== 'string') return new Wrong(`expected field paths separated by commas, got ${describe(json)}`)
  if (json === '') return []
  return json.split(',').map((path) => path.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`))
}
