import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'

/** What the Go program tells; see `go-control-plane/main.go`. */
export interface PlaneEvent {
  readonly event: 'listening' | 'stopped' | 'set' | 'wrong' | 'open' | 'closed' | 'request' | 'response'
  readonly port?: number
  readonly stream?: number
  readonly delta?: boolean
  readonly type?: string
  readonly node?: string
  readonly version?: string
  readonly nonce?: string
  readonly error?: string
  readonly names?: readonly string[]
  readonly removed?: readonly string[]
  /** How many `initial_resource_versions` a delta request has. */
  readonly initial?: number
}

export interface SnapshotOptions {
  readonly version: string
  /** By type without `type.googleapis.com/`: types whose resources are as they were keep their version. */
  readonly versions?: Readonly<Record<string, string>>
}

const PATIENCE_MS = 15_000

/** A management server on go-control-plane, until the test ends. */
export class GoControlPlane {
  readonly port: number
  /** All of them, in order. */
  readonly events: PlaneEvent[]
  readonly #say: (line: object) => void
  readonly #waiters: Set<() => void>

  private constructor(port: number, events: PlaneEvent[], waiters: Set<() => void>, say: (line: object) => void) {
    this.port = port
    this.events = events
    this.#waiters = waiters
    this.#say = say
  }

  static async start(t: Test, program: string, args: readonly string[] = []): Promise<GoControlPlane> {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    const ended = once(child, 'close')
    t.teardown(async () => {
      child.kill('SIGKILL')
      await ended
    })
    const events: PlaneEvent[] = []
    const waiters = new Set<() => void>()
    const lines = createInterface({ input: child.stdout })
    lines.on('line', (line) => {
      events.push(JSON.parse(line) as PlaneEvent)
      for (const look of waiters) look()
    })
    await once(lines, 'line')
    const plane = new GoControlPlane(events[0].port ?? 0, events, waiters, (line) =>
      child.stdin.write(`${JSON.stringify(line)}\n`),
    )
    return plane
  }

  /** Serves these resources (proto-JSON with `@type`) to a node; resolves when the cache has them. */
  async snapshot(node: string, resources: readonly object[], options: SnapshotOptions): Promise<void> {
    const from = this.events.length
    this.#say({ op: 'snapshot', node, resources, ...options })
    const answer = await this.event(
      'an answer to a snapshot',
      ({ event }) => event === 'set' || event === 'wrong',
      from,
    )
    if (answer.event === 'wrong') throw new Error(answer.error)
  }

  async stop(): Promise<void> {
    const from = this.events.length
    this.#say({ op: 'stop' })
    await this.event('the server to stop', ({ event }) => event === 'stopped', from)
  }

  /** On the same port. */
  async restart(): Promise<void> {
    const from = this.events.length
    this.#say({ op: 'start' })
    await this.event('the server to start', ({ event }) => event === 'listening', from)
  }

  /** The first event from the `from`th on that is wanted, there already or to come. */
  async event(what: string, wanted: (event: PlaneEvent) => boolean, from = 0): Promise<PlaneEvent> {
    const { promise, resolve, reject } = Promise.withResolvers<PlaneEvent>()
    const look = (): void => {
      const found = this.events.slice(from).find(wanted)
      if (found !== undefined) resolve(found)
    }
    const timer = setTimeout(() => {
      const last = this.events.slice(-20).map((event) => JSON.stringify(event))
      reject(new Error(`waited in vain for ${what}; the last events:\n${last.join('\n')}`))
    }, PATIENCE_MS)
    this.#waiters.add(look)
    look()
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#waiters.delete(look)
    }
  }

  /** A request of that type that takes the response with that nonce or version over, or refuses it. */
  verdict(type: string, version: string, from = 0): Promise<PlaneEvent> {
    const sent = (): PlaneEvent | undefined =>
      this.events.slice(from).find((e) => e.event === 'response' && e.type === type && e.version === version)
    return this.event(
      `a verdict on ${type} version ${version}`,
      (e) => e.event === 'request' && e.type === type && e.nonce !== undefined && e.nonce === sent()?.nonce,
      from,
    )
  }
}
