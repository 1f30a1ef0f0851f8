import type { Rejection } from '../source.ts'
import type { TypeInterest } from './interest.ts'
import type { DeltaRequest, DiscoveryResponse, ErrorDetail } from './messages.ts'
import { takeDelta } from './take-response.ts'
import { type TypeProtocol, verdictOf } from './type-protocol.ts'

const STAR = '*'

interface Verdict {
  readonly nonce: string
  readonly error: ErrorDetail | undefined
}

/**
 * The incremental variant, for one type. What is to be said is always the difference between what is wanted now and what
 * this stream has been told; wishes that cancel each other out are never sent, save where somebody gave a resource up and
 * wants it back: the server has to hear of both to send it again.
 *
 * Verdicts travel in messages of their own, because servers drop a message with a nonce that is no longer the latest, and
 * subscriptions in it would be lost.
 */
export class DeltaState implements TypeProtocol {
  readonly interest: TypeInterest
  /** What the server takes us to be subscribed to; undefined: nothing has been said on this stream. */
  #sent: Set<string> | undefined = undefined
  #sentRevision = -1
  readonly #verdicts: Verdict[] = []

  constructor(interest: TypeInterest) {
    this.interest = interest
  }

  begin(): void {
    this.#sent = undefined
    this.#sentRevision = -1
    this.#verdicts.length = 0
  }

  receive(response: DiscoveryResponse): readonly Rejection[] {
    const rejections = takeDelta(this.interest, response, this.#sent ?? NO_NAMES)
    this.#verdicts.push({ nonce: response.nonce, error: verdictOf(rejections) })
    return rejections
  }

  get due(): boolean {
    const { interest } = this
    if (interest.paused) return false
    if (this.#verdicts.length > 0) return true
    return this.#sent === undefined ? !interest.empty : this.#sentRevision !== interest.revision
  }

  next(node: boolean): DeltaRequest | undefined {
    if (!this.due) return undefined
    const { interest } = this
    const verdict = this.#verdicts.shift()
    if (verdict !== undefined) {
      const { nonce, error } = verdict
      return { node, typeName: interest.typeName, nonce, ...NOTHING, error }
    }
    const sent = this.#sent
    return sent === undefined ? this.#first(node) : this.#change(node, sent)
  }

  /** All of it, and what is there already: the server sends what differs, and says what is no more. */
  #first(node: boolean): DeltaRequest {
    const { interest } = this
    const { typeName, names, held, again } = interest
    this.#sent = new Set(names)
    const initialVersions = new Map<string, string>()
    for (const [name, version] of held) {
      if (version !== undefined && !again.has(name) && !again.has(STAR)) initialVersions.set(name, version)
    }
    this.#settle()
    // Neither subscribing nor unsubscribing means everything, which servers understood before there was a name for it.
    const subscribe = names.size === 1 && interest.wildcard ? NONE : [...names]
    return { node, typeName, nonce: '', subscribe, unsubscribe: NONE, initialVersions, error: undefined }
  }

  /**
   * The next step from what has been said to what is wanted: what is to come again is unsubscribed, then comes what is new,
   * then goes what is wanted no more. In one message some servers take the one list first and some the other, and with a
   * wildcard, or a name in both, that is not the same. A name that is given up beneath a wildcard is sent again or said to be
   * no more, by the protocol; one that we have forgotten goes before the wildcard comes, which is safe with all servers.
   */
  #change(node: boolean, sent: Set<string>): DeltaRequest | undefined {
    const { names, again, held } = this.interest
    const twice = [...again].filter((name) => sent.has(name))
    if (names.has(STAR) && !sent.has(STAR)) {
      for (const name of sent) if (!names.has(name) && !held.has(name)) twice.push(name)
    }
    if (twice.length > 0) return this.#say(node, sent, { subscribe: NONE, unsubscribe: twice })
    const subscribe: string[] = []
    const unsubscribe: string[] = []
    for (const name of names) if (!sent.has(name)) subscribe.push(name)
    for (const name of sent) if (!names.has(name)) unsubscribe.push(name)
    if (subscribe.length > 0 && unsubscribe.length > 0 && (names.has(STAR) || sent.has(STAR))) {
      return this.#say(node, sent, { subscribe, unsubscribe: NONE })
    }
    this.#settle()
    if (subscribe.length === 0 && unsubscribe.length === 0) return undefined
    return this.#say(node, sent, { subscribe, unsubscribe })
  }

  #say(
    node: boolean,
    sent: Set<string>,
    { subscribe, unsubscribe }: Pick<DeltaRequest, 'subscribe' | 'unsubscribe'>,
  ): DeltaRequest {
    const { typeName, again } = this.interest
    for (const name of unsubscribe) sent.delete(name)
    for (const name of subscribe) {
      sent.add(name)
      again.delete(name)
    }
    return { node, typeName, nonce: '', subscribe, unsubscribe, initialVersions: NO_VERSIONS, error: undefined }
  }

  #settle(): void {
    const { interest } = this
    this.#sentRevision = interest.revision
    interest.again.clear()
    interest.dropped.clear()
  }
}

const NONE: readonly string[] = Object.freeze([])
const NO_NAMES: ReadonlySet<string> = Object.freeze(new Set<string>())
const NO_VERSIONS: ReadonlyMap<string, string> = Object.freeze(new Map())
const NOTHING = Object.freeze({ subscribe: NONE, unsubscribe: NONE, initialVersions: NO_VERSIONS })
