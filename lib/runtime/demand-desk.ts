import type { LiveConfig } from '../config/live.ts'
import type { Log } from '../core/metrics.ts'
import type { LiveRun } from './live-run.ts'
import type { WorkerToControl } from './messages.ts'
import type { Rollout } from './rollout.ts'
import type { WorkerLink } from './worker-link.ts'

export interface DemandDeskOptions {
  readonly log: () => Log | undefined
  /** Undefined: nobody keeps the configuration up to date. */
  readonly run: () => LiveRun | undefined
  /** Undefined: there is no configuration yet. */
  readonly rollout: () => Rollout | undefined
}

/** Answers what workers ask for on demand, in the control process. */
export class DemandDesk {
  readonly #options: DemandDeskOptions

  constructor(options: DemandDeskOptions) {
    this.#options = options
  }

  /** The worker learns of it after the change that brings what it asked for. */
  async ask(link: WorkerLink, { id, wish, timeoutMs }: WorkerToControl & { kind: 'demand' }): Promise<void> {
    const rollout = this.#options.rollout()
    // It asks again when this process has greeted it.
    if (rollout === undefined) return
    const found = await this.#find(wish, timeoutMs)
    const answer = (): void => link.send({ kind: 'demanded', id, found })
    if (found) rollout.whenSent(link.worker, answer)
    else answer()
  }

  async #find(...wish: Parameters<LiveConfig['demand']>): Promise<boolean> {
    try {
      return (await this.#options.run()?.demand(...wish)) ?? false
    } catch (error) {
      this.#options.log()?.error('what a request needs could not be asked for', { error: String(error) })
      return false
    }
  }
}
