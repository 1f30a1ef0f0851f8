import { once } from 'node:events'
import { join } from 'node:path'
import { Child } from './child.ts'
import type { Machine } from './machine.ts'
import type { PlaneAnswer, PlaneWish } from './xds-plane-process.ts'

/** The management server in a process of its own on the load cores; whoever started it calls `stop`. */
export class XdsPlane {
  readonly #child: Child

  private constructor(child: Child) {
    this.#child = child
  }

  static start(machine: Machine, folder: string): XdsPlane {
    const script = join(import.meta.dirname, 'xds-plane-process.ts')
    const stderrFile = join(folder, 'plane.err')
    return new XdsPlane(
      new Child({ command: [process.execPath, script], cores: machine.loadCores, stderrFile, ipc: true }, machine),
    )
  }

  /** One at a time. */
  async ask(wish: PlaneWish): Promise<PlaneAnswer> {
    const answer = Promise.race([once(this.#child.process, 'message'), this.#child.exited])
    this.#child.process.send(wish)
    const message = await answer
    if (message === undefined) throw new Error(`the management server has ended: ${this.#child.failure}`)
    return message[0] as PlaneAnswer
  }

  stop(): Promise<void> {
    return this.#child.stop()
  }
}
