import { createHash } from 'node:crypto'
import type { GatewayConfig } from '../config/model.ts'
import { partsOf } from './channel.ts'
import type { FeedMessage } from './feed.ts'
import type { ControlToWorker, Part } from './messages.ts'

/** Makes the parts of messages, once for all workers that get the same one after the other. */
export class FeedEncoder {
  #value: unknown = undefined
  #parts: readonly Part<'config' | 'change'>[] = []

  partsOf(message: FeedMessage): ControlToWorker[] {
    const { kind, id, revision } = message
    const value = message.kind === 'config' ? message.config : message.change
    if (this.#value !== value) {
      this.#parts = partsOf(kind, id, value)
      this.#value = value
    }
    return this.#parts.map((part) => ({ ...part, id, revision }))
  }
}

/** Tells two configurations apart by their content. */
export function digestOf(config: GatewayConfig): string {
  const hash = createHash('sha256')
  for (const part of partsOf('config', 0, config)) hash.update(part.text)
  return hash.digest('hex')
}
