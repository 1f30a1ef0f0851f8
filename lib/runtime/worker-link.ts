import type { Json } from '../core/errors.ts'
import type { Channel } from './channel.ts'
import { PartReader } from './channel.ts'
import type { ControlToSupervisor, ControlToWorker, Part } from './messages.ts'

/** Control's view of one running worker process: what was asked of it, what of its payloads has arrived. */
export class WorkerLink {
  readonly worker: number
  /** The configuration has been sent to it, or it runs that one already. */
  offered = false
  /** As its last `hello` said. */
  revision = ''
  /** 0: it has not said so yet. */
  pid = 0
  readonly #channel: Channel<ControlToSupervisor>
  readonly #readers = new Map<string, PartReader>()
  readonly #waiting = new Map<number, (value: Json | undefined) => void>()
  #sending: Promise<void> = Promise.resolve()
  #gone = false

  constructor(worker: number, channel: Channel<ControlToSupervisor>) {
    this.worker = worker
    this.#channel = channel
  }

  /** In order with what was sent before. */
  send(body: ControlToWorker): void {
    this.sendAll([body])
  }

  /** One message at a time: the next goes when the one before has left this process. */
  sendAll(bodies: readonly ControlToWorker[]): void {
    this.#sending = this.#sending.then(async () => {
      for (const body of bodies) {
        if (this.#gone) return
        await this.#channel.send({ kind: 'to-worker', worker: this.worker, body })
      }
    })
  }

  /** Sends a request and waits for the payload with its number; undefined where the worker ends before it answers. */
  request(body: ControlToWorker & { readonly id: number }): Promise<Json | undefined> {
    if (this.#gone) return Promise.resolve(undefined)
    return new Promise((resolve) => {
      this.#waiting.set(body.id, resolve)
      this.send(body)
    })
  }

  /** Nobody waits for that answer any longer. */
  forget(id: number): void {
    this.#waiting.get(id)?.(undefined)
    this.#waiting.delete(id)
  }

  /** A piece of a payload; the whole with the last one. `settle` afterwards answers whoever asked for it. */
  part(part: Part<string>): { readonly value: Json } | undefined {
    let reader = this.#readers.get(part.payload)
    if (reader === undefined) this.#readers.set(part.payload, (reader = new PartReader()))
    return reader.add(part)
  }

  settle(id: number, value: Json): void {
    this.#waiting.get(id)?.(value)
    this.#waiting.delete(id)
  }

  /** The process has ended: whoever waits for it is answered, and nothing is sent any more. */
  end(): void {
    this.#gone = true
    for (const resolve of this.#waiting.values()) resolve(undefined)
    this.#waiting.clear()
  }
}
