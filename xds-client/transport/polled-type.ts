import type { TurnWork } from '../../lib/core/turn.ts'
import { TypeInterest } from '../protocol/interest.ts'
import type { DiscoveryResponse } from '../protocol/messages.ts'
import { describeRejections, reasonsOf } from '../protocol/rejection.ts'
import { takeWhole } from '../protocol/take-response.ts'
import type { SourceParts } from './grpc-source.ts'

export interface PolledParts extends SourceParts {
  /** Of the source; for logs. */
  readonly name: string
  readonly typeName: string
  /** What is wanted has changed, or has to come anew; once per turn, and not while it is paused. */
  refresh(polled: PolledType): void
}

/** Interest in resources of one type that come whole, without a conversation: from files and from REST servers. */
export class PolledType implements TurnWork {
  readonly typeName: string
  readonly interest: TypeInterest
  /** That was accepted last. */
  version = ''
  readonly #parts: PolledParts
  #deferred = false
  #revision = -1

  constructor(parts: PolledParts) {
    const { clock, log, metrics, typeName, turn } = parts
    this.typeName = typeName
    this.#parts = parts
    const changed = (): void => {
      if (this.#deferred) return
      this.#deferred = true
      turn.defer(this)
    }
    this.interest = new TypeInterest(typeName, { clock, log, metrics, changed })
  }

  /** @internal */
  turnEnds(): void {
    this.#deferred = false
    const { interest } = this
    if (interest.paused || this.#revision === interest.revision) return
    this.#revision = interest.revision
    interest.again.clear()
    interest.dropped.clear()
    this.#parts.refresh(this)
  }

  /** Answers what was refused, '' for nothing. */
  take(response: DiscoveryResponse): string {
    const { name, log } = this.#parts
    const rejections = takeWhole(this.interest, response)
    if (rejections.length === 0) {
      this.version = response.version
      return ''
    }
    log.warn('resources were refused', {
      source: name,
      type: this.typeName,
      version: response.version,
      resources: rejections.length,
      reasons: reasonsOf(rejections),
    })
    return describeRejections(rejections)
  }
}
