import { ChangeSum, type ConfigChange } from '../config/change.ts'
import type { GatewayConfig } from '../config/model.ts'
import { addResources, type ResourceStep, type Step } from './step.ts'

/** So many changes may be under way to a worker; what comes meanwhile becomes one. */
export const MAX_UNDER_WAY = 16

/** A whole configuration for a worker. */
export interface WholeMessage {
  readonly kind: 'config'
  readonly id: number
  readonly revision: string
  readonly config: GatewayConfig
}

/** A step from what was sent before. */
export interface ChangeMessage {
  readonly kind: 'change'
  readonly id: number
  readonly revision: string
  readonly change: ConfigChange
}

export type FeedMessage = WholeMessage | ChangeMessage

/** Something that a worker has not answered yet. */
export type Sent =
  /** `before`: what ran everywhere until then, to go back to. */
  | { readonly kind: 'config'; readonly id: number; readonly before: GatewayConfig | undefined }
  | { readonly kind: 'change'; readonly id: number; readonly step: Step; readonly endpoints: boolean }

/** A step that everybody gets. */
export interface Numbered {
  readonly id: number
  readonly revision: string
  readonly step: Step
}

/**
 * What one worker gets of a configuration that changes: whole once, then each step in order. Of a worker that does not keep
 * up, steps that wait become one: memory is bounded by the configuration, not by the number of changes.
 *
 * ```
 * idle ──offer()──▶ fed ◀── push(): sent, or added to what waits
 *                    │ answered(): what waits is sent
 * ```
 * New endpoints pass what waits: a worker has them in force at once, whatever else it is busy with.
 */
export class Feed {
  readonly #send: (message: FeedMessage) => void
  readonly #sent = new Map<number, Sent>()
  #waiting: Waiting | undefined = undefined
  /** Of those under way, how many have nothing but endpoints. */
  #endpoints = 0
  #offered = false
  /** It could not take the last whole: what it says of steps from there means nothing. */
  #unfounded = false

  constructor(send: (message: FeedMessage) => void) {
    this.#send = send
  }

  /** It has been given a configuration, or has that one already. */
  get offered(): boolean {
    return this.#offered
  }

  /** Runs what is current already: steps follow from here. */
  resume(): void {
    this.#offered = true
  }

  /** Begins anew with a whole configuration; answers to what was sent before count no more. */
  offer(message: WholeMessage, before?: GatewayConfig): void {
    this.#offered = true
    this.#unfounded = false
    this.#sent.clear()
    this.#endpoints = 0
    const waiting = this.#waiting
    this.#waiting = undefined
    this.#sent.set(message.id, { kind: 'config', id: message.id, before })
    this.#send(message)
    if (waiting !== undefined) for (const next of waiting.sent) next()
  }

  push(next: Numbered): void {
    if (!this.#offered) return
    const endpoints = endpointsOnly(next.step.change)
    const underWay = endpoints ? this.#endpoints : this.#sent.size - this.#endpoints
    if (underWay >= MAX_UNDER_WAY || (this.#waiting !== undefined && !endpoints)) {
      this.#waiting ??= new Waiting(next.id)
      this.#waiting.add(next)
    } else {
      this.#waiting?.forget(next.step)
      this.#transmit(next, endpoints)
    }
  }

  /** What it was that has been answered; undefined where that is of no interest any more. */
  answered(id: number): Sent | undefined {
    const sent = this.#sent.get(id)
    if (sent === undefined) return undefined
    this.#sent.delete(id)
    if (sent.kind === 'change' && sent.endpoints) this.#endpoints--
    if (this.#waiting !== undefined && this.#sent.size - this.#endpoints < MAX_UNDER_WAY)
      this.#sendWaiting(this.#waiting)
    return sent
  }

  /**
   * As `answered`; none of it runs there. What was sent since begins at what was before. Of one that has refused a whole
   * nothing else is of interest until the next: it is not what steps begin at.
   */
  refused(id: number): Sent | undefined {
    const refused = this.#sent.get(id)
    if (refused?.kind === 'config') this.#unfounded = true
    else if (this.#unfounded) {
      this.answered(id)
      return undefined
    }
    if (refused?.kind === 'change') {
      for (const sent of this.#sent.values()) {
        if (sent.kind !== 'change' || sent.id <= id) continue
        const resources = new Map(sent.step.resources)
        rebase(resources, refused.step)
        this.#sent.set(sent.id, { ...sent, step: { change: sent.step.change, resources } })
      }
      this.#waiting?.rebase(refused.step)
    }
    return this.answered(id)
  }

  /** Calls back when everything up to now has been sent: what is sent next comes after it. */
  whenSent(next: () => void): void {
    if (this.#waiting === undefined) next()
    else this.#waiting.sent.push(next)
  }

  /** Nothing is sent any more: nobody waits for it. */
  close(): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    if (waiting !== undefined) for (const next of waiting.sent) next()
  }

  /** Something up to that number has no answer yet. */
  owes(id: number): boolean {
    if (!this.#offered || this.#unfounded || (this.#waiting !== undefined && this.#waiting.first <= id)) return true
    for (const sent of this.#sent.values()) if (sent.kind === 'config' || sent.id <= id) return true
    return false
  }

  #transmit({ id, revision, step }: Numbered, endpoints: boolean): void {
    this.#sent.set(id, { kind: 'change', id, step, endpoints })
    if (endpoints) this.#endpoints++
    this.#send({ kind: 'change', id, revision, change: step.change })
  }

  #sendWaiting(waiting: Waiting): void {
    this.#waiting = undefined
    this.#transmit(waiting.sum(), false)
    for (const next of waiting.sent) next()
  }
}

/** Steps that become one. */
class Waiting {
  readonly first: number
  readonly sent: (() => void)[] = []
  readonly #change = new ChangeSum()
  readonly #resources = new Map<string, ResourceStep>()
  #id = 0
  #revision = ''

  constructor(first: number) {
    this.first = first
  }

  add({ id, revision, step }: Numbered): void {
    this.#id = id
    this.#revision = revision
    this.#change.add(step.change)
    addResources(this.#resources, step.resources)
  }

  /** These have overtaken it. */
  forget({ resources }: Step): void {
    for (const [key, { resource }] of resources) {
      this.#change.forget(resource)
      this.#resources.delete(key)
    }
  }

  rebase(refused: Step): void {
    rebase(this.#resources, refused)
  }

  sum(): Numbered {
    const step = { change: this.#change.change(), resources: this.#resources }
    return { id: this.#id, revision: this.#revision, step }
  }
}

/** Steps after one that was refused: a resource that it brought was never there. */
function rebase(resources: Map<string, ResourceStep>, refused: Step): void {
  for (const [key, { was, is }] of refused.resources) {
    const step = resources.get(key)
    if (step !== undefined && step.was === is) resources.set(key, { ...step, was })
  }
}

/** Nothing but new endpoints, which are in force as soon as they arrive. */
function endpointsOnly(change: ConfigChange): boolean {
  for (const kind of Object.keys(change)) if (kind !== 'assignments') return false
  return change.assignments !== undefined && change.assignments.remove.length === 0
}
