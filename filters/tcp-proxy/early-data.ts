/**
 * What a client has sent before its upstream was connected (`max_early_data_bytes`), its FIN included. Chunks are the
 * holder's for ever; how much may be held is for the session, which stops reading.
 */
export class EarlyData {
  #chunks: Buffer[] = []
  bytes = 0
  ended = false

  add(chunk: Buffer, end: boolean): void {
    if (chunk.length > 0) {
      this.#chunks.push(chunk)
      this.bytes += chunk.length
    }
    if (end) this.ended = true
  }

  /** Hands everything over, in order; nothing is left. */
  take(): readonly Buffer[] {
    const chunks = this.#chunks
    this.#chunks = []
    this.bytes = 0
    return chunks
  }
}
