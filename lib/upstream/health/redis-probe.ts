import type { ByteQuestion } from './byte-probe.ts'
import type { RedisProbeConfig } from './config.ts'
import { type CheckResult, PASSED, UNREACHABLE, WRONG } from './probe.ts'

/** Of one line; what is asked for has short ones. */
const MOST_BYTES = 4 * 1024

/**
 * Asks a Redis server (Envoy's `envoy.health_checkers.redis`): PING wants PONG, and with a key EXISTS wants 0, so that who
 * sets the key takes the server out. A server that names another one for the key is well.
 */
export class RedisQuestion implements ByteQuestion {
  readonly bytes: Buffer
  readonly connected = false
  readonly #wanted: string
  #line = ''

  constructor({ key }: RedisProbeConfig) {
    this.bytes = commandOf(key === '' ? ['PING'] : ['EXISTS', key])
    this.#wanted = key === '' ? '+PONG' : ':0'
  }

  greeting(): undefined {
    return undefined
  }

  reset(): void {
    this.#line = ''
  }

  take(chunk: Buffer): CheckResult | undefined {
    this.#line += chunk.toString('latin1')
    const end = this.#line.indexOf('\r\n')
    if (end < 0) return this.#line.length > MOST_BYTES ? UNREACHABLE : undefined
    const line = this.#line.slice(0, end)
    // More than a line is no answer to this, and what follows would be taken for the answer to the next question.
    if (end + 2 < this.#line.length || !SIMPLE.test(line)) return UNREACHABLE
    return line === this.#wanted || ELSEWHERE.test(line) ? PASSED : WRONG
  }
}

/** A string, an error or a number, in one line (RESP). */
const SIMPLE = /^[+:-]/
const ELSEWHERE = /^-(?:MOVED|ASK) /

function commandOf(words: readonly string[]): Buffer {
  const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`)
  return Buffer.from(`*${words.length}\r\n${parts.join('')}`)
}
