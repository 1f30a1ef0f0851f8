import { readFileSync } from 'node:fs'
import type { LowerFilters } from '../../lib/chain/factories.ts'
import type { Scope } from '../../lib/chain/filter.ts'
import type { AnyListenerFilterFactory, AnyNetworkFilterFactory } from '../../lib/chain/network.ts'
import { type AnyFilterFactory, FilterRegistry } from '../../lib/chain/registry.ts'
import { createEngine } from '../../lib/cli/engine.ts'
import { envoyContext, loadConfigText } from '../../lib/cli/load-config.ts'
import { lowerFilters, standardFilters } from '../../lib/cli/standard-filters.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import { type Clock, systemClock } from '../../lib/core/clock.ts'
import type { Demand } from '../../lib/core/demand.ts'
import type { TimerWheel } from '../../lib/core/timer-wheel.ts'
import type { Engine } from '../../lib/runtime/engine.ts'
import { localBinder } from '../../lib/runtime/local-binder.ts'
import type { EnvoyLoadContext } from '../../xds-client/envoy/load.ts'
import { WireError } from './byte-stream.ts'
import { settle } from './clock.ts'

/** An Envoy bootstrap: YAML or JSON text, or the object that such text would be read as. */
export type BootstrapSource = string | object

export interface GatewayOptions {
  /** Default: the system's. With a `TestClock`, `close` also insists that no timer of it is left. */
  readonly clock?: Clock
  /** Default: always 0. */
  readonly random?: () => number
  /** Beside the standard filters. */
  readonly filters?: readonly AnyFilterFactory[]
  readonly networkFilters?: readonly AnyNetworkFilterFactory[]
  readonly listenerFilters?: readonly AnyListenerFilterFactory[]
  /** Last touch on what was loaded: settings that the Envoy dialect has no field for. */
  readonly adjust?: (config: GatewayConfig) => GatewayConfig
  readonly demand?: Demand
  /** False: the gateway fails its health checks. */
  readonly serving?: () => boolean
  /** Drains go on over all of their time. */
  readonly gradualDrain?: boolean
  /** An access log of that bootstrap, read by `lines` and `line`. */
  readonly logPath?: string
}

/** Gauges that must be back at 0 when a gateway has closed. */
const ACTIVE =
  /(?:_cx_active|_rq_active|streams_active|pending_send_bytes|_pending_active|membership_total|membership_healthy|_open)$/

const contexts = new WeakMap<readonly AnyFilterFactory[], EnvoyLoadContext>()
const STANDARD = standardFilters()

/** Loading the descriptors costs 100 ms: one context per set of filters and test file. */
function contextOf(filters: readonly AnyFilterFactory[], lower: LowerFilters): EnvoyLoadContext {
  let context = contexts.get(filters)
  if (context === undefined) {
    context = envoyContext(filters, lower)
    contexts.set(filters, context)
  }
  return context
}

/** Knows the wheel of its engine, so that a test can see what is armed. */
class WatchedRegistry extends FilterRegistry {
  wheel: TimerWheel | undefined

  override prepare(...parameters: Parameters<FilterRegistry['prepare']>): ReturnType<FilterRegistry['prepare']> {
    const prepared = super.prepare(...parameters)
    if (prepared === undefined) return undefined
    const make = (scope: Scope): ReturnType<typeof prepared.make> => {
      this.wheel = scope.wheel
      return prepared.make(scope)
    }
    return { key: prepared.key, make }
  }
}

/** A whole gateway in this process, from an Envoy bootstrap: engine, listeners on real sockets, pools, access log. */
export class TestGateway {
  readonly engine: Engine
  /** Warnings and errors of the application log. */
  readonly complaints: string[] = []
  readonly #options: GatewayOptions
  readonly #filters: readonly AnyFilterFactory[]
  readonly #registry: WatchedRegistry
  readonly #lower: LowerFilters
  #closed = false

  private constructor(options: GatewayOptions) {
    this.#options = options
    this.#filters = options.filters === undefined ? STANDARD : [...STANDARD, ...options.filters]
    this.#registry = new WatchedRegistry(this.#filters)
    this.#lower = lowerFilters(options.networkFilters, options.listenerFilters)
    const complain = (message: string, fields?: Record<string, unknown>): void =>
      void this.complaints.push(fields === undefined ? message : `${message} ${JSON.stringify(fields)}`)
    this.engine = createEngine({
      registry: this.#registry,
      filters: this.#lower,
      binder: localBinder,
      clock: options.clock ?? systemClock,
      log: { debug() {}, info() {}, warn: complain, error: complain, setLevel() {} },
      random: options.random ?? (() => 0),
      serving: options.serving,
      gradualDrain: options.gradualDrain,
      demand: options.demand,
    })
  }

  static async start(source: BootstrapSource, options: GatewayOptions = {}): Promise<TestGateway> {
    const gateway = new TestGateway(options)
    try {
      await gateway.apply(source)
    } catch (error) {
      await gateway.engine.close()
      throw error
    }
    return gateway
  }

  /** The next configuration. @throws ConfigRefused */
  async apply(source: BootstrapSource): Promise<void> {
    const text = typeof source === 'string' ? source : JSON.stringify(source)
    const { config } = loadConfigText(text, 'test.yaml', contextOf(this.#filters, this.#lower))
    await this.engine.apply(this.#options.adjust?.(config) ?? config)
  }

  /** Where a listener is bound; default: the first one. */
  port(name?: string): number {
    const { listeners } = this.engine.status()
    const listener = name === undefined ? listeners[0] : listeners.find((l) => l.name === name)
    const address = listener?.addresses[0]
    if (address?.kind !== 'ip') throw new Error(`no listener ${name ?? ''} on an IP address`)
    return address.port
  }

  /** The value of a counter or gauge by its full name; a misspelled name throws. */
  stat(name: string): number {
    const { counters, gauges } = this.engine.metrics()
    const found = counters.find(([n]) => n === name) ?? gauges.find(([n]) => n === name)
    if (found === undefined) throw new Error(`no statistic ${name}`)
    return found[1]
  }

  /** Timers that are armed now. */
  get armed(): number {
    return this.#registry.wheel?.armed ?? 0
  }

  /** Turns the loop until `done` answers true. */
  async until(done: () => boolean, what: string, deadlineMs = 5_000): Promise<void> {
    const endMs = performance.now() + deadlineMs
    while (!done()) {
      if (performance.now() > endMs) throw new WireError('deadline', `gateway: no ${what} within ${deadlineMs} ms`)
      await settle()
    }
  }

  /** Lines of the access log; complete only when the gateway has closed. */
  lines(): string[] {
    if (this.#options.logPath === undefined) throw new Error('the gateway was started without logPath')
    return readFileSync(this.#options.logPath, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
  }

  /** Closes, and insists that nothing is left: active gauges, armed timers, timers of a test clock. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.engine.close()
    await settle()
    const left = this.engine.metrics().gauges.filter(([name, value]) => ACTIVE.test(name) && value !== 0)
    if (left.length > 0) throw new Error(`gauges after close: ${left.map((pair) => pair.join(' ')).join(', ')}`)
    if (this.armed !== 0) throw new Error(`${this.armed} timers are armed after close`)
    const { clock } = this.#options
    const pending = clock !== undefined && 'pending' in clock ? (clock.pending as number) : 0
    if (pending !== 0) throw new Error(`${pending} timers of the test clock are left after close`)
  }
}
