import type { Rejection } from '../source.ts'
import type { TypeInterest } from './interest.ts'
import type { DiscoveryResponse, ErrorDetail, WholeRequest } from './messages.ts'
import { takeWhole } from './take-response.ts'
import { type TypeProtocol, verdictOf } from './type-protocol.ts'

interface Verdict {
  readonly nonce: string
  /** That was accepted last, this response included. */
  readonly version: string
  readonly error: ErrorDetail | undefined
}

/**
 * State of the world, for one type.
 *
 * ```
 * begin ──► first request (all names, version accepted last, no nonce)
 *             │
 *             ▼        names change: a request with the latest nonce
 *          quiet ◄─────────────────────────────────────────────────┐
 *             │ response                                           │
 *             ▼                                                    │
 *          taken over at once ──► ACK (its version) or NACK (the version before), all names as they are then
 * ```
 *
 * Every response gets one verdict. Names are read when a request is made and never when the wish was uttered: a server drops
 * requests whose nonce is no longer the latest, and with them their names; the verdict on what overtook them has them again.
 */
export class WholeState implements TypeProtocol {
  readonly interest: TypeInterest
  #version = ''
  #nonce = ''
  /** What the last request on this stream asked for; undefined: there was none. */
  #sent: readonly string[] | undefined = undefined
  #sentRevision = -1
  /** Names were sent on this stream: an empty list no longer means everything. */
  #explicit = false
  /** What the server had been asked for when it last learned of a version. */
  #covered: readonly string[] = NONE
  readonly #verdicts: Verdict[] = []

  constructor(interest: TypeInterest) {
    this.interest = interest
  }

  begin(): void {
    this.#nonce = ''
    this.#sent = undefined
    this.#sentRevision = -1
    this.#explicit = false
    this.#verdicts.length = 0
  }

  receive(response: DiscoveryResponse): readonly Rejection[] {
    this.#nonce = response.nonce
    this.interest.lapsed = false
    const rejections = takeWhole(this.interest, response)
    const error = verdictOf(rejections)
    if (error === undefined) this.#version = response.version
    this.#verdicts.push({ nonce: response.nonce, version: this.#version, error })
    return rejections
  }

  get due(): boolean {
    const { interest } = this
    if (interest.paused) return false
    if (this.#verdicts.length > 0) return true
    return this.#sent === undefined ? !interest.empty : this.#sentRevision !== interest.revision
  }

  next(node: boolean): WholeRequest | undefined {
    if (!this.due) return undefined
    const { interest } = this
    const verdict = this.#verdicts.shift()
    if (verdict !== undefined) return this.#verdict(verdict, node)
    if (this.#sent === undefined) return this.#first(node)
    const names = this.#names()
    const again = interest.again.size > 0
    if (!again && sameNames(names, this.#sent)) {
      this.#sentRevision = interest.revision
      interest.dropped.clear()
      return undefined
    }
    // An empty list after nothing but empty lists would ask for everything once more.
    if (names.length === 0 && !this.#explicit) {
      this.#sentRevision = interest.revision
      return undefined
    }
    return this.#request(node, names, { nonce: this.#nonce, version: again ? '' : this.#version, error: undefined })
  }

  #first(node: boolean): WholeRequest {
    const names = this.#names()
    // A server that finds its version unchanged may say nothing at all, of names that it has never been asked for too.
    const covered = new Set(this.#covered)
    const { again, lapsed } = this.interest
    const known = again.size === 0 && !lapsed && names.every((name) => covered.has(name))
    return this.#request(node, names, { nonce: '', version: known ? this.#version : '', error: undefined })
  }

  #verdict(verdict: Verdict, node: boolean): WholeRequest {
    const names = this.#names()
    if (verdict.error === undefined) this.#covered = names
    // Who waits for something again gets a request of its own, which an ACK could not be.
    const again = [...this.interest.again]
    const request = this.#request(node, names, verdict)
    if (again.length === 0) return request
    for (const name of again) this.interest.again.add(name)
    this.#sentRevision = -1
    return request
  }

  #request(node: boolean, names: readonly string[], { nonce, version, error }: Verdict): WholeRequest {
    const { interest } = this
    this.#sent = names
    this.#sentRevision = interest.revision
    if (names.length > 0) this.#explicit = true
    interest.again.clear()
    interest.dropped.clear()
    return { node, typeName: interest.typeName, version, nonce, names, error }
  }

  /** `*` is left unsaid where nothing else has been said either, as servers without it expect. */
  #names(): readonly string[] {
    const { names, wildcard } = this.interest
    if (this.#sent !== undefined && this.#sentRevision === this.interest.revision) return this.#sent
    return wildcard && names.size === 1 && !this.#explicit ? NONE : [...names]
  }
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false
  const set = new Set(a)
  return b.every((name) => set.has(name))
}

const NONE: readonly string[] = Object.freeze([])
