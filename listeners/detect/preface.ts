/** The client connection preface of RFC 9113 §3.4, without the SETTINGS frame behind it. */
export const PREFACE: Buffer = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

/**
 * How many bytes of the preface have been seen after this chunk, `seen` before it: all of them means HTTP/2. -1: these are
 * not its bytes. Chunks may be split anywhere.
 */
export function matchPreface(chunk: Buffer, seen: number): number {
  const length = Math.min(chunk.length, PREFACE.length - seen)
  for (let i = 0; i < length; i++) if (chunk[i] !== PREFACE[seen + i]) return -1
  return seen + length
}
