import { deflate, gunzip, gzip, inflate } from 'node:zlib'

/** How messages may be compressed; `deflate` is the zlib format (RFC 1950). */
export type GrpcEncoding = 'identity' | 'gzip' | 'deflate'

/** Called once. Exactly one of the two is given. */
export type Converted = (problem: 'broken' | 'too-large' | undefined, bytes: Buffer | undefined) => void

/** What we tell peers that we understand. */
export const ACCEPT_ENCODING = 'identity,deflate,gzip'

/** Undefined for a name we do not know. */
export function parseEncoding(name: string | undefined): GrpcEncoding | undefined {
  if (name === undefined) return 'identity'
  return name === 'identity' || name === 'gzip' || name === 'deflate' ? name : undefined
}

/** Compresses one message on libuv's threads. */
export function compress(bytes: Uint8Array, encoding: 'gzip' | 'deflate', done: Converted): void {
  const convert = encoding === 'gzip' ? gzip : deflate
  convert(bytes, (error, result) => (error === null ? done(undefined, result) : done('broken', undefined)))
}

/**
 * Decompresses one message on libuv's threads.
 *
 * @param limitBytes of the result; more is never made, and the answer is `too-large`. Undefined: none
 */
export function decompress(
  bytes: Uint8Array,
  encoding: 'gzip' | 'deflate',
  limitBytes: number | undefined,
  done: Converted,
): void {
  const convert = encoding === 'gzip' ? gunzip : inflate
  // zlib throws for a limit of 0; with that only an empty payload gets here, which is broken.
  const options = limitBytes === undefined ? {} : { maxOutputLength: Math.max(1, limitBytes) }
  convert(bytes, options, (error, result) => {
    if (error !== null) {
      done((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE' ? 'too-large' : 'broken', undefined)
    } else done(undefined, result)
  })
}
