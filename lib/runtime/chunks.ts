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
  const sizes = new Map<object, number>()
  measure(value, sizes)
  const chunks: string[] = []
  let ops: string[] = []
  let length = 2
  const put = (op: string): void => {
    if (length + op.length > CHUNK_CHARS && ops.length > 0) {
      chunks.push(`[${ops.join(',')}]`)
      ops = []
      length = 2
    }
    ops.push(op)
    length += op.length + 1
  }
  emit('', value, sizes, put)
  chunks.push(`[${ops.join(',')}]`)
  return chunks
}

/** Sizes of all objects and arrays as JSON, in one pass from the leaves up; close enough for cutting. */
function measure(value: unknown, sizes: Map<object, number>): number {
  if (typeof value === 'string') return value.length + 2
  if (typeof value !== 'object' || value === null) return 8
  let size = 2
  if (Array.isArray(value)) for (const item of value) size += measure(item, sizes) + 1
  else for (const [key, item] of Object.entries(value)) size += key.length + 4 + measure(item, sizes)
  sizes.set(value, size)
  return size
}

function emit(key: string | number, value: unknown, sizes: Map<object, number>, put: (op: string) => void): void {
  const size = typeof value === 'object' && value !== null ? (sizes.get(value) ?? 0) : 0
  if (size <= LEAF_CHARS) {
    put(JSON.stringify([0, key, value]))
    return
  }
  if (Array.isArray(value)) {
    put(JSON.stringify([2, key]))
    for (let i = 0; i < value.length; i++) emit(i, value[i], sizes, put)
  } else {
    put(JSON.stringify([1, key]))
    for (const [name, item] of Object.entries(value as object)) {
      if (item !== undefined) emit(name, item, sizes, put)
    }
  }
  put('[3]')
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
