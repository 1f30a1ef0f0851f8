import type { Address } from '../core/address.ts'
import type { Channel } from './channel.ts'
import type { Binder } from './engine.ts'
import type { SupervisorToWorker, WorkerToSupervisor } from './messages.ts'
import { BindError } from './socket-handle.ts'

interface Waiting {
  readonly backlog: number
  readonly resolve: (target: unknown) => void
  readonly reject: (error: BindError) => void
}

/** A worker's binder: asks the supervisor for each socket. Rejects with `BindError`. */
export class RemoteBinder implements Binder {
  readonly #channel: Channel<WorkerToSupervisor>
  readonly #waiting = new Map<number, Waiting>()
  #lastId = 0
  #closed = false

  constructor(channel: Channel<WorkerToSupervisor>) {
    this.#channel = channel
  }

  /** The first argument of `server.listen`: a handle, or options where the worker has to bind for itself. */
  bind(address: Address, backlog: number): Promise<unknown> {
    return this.#ask(address, undefined, backlog)
  }

  again(address: Address, bound: Address, backlog: number): Promise<unknown> {
    return this.#ask(address, bound, backlog)
  }

  #ask(address: Address, held: Address | undefined, backlog: number): Promise<unknown> {
    if (this.#closed) return Promise.reject(gone())
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { backlog, resolve, reject })
      void this.#channel.send({ kind: 'bind', id, address, ...(held && { held }) })
    })
  }

  release(address: Address): void {
    void this.#channel.send({ kind: 'release', address })
  }

  /** The supervisor is gone: nobody answers any more. */
  close(): void {
    this.#closed = true
    for (const { reject } of this.#waiting.values()) reject(gone())
    this.#waiting.clear()
  }

  /** The supervisor's answer; `handle` is what came with the message. */
  answered(message: SupervisorToWorker & { kind: 'bound' | 'bind-failed' }, handle: unknown): void {
    const waiting = this.#waiting.get(message.id)
    if (waiting === undefined) return
    this.#waiting.delete(message.id)
    if (message.kind === 'bind-failed') waiting.reject(new BindError(message.code, message.message))
    else if (message.listen !== undefined) waiting.resolve({ ...message.listen, backlog: waiting.backlog })
    else if (handle !== undefined && handle !== null) waiting.resolve(handle)
    else waiting.reject(new BindError('EBADF', 'the socket was lost on its way to the worker (EBADF)'))
  }
}

function gone(): BindError {
  return new BindError('EPIPE', 'whoever has the sockets is gone (EPIPE)')
}
