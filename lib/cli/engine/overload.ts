import { availableParallelism } from 'node:os'
import { ACTIONS, type ActionName, type MonitorKind, type OverloadConfig } from '../../config/overload.ts'
import type { Cancel, Clock } from '../../core/clock.ts'
import type { Log, Metrics, Runtime } from '../../core/metrics.ts'
import { OverloadLevers } from '../../core/overload.ts'
import type { TimerWheel } from '../../core/timer-wheel.ts'
import { type HeavyStream, resetHeavy } from '../../runtime/overload/heavy-streams.ts'
import { type Machine, machineOf } from '../../runtime/overload/machine.ts'
import { type OverloadActor, OverloadRun, type Pressures } from '../../runtime/overload/run.ts'
import { HeapShrinker } from '../../runtime/overload/shrink-heap.ts'
import { allocatorTrim } from '../../runtime/overload/trim.ts'
import type { ListenerTable } from './listener-table.ts'

export interface EngineOverloadParts {
  readonly clock: Clock
  readonly metrics: Metrics
  readonly log: Log
  readonly random: () => number
  readonly runtime: Runtime
  readonly wheel: TimerWheel
  readonly machine: Machine
  readonly listeners: () => ListenerTable
  /** Downstream, of this process. */
  readonly connections: () => number
  /** Control measures what holds for the whole gateway. */
  readonly remote: boolean
  /** Collects all garbage; undefined: nobody can be asked to. */
  readonly collect: (() => void) | undefined
}

/** After which a socket that could not be had is asked for again where nothing is watched any more. */
const RETRY_MS = 1_000

/** For so long nothing has come from a client that is no longer waited for, while there is still some room. */
const IDLE_MS = 60_000

const MEMORY: ReadonlySet<MonitorKind> = new Set(['process-memory', 'cgroup-memory'])

/** V8's, under `--expose-gc`. */
declare const gc: ((options: { type: 'major' }) => void) | undefined

/** The overload manager of an engine in this process; it rests until it is configured. */
export function createEngineOverload(parts: Omit<EngineOverloadParts, 'machine' | 'collect'>): EngineOverload {
  const collect = typeof gc === 'function' ? gc : undefined
  return new EngineOverload({
    ...parts,
    machine: machineOf(process, availableParallelism()),
    collect: collect && (() => collect({ type: 'major' })),
  })
}

/** The overload manager of an engine: what it moves, and the actions that need more than a look at a lever. */
export class EngineOverload implements OverloadActor, Disposable {
  readonly levers: OverloadLevers
  readonly #parts: EngineOverloadParts
  readonly #run: OverloadRun
  #config: OverloadConfig | undefined = undefined
  #shrinker: HeapShrinker | undefined = undefined
  /** Connections wait at the sockets, or are on their way back from there. */
  #holding = false
  #releasing = false
  /** How often listeners were told to stop. */
  #stops = 0
  #cancelRetry: Cancel = () => {}
  #closed = false

