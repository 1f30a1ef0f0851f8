import { createReadStream } from 'node:fs'

const NEWLINE = 0x0a

/** A line of a file, without its end; undefined where its bytes are not UTF-8. */
export type Line = string | undefined

/**
 * The lines of a file, one at a time, whatever its size. Only a line feed ends a line, with a carriage return before it
 * dropped: JSON may hold the other separators of Unicode as they are. Rejects where the file cannot be read.
 */
export async function* readLines(path: string): AsyncGenerator<Line, void, void> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let pieces: Buffer[] = []
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let from = 0
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      pieces.push(chunk.subarray(from, at))
      yield decode(decoder, pieces)
      pieces = []
      from = at + 1
    }
    if (from < chunk.length) pieces.push(chunk.subarray(from))
  }
  if (pieces.length > 0) yield decode(decoder, pieces)
}

function decode(decoder: TextDecoder, pieces: Buffer[]): Line {
  try {
    return decoder.decode(pieces.length === 1 ? pieces[0] : Buffer.concat(pieces)).replace(/\r$/, '')
  } catch {
    return undefined
  }
}
