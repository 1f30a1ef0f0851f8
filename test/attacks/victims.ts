import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Test } from 'tap'

/** What the victims saw in some time. */
export class VictimReport {
  readonly errors: readonly string[]
  /** Of each request, from shortest to longest, ms. */
  readonly #times: readonly number[]

  constructor(times: readonly number[], errors: readonly string[]) {
    this.#times = times.toSorted((a, b) => a - b)
    this.errors = errors
  }

  get requests(): number {
    return this.#times.length
  }

  get p50(): number {
    return this.#at(0.5)
  }

  get p99(): number {
    return this.#at(0.99)
  }

  get max(): number {
    return this.#at(1)
  }

  /** This and the other time together. */
  and(other: VictimReport): VictimReport {
    return new VictimReport([...this.#times, ...other.#times], [...this.errors, ...other.errors])
  }

  #at(share: number): number {
    return this.#times[Math.min(this.#times.length - 1, Math.floor(this.#times.length * share))] ?? 0
  }
}

/** The clients of `victims-process.ts` and their origin. */
export class Victims {
  /** Of their origin. */
  readonly originPort: number
  readonly #child: ChildProcess

  private constructor(child: ChildProcess, originPort: number) {
    this.#child = child
    this.originPort = originPort
  }

  /** Ends with the test. */
  static async start(t: Test): Promise<Victims> {
    const child = fork(join(import.meta.dirname, 'victims-process.ts'), { execArgv: [] })
    t.teardown(async () => {
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    })
    const [{ port }] = (await once(child, 'message')) as [{ port: number }]
    return new Victims(child, port)
  }

  /** From now on they ask the gateway at `port`, without end. */
  run(port: number): void {
    this.#child.send({ start: port })
  }

  /** What they saw since the last call. */
  async take(): Promise<VictimReport> {
    const answer = once(this.#child, 'message')
    this.#child.send({ take: true })
    const [{ times, errors }] = (await answer) as [{ times: number[]; errors: string[] }]
    return new VictimReport(times, errors)
  }
}