  constructor(parts: EngineOverloadParts) {
    const { clock, metrics, log, random, runtime, machine, remote, connections } = parts
    this.#parts = parts
    this.levers = new OverloadLevers(random)
    this.#run = new OverloadRun({
      clock,
      metrics,
      log,
      machine,
      runtime,
      remote,
      connections,
      levers: this.levers,
      actor: this,
    })
  }

  configure(config: OverloadConfig | undefined): void {
    this.#config = config
    this.#run.configure(config)
    if (config === undefined) this.looked()
  }

  pressures(list: Pressures): void {
    this.#run.pressures(list)
  }

  /** Nothing is held or let go from now on: the listeners close. */
  [Symbol.dispose](): void {
    this.#closed = true
    this.#cancelRetry()
    this.#run[Symbol.dispose]()
  }

  moved(action: ActionName): void {
    if (action === 'envoy.overload_actions.reduce_timeouts') this.#parts.wheel.reconsider()
    else if (action === 'envoy.overload_actions.stop_accepting_connections') this.#hold()
    else if (action === 'envoy.overload_actions.close_idle_http_connections') this.#closeIdle()
  }

  looked(): void {
    this.#hold()
    const config = this.#config
    if (config === undefined) return
    if (this.levers.closeIdleConnections.scale > 0) this.#closeIdle()
    if (this.levers.resetStreams.scale > 0) this.#resetHeavy(config.smallestStreamBytes)
    if (this.levers.shrinkHeap.scale === 1 || this.#shortOfMemory(config)) this.#shrink(config)
  }

  /** Saturated or not at all, as in Envoy. Looked at again and again: listeners come and go, and sockets may fail to come back. */
  #hold(): void {
    if (this.#closed) return
    if (!this.#wanted) {
      if (this.#holding && !this.#releasing) void this.#release()
      return
    }
    this.#holding = true
    this.#stops++
    let bypassing = false
    for (const listener of this.#parts.listeners().live()) {
      if (listener.shedsLoad) listener.stopAccepting()
      else bypassing ||= listener.held
    }
    if (bypassing && !this.#releasing) void this.#release()
  }

  get #wanted(): boolean {
    return this.levers.stopAcceptingConnections.scale === 1
  }

  async #release(): Promise<void> {
    this.#releasing = true
    const stops = this.#stops
    let failed = false
    for (const listener of this.#parts.listeners().live()) {
      // Those that bypass the overload manager, since a moment ago, do not wait for its end.
      if (this.#wanted && listener.shedsLoad) continue
      try {
        await listener.acceptAgain()
      } catch (error) {
        failed = true
        const fields = { listener: listener.name, error: String(error) }
        this.#parts.log.error('a listener cannot accept again yet', fields)
      }
    }
    this.#releasing = false
    // Stopped again meanwhile, and perhaps not wanted so any more.
    if (stops !== this.#stops) this.#hold()
    else if (this.#wanted) return
    else if (!failed) this.#holding = false
    else if (this.#config === undefined && !this.#closed) {
      this.#cancelRetry = this.#parts.clock.schedule(RETRY_MS, () => this.#hold())
    }
  }

  /**
   * Something is done against too much memory: what the allocator only keeps must not count as used, or the pressure would
   * never fall. Envoy's allocator tells the two apart.
   */
  #shortOfMemory({ monitors, actions }: OverloadConfig): boolean {
    const memory = new Set(monitors.filter(({ kind }) => MEMORY.has(kind)).map(({ name }) => name))
    return actions.some(({ name, triggers }) => {
      return this.levers[ACTIONS[name]].scale > 0 && triggers.some(({ monitor }) => memory.has(monitor))
    })
  }

  /** As Envoy: those that have been idle for a while, and all of them where it is saturated. */
  #closeIdle(): void {
    const { scale } = this.levers.closeIdleConnections
    if (scale === 0) return
    const sinceMs = this.#parts.wheel.clock.now() - (scale === 1 ? 0 : IDLE_MS)
    for (const listener of this.#parts.listeners().all()) listener.shedIdle(sinceMs)
  }

  #resetHeavy(smallestBytes: number): void {
    const streams: HeavyStream[] = []
    for (const listener of this.#parts.listeners().all()) listener.streams((stream) => streams.push(stream))
    const count = resetHeavy(streams, this.levers.resetStreams.scale, smallestBytes)
    if (count > 0) this.#parts.metrics.counter('envoy.overload_actions.reset_high_memory_stream.count').v += count
  }

  #shrink({ shrink }: OverloadConfig): void {
    const { clock, collect, metrics } = this.#parts
    this.#shrinker ??= new HeapShrinker({
      clock,
      collect,
      memory: () => process.memoryUsage(),
      trim: () => allocatorTrim(process),
      count: metrics.counter('overload.envoy.overload_actions.shrink_heap.shrink_count'),
    })
    this.#shrinker.shrink(shrink)
  }
}
