import { GrpcFrames } from '../../lib/core/grpc-frames.ts'

/**
 * Base64 (RFC 4648 §4) to bytes, split anywhere. Padding is mandatory and may end any group of four: clients encode what
 * they send piece by piece. Anything else than the alphabet is refused, bits that nobody needs included.
 */
export class Base64Decoder {
  /** Of the group at hand: its bits, and the number of its characters and of those that are padding. */
  #bits = 0
  #count = 0
  #padding = 0

  /** True where the last group is not complete: the end must not come here. */
  get partial(): boolean {
    return this.#count !== 0
  }

  /** Undefined where it is no base64; the decoder is of no use after that. */
  decode(text: Buffer): Buffer | undefined {
    const out = Buffer.allocUnsafe(Math.ceil((text.length + this.#count) / 4) * 3)
    let size = 0
    for (let i = 0; i < text.length; i++) {
      const value = VALUES[text[i]]
      if (value === PAD ? this.#count < 2 : value === NONE || this.#padding > 0) return undefined
      if (value === PAD) this.#padding++
      this.#bits = (this.#bits << 6) | (value & 63)
      if (++this.#count < 4) continue
      const bits = this.#bits
      const padding = this.#padding
      if ((bits & SURPLUS[padding]) !== 0) return undefined
      out[size] = bits >> 16
      out[size + 1] = bits >> 8
      out[size + 2] = bits
      size += 3 - padding
      this.#bits = this.#count = this.#padding = 0
    }
    return out.subarray(0, size)
  }
}

/**
 * A gRPC body to base64, split anywhere. Padding stands at the end of each message, so that a client has all of a message
 * as soon as we have it; within one, up to two bytes wait for those that complete their group.
 */
export class FrameEncoder {
  readonly #frames = new GrpcFrames()
  readonly #held = Buffer.alloc(3)
  #heldBytes = 0

  encode(chunk: Buffer): Buffer {
    let text = ''
    for (let at = 0; at < chunk.length; ) {
      const to = this.#frames.advance(chunk, at)
      text += this.#piece(chunk, at, to)
      if (this.#frames.between) text += this.#flushed()
      at = to
    }
    return Buffer.from(text, 'latin1')
  }

  /** What is held of a message that has no end. */
  flush(): Buffer {
    return Buffer.from(this.#flushed(), 'latin1')
  }

  #piece(chunk: Buffer, start: number, to: number): string {
    let from = start
    if (this.#heldBytes > 0) {
      while (this.#heldBytes < 3 && from < to) this.#held[this.#heldBytes++] = chunk[from++]
      if (this.#heldBytes < 3) return ''
    }
    const text = this.#flushed()
    const whole = to - ((to - from) % 3)
    for (let i = whole; i < to; i++) this.#held[this.#heldBytes++] = chunk[i]
    return text + chunk.toString('base64', from, whole)
  }

  #flushed(): string {
    const text = this.#held.toString('base64', 0, this.#heldBytes)
    this.#heldBytes = 0
    return text
  }
}

const PAD = 64
const NONE = 255

/** Bits of a group that stand for nothing, by the number of its padding characters. */
const SURPLUS: readonly number[] = Object.freeze([0, 0xff, 0xffff])

/** Value of each character. */
const VALUES: readonly number[] = Object.freeze(
  Array.from({ length: 256 }, (_, code) => {
    if (code === 0x3d) return PAD
    const value = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'.indexOf(String.fromCharCode(code))
    return value < 0 ? NONE : value
  }),
)
