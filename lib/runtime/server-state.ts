import type { Counter, Gauge } from '../core/metrics.ts'
import type { MetricsSnapshot } from './engine.ts'
import type { MemoryUse, WorkerLives } from './messages.ts'
import type { ProcessMisses } from './watchdog.ts'

/** Envoy's words (`envoy.admin.v3.ServerInfo.State`) and the numbers of its gauge `server.state`. */
export const SERVER_STATES = { LIVE: 0, DRAINING: 1, PRE_INITIALIZING: 2, INITIALIZING: 3 } as const

export type ServerState = keyof typeof SERVER_STATES

export interface ServerGauges {
  readonly state: ServerState
  readonly uptimeMs: number
  readonly workers: number
  readonly memory: MemoryUse
}

/** Adds the gauges that belong to the server as a whole (`server.live`, `server.uptime`, ...) under Envoy's names. */
export function withServerGauges(snapshot: MetricsSnapshot, server: ServerGauges): MetricsSnapshot {
  const { memory } = server
  const own = new Map<string, number>([
    ['server.concurrency', server.workers],
    ['server.live', server.state === 'LIVE' ? 1 : 0],
    ['server.memory_allocated', memory.heapUsed + memory.external],
    ['server.memory_heap_size', memory.heapTotal + memory.external],
    ['server.memory_physical_size', memory.rss],
    ['server.state', SERVER_STATES[server.state]],
    ['server.uptime', Math.floor(server.uptimeMs / 1000)],
  ])
  const gauges = [...snapshot.gauges.filter(([name]) => !own.has(name)), ...own]
  return { ...snapshot, gauges: gauges.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)) }
}

/** How often files of the configuration have changed, and what became of it. */
export interface Reloads {
  readonly good: Counter
  readonly refused: Counter
  /** Resources that were sent, and that workers could not use. */
  readonly revoked: Counter
  /** 1: the files as they are now cannot be used, and what was read before serves. */
  readonly failing: Gauge
}

/** Nothing has been reloaded yet. */
export function noReloads(): Reloads {
  return { good: { v: 0 }, refused: { v: 0 }, revoked: { v: 0 }, failing: { v: 0 } }
}

/** Adds the counters of reloads (`server.file_reload_success`, ...), and the gauge `server.file_reload_failing`. */
export function withReloads(snapshot: MetricsSnapshot, { good, refused, revoked, failing }: Reloads): MetricsSnapshot {
  const own: (readonly [string, number])[] = [
    ['server.file_reload_rejected', refused.v],
    ['server.file_reload_success', good.v],
    ['server.resources_revoked', revoked.v],
  ]
  const gauges: (readonly [string, number])[] = [...snapshot.gauges, ['server.file_reload_failing', failing.v]]
  return { ...snapshot, counters: sorted([...snapshot.counters, ...own]), gauges: sorted(gauges) }
}

/** Adds what has become of worker processes: `server.workers_died`, `server.workers_silent`, `server.workers_replaced`. */
export function withLives(snapshot: MetricsSnapshot, { died, silent, replaced }: WorkerLives): MetricsSnapshot {
  const own: (readonly [string, number])[] = [
    ['server.workers_died', died],
    ['server.workers_replaced', replaced],
    ['server.workers_silent', silent],
  ]
  return { ...snapshot, counters: sorted([...snapshot.counters, ...own]) }
}

/** Adds how often processes were late: of each, of the control process and of all workers, under Envoy's names. */
export function withMisses(snapshot: MetricsSnapshot, misses: readonly ProcessMisses[]): MetricsSnapshot {
  const own = new Map<string, number>()
  const add = (name: string, count: number): void => void own.set(name, (own.get(name) ?? 0) + count)
  for (const { process, miss, megaMiss } of misses) {
    for (const scope of [`server.${process}`, process === 'main_thread' ? process : 'workers']) {
      add(`${scope}.watchdog_miss`, miss)
      add(`${scope}.watchdog_mega_miss`, megaMiss)
    }
  }
  return { ...snapshot, counters: sorted([...snapshot.counters, ...own]) }
}

function sorted(values: (readonly [string, number])[]): (readonly [string, number])[] {
  return values.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
}

/** The use of several processes together. */
export function addMemory(parts: readonly MemoryUse[]): MemoryUse {
  const sum = { rss: 0, heapUsed: 0, heapTotal: 0, external: 0 }
  for (const part of parts) {
    sum.rss += part.rss
    sum.heapUsed += part.heapUsed
    sum.heapTotal += part.heapTotal
    sum.external += part.external
  }
  return sum
}
