import type { Json } from '../core/errors.ts'
import { ChunkDecoder, chunksOf, encodeChunks } from './chunks.ts'
import type { Part } from './messages.ts'

/** What this room needs of a process's end of an IPC channel. */
export interface Channel<Out> {
  /** Resolves when the message has left this process; also when the peer is gone, since its end is reported elsewhere. */
  send(message: Out): Promise<void>
}

/** The end of the channel that a forked process has to its parent. */
export function parentChannel<Out extends object>(self: NodeJS.Process): Channel<Out> {
  return {
    send: (message) =>
      new Promise((resolve) => {
        if (!self.connected || self.send === undefined) resolve()
        else self.send(message, undefined, undefined, () => resolve())
      }),
  }
}

/** The pieces of a payload, made once and sent to as many peers as need them. */
export function partsOf<P extends string>(payload: P, id: number, value: unknown): Part<P>[] {
  const chunks = encodeChunks(value)
  return chunks.map((text, index) => ({ kind: 'part', payload, id, index, last: index === chunks.length - 1, text }))
}

/** The same one by one, each made when it is asked for: a large payload takes the time of many turns. */
export function* partsInTurn<P extends string>(payload: P, id: number, value: unknown): Generator<Part<P>, void> {
  let index = 0
  let before: string | undefined
  for (const text of chunksOf(value)) {
    if (before !== undefined) yield { kind: 'part', payload, id, index: index++, last: false, text: before }
    before = text
  }
  yield { kind: 'part', payload, id, index, last: true, text: before as string }
}

/** Puts parts of one kind of payload together; a payload that starts anew replaces one that was never finished. */
export class PartReader {
  #decoder: ChunkDecoder | undefined
  #id = 0
  #next = 0

  /** The value with the last part, undefined before. A piece out of order (its beginning was lost) is dropped. */
  add(part: Part<string>): { readonly value: Json } | undefined {
    if (part.index === 0) {
      this.#decoder = new ChunkDecoder()
      this.#id = part.id
      this.#next = 0
    }
    if (this.#decoder === undefined || part.id !== this.#id || part.index !== this.#next) {
      this.#decoder = undefined
      return undefined
    }
    this.#next++
    this.#decoder.add(part.text)
    if (!part.last) return undefined
    const value = this.#decoder.value()
    this.#decoder = undefined
    return { value }
  }
}
