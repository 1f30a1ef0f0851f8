import type { Load, LoadRequest, LoadResult } from '../load/load.ts'
import { runLoad } from '../load/load.ts'
import type { OriginCounts } from '../load/origin-process.ts'
import type { Row, SuiteResult } from '../report.ts'
import type { Bench, RunningProxy } from './running-proxy.ts'
import type { Traffic, Variant } from './variant.ts'

export interface RunOptions {
  readonly rounds: number
  /** Of load per measurement. */
  readonly seconds: number
  /** Of load before it, so that nothing is measured while V8 still compiles. */
  readonly warmUpSeconds: number
  /** For the record in a few minutes: slow suites do less. */
  readonly quick?: boolean
}

/** What a suite gets to work with. */
export interface SuiteContext {
  readonly bench: Bench
  readonly origin: { counts(): Promise<OriginCounts> }
  readonly options: RunOptions
  /** Chosen, installed or not. */
  readonly candidates: readonly Variant[]
  /** Of the candidates those that are present here and speak what the suite measures. */
  readonly variants: readonly Variant[]
  readonly skipped: SuiteResult['skipped']
  /** One line for whoever watches. */
  progress(line: string): void
}

/** The same context with the variants for other traffic. */
export function speaking(traffic: Traffic, context: SuiteContext): SuiteContext {
  const candidates = context.candidates.filter((one) => one.speaks(traffic))
  const skipped = candidates.flatMap((one) => {
    const reason = one.missing()
    return reason === undefined ? [] : [{ name: one.name, reason }]
  })
  return { ...context, variants: candidates.filter((one) => one.missing() === undefined), skipped }
}

export type Suite = (context: SuiteContext) => Promise<SuiteResult>

/** One line of a table: a variant in one setting. */
export interface Unit {
  readonly name: string
  /** One round in a fresh process. Throws when anything went wrong; then the unit is left out of later rounds. */
  measure(): Promise<Readonly<Record<string, number>>>
}

/** Every unit once per round, in an order that is reversed each round so that drift of the machine hits all alike. */
export async function measureRounds(units: readonly Unit[], context: SuiteContext): Promise<Row[]> {
  const rows = units.map((unit) => ({
    variant: unit.name,
    samples: {} as Record<string, number[]>,
    failure: undefined as string | undefined,
  }))
  for (let round = 0; round < context.options.rounds; round++) {
    const order = units.map((_, i) => (round % 2 === 0 ? i : units.length - 1 - i))
    for (const i of order) {
      if (rows[i].failure !== undefined) continue
      try {
        const values = await units[i].measure()
        for (const [key, value] of Object.entries(values)) (rows[i].samples[key] ??= []).push(value)
        const text = Object.entries(values).map(([key, value]) => `${key} ${value.toFixed(2)}`)
        context.progress(`round ${round + 1} ${units[i].name}: ${text.join(', ')}`)
      } catch (error) {
        rows[i].failure = error instanceof Error ? error.message : String(error)
        context.progress(`round ${round + 1} ${units[i].name} FAILED: ${rows[i].failure}`)
      }
    }
  }
  return rows
}

/** The load of a measurement. */
export interface LoadShape {
  readonly connections: number
  readonly requests: readonly LoadRequest[]
  readonly bodyBytes?: number
  /** The rest is for HTTP/2: see `Load`. */
  readonly streams?: number
  readonly headers?: readonly (readonly [name: string, value: string])[]
  readonly content?: Buffer
}

export const SMALL_GET: LoadShape = { connections: 64, requests: [{ method: 'GET', path: '/' }] }

/** CPU and throughput of one loaded stretch. */
export interface LoadedUse {
  readonly userUs: number
  readonly systemUs: number
  /** Of the busiest process alone. */
  readonly busiestUs: number
  readonly load: LoadResult
}

/** Warms the proxy up, then measures it under load. Throws on any error of either stretch. */
export async function measureLoaded(proxy: RunningProxy, shape: LoadShape, context: SuiteContext): Promise<LoadedUse> {
  const { options, origin } = context
  if (options.warmUpSeconds > 0) await cleanLoad(proxy, shape, options.warmUpSeconds, context)
  const before = await origin.counts()
  const { cpu, result } = await proxy.cpuDuring(() => cleanLoad(proxy, shape, options.seconds, context))
  const arrived = (await origin.counts()).requests - before.requests
  // Those in flight when a stretch ends arrive without being counted as answered: here, and late from the warm-up.
  if (Math.abs(arrived - result.requests) > 3 * shape.connections * (shape.streams ?? 1)) {
    throw new Error(`${result.requests} answers, but ${arrived} requests reached the origin`)
  }
  return { userUs: cpu.userUs, systemUs: cpu.systemUs, busiestUs: cpu.busiestUs, load: result }
}

async function cleanLoad(
  proxy: RunningProxy,
  shape: LoadShape,
  seconds: number,
  context: SuiteContext,
): Promise<LoadResult> {
  const { client: protocol, tls } = proxy.traffic
  const load: Load = { port: proxy.port, protocol, tls, seconds, bodyBytes: 0, ...shape }
  const result = await runLoad(load, context.bench.machine, context.bench.folder)
  if (result.errors > 0) throw new Error(`${result.errors} errors in ${result.requests} requests`)
  if (result.requests === 0) throw new Error('not one request was answered')
  return result
}
