import type { Json } from '../core/errors.ts'

/** Text of one chunk: small enough that parsing it costs a receiver well under a millisecond. */
export const CHUNK_CHARS = 64 * 1024

/** A subtree below this size travels as one piece of JSON; larger ones are opened and sent child by child. */
const LEAF_CHARS = 8 * 1024

/** `[0, key, value]` puts a value, `[1, key]` opens an object, `[2, key]` an array, `[3]` closes what was opened last. */
type Op = readonly [0, string | number, Json] | readonly [1 | 2, string | number] | readonly [3]

/**
 * Cuts JSON-safe data into texts of about 64 Ki characters which `ChunkDecoder` puts together again, one by one, so that
 * a receiver never parses more than one of them in a row (10,000 clusters in one message stalled it for 92 ms). A single
 * string longer than that is not cut.
 *
 * Properties whose value is undefined are left out, as `JSON.stringify` does.
 */
export function encodeChunks(value: unknown): string[] {
  return [...chunksOf(value)]
}

/** The same one by one, each made when it is asked for. */
export function* chunksOf(value: unknown): Generator<string, void> {
  let ops: string[] = []
  let length = 2
  for (const op of opsOf('', value)) {
    if (length + op.length > CHUNK_CHARS && ops.length > 0) {
      yield `[${ops.join(',')}]`
      ops = []
      length = 2
    }
    ops.push(op)
    length += op.length + 1
  }
  yield `[${ops.join(',')}]`
}

function* opsOf(key: string | number, value: unknown): Generator<string, void> {
  if (sizeUpTo(value, LEAF_CHARS) <= LEAF_CHARS || typeof value !== 'object' || value === null) {
    yield JSON.stringify([0, key, value])
    return
  }
  if (Array.isArray(value)) {
    yield JSON.stringify([2, key])
    for (let i = 0; i < value.length; i++) yield* opsOf(i, value[i])
  } else {
    yield JSON.stringify([1, key])
    for (const name of Object.keys(value)) {
      const item: unknown = (value as { readonly [key: string]: unknown })[name]
      if (item !== undefined) yield* opsOf(name, item)
    }
  }
  yield '[3]'
}

/** Its size as JSON, close enough for cutting; anything above the limit where it is larger than that. */
function sizeUpTo(value: unknown, limit: number): number {
  if (typeof value === 'string') return value.length + 2
  if (typeof value !== 'object' || value === null) return 8
  let size = 2
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length && size <= limit; i++) size += sizeUpTo(value[i], limit - size) + 1
    return size
  }
  for (const key of Object.keys(value)) {
    if (size > limit) return size
    size += key.length + 4 + sizeUpTo((value as { readonly [key: string]: unknown })[key], limit - size)
  }
  return size
}

/** Puts the chunks of one value together, in order. Throws on text that `encodeChunks` did not make. */
export class ChunkDecoder {
  readonly #root: { '': Json | undefined } = { '': undefined }
  readonly #open: object[] = [this.#root]

  add(text: string): void {
    for (const op of JSON.parse(text) as Op[]) {
      const target = this.#open[this.#open.length - 1]
      if (target === undefined) throw new Error('chunk closes more than it opened')
      if (op[0] === 0) place(target, op[1], op[2])
      else if (op[0] === 3) this.#open.pop()
      else {
        const container: Json = op[0] === 1 ? {} : []
        place(target, op[1], container)
        this.#open.push(container)
      }
    }
  }

  /** The whole value; call after the last chunk. */
  value(): Json {
    const value = this.#root['']
    if (value === undefined || this.#open.length !== 1) throw new Error('the last chunk has not arrived')
    return value
  }
}

/** Defined, not assigned: a key `__proto__` in somebody's metadata must stay a key. */
function place(target: object, key: string | number, value: Json): void {
  if (key === '__proto__')
    Object.defineProperty(target, key, { value, enumerable: true, writable: true, configurable: true })
  else (target as Record<string | number, Json>)[key] = value
}
