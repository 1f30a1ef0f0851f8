import type { MonitorConfig } from '../../config/overload.ts'
import type { Clock } from '../../core/clock.ts'
import { noRuntime, type Runtime } from '../../core/metrics.ts'
import { runtimeInteger } from '../../core/runtime-value.ts'
import { groupCpu, groupMemoryPressure } from './control-group.ts'
import type { Machine } from './machine.ts'
import { type Monitor, monitorOf } from './monitor.ts'
import { Smoothed } from './smoothed.ts'

/** What monitors are made with. */
export interface MonitorDeps {
  readonly machine: Machine
  readonly clock: Clock
  readonly runtime?: Runtime
  /** Bytes that all processes of the gateway hold; throws where that cannot be told. */
  readonly memory: (config: MonitorConfig & { kind: 'process-memory' }) => number
  /** Downstream, of the whole gateway; throws where that cannot be told. */
  readonly connections: () => number
}

/** How often the event loop is asked how late it is. */
const SAMPLE_MS = 50
/** Envoy's weight of the last measurement of the processors. */
const CPU_WEIGHT = 0.05

/** Makes the monitor of a configuration; it measures from now on. */
export function createMonitor(config: MonitorConfig, deps: MonitorDeps): Monitor {
  const { machine, clock } = deps
  switch (config.kind) {
    case 'process-memory':
      return monitorOf(() => deps.memory(config) / memoryLimit(config, deps.runtime))
    case 'cgroup-memory':
      return monitorOf(() => groupMemoryPressure(machine, config.limitBytes))
    case 'cpu':
      return config.of === 'host' ? hostCpu(machine) : containerCpu(machine, clock)
    case 'connections':
      return monitorOf(() => deps.connections() / config.limit)
    case 'file':
      return monitorOf(async () => pressureIn(await machine.textLater(config.path)))
    case 'loop-delay':
      return loopDelay(config.limitMs, clock)
    case 'loop-utilization': {
      const smoothed = new Smoothed(clock.now())
      return monitorOf(() => smoothed.next(machine.loopUtilization(), clock.now()))
    }
  }
}

/** The limit that holds now. */
export function memoryLimit(
  { limitBytes, limitKey }: MonitorConfig & { kind: 'process-memory' },
  runtime: Runtime = noRuntime,
): number {
  const live = limitKey === undefined ? undefined : runtimeInteger(runtime, limitKey)
  return live || limitBytes
}

/** As Envoy's injected resource: a number from 0 to 1. */
function pressureIn(text: string): number {
  const pressure = text.trim() === '' ? Number.NaN : Number(text)
  if (!(pressure >= 0 && pressure <= 1)) throw new Error(`"${text.trim().slice(0, 40)}" is no number from 0 to 1`)
  return pressure
}

/** The longest delay of each interval, smoothed. */
function loopDelay(limitMs: number, clock: Clock): Monitor {
  const smoothed = new Smoothed(clock.now())
  let longest = 0
  let dueMs = 0
  let cancel = (): void => {}
  const look = (): number => Math.max(longest, clock.now() - dueMs)
  const next = (): void => {
    dueMs = clock.now() + SAMPLE_MS
    cancel = clock.schedule(SAMPLE_MS, () => {
      longest = look()
      next()
    })
  }
  next()
  return {
    read() {
      const nowMs = clock.now()
      const delay = smoothed.next(Math.max(0, look()), nowMs)
      longest = 0
      // What the sample is late already has been told of.
      dueMs = Math.max(dueMs, nowMs)
      return delay / limitMs
    },
    [Symbol.dispose]: () => cancel(),
  }
}

/** Jiffies of all processors since the start, from `/proc/stat`. */
function jiffies(machine: Machine): { readonly busy: number; readonly all: number } {
  const [name, ...times] = machine.text('/proc/stat').split('\n', 1)[0].split(/\s+/)
  // guest and guest_nice are in user and nice already.
  const counted = times.slice(0, 8).map(Number)
  const all = counted.reduce((sum, time) => sum + time, 0)
  if (name !== 'cpu' || counted.length < 4 || Number.isNaN(all)) throw new Error('/proc/stat makes no sense')
  return { busy: all - counted[3] - (counted[4] ?? 0), all }
}

function hostCpu(machine: Machine): Monitor {
  let last: { readonly busy: number; readonly all: number } | undefined
  let value = 0
  return monitorOf(() => {
    const now = jiffies(machine)
    if (last !== undefined && now.all > last.all) value = dampened(value, (now.busy - last.busy) / (now.all - last.all))
    last = now
    return value
  })
}

function containerCpu(machine: Machine, clock: Clock): Monitor {
  let last: { readonly usedUs: number; readonly atMs: number } | undefined
  let value = 0
  return monitorOf(() => {
    const { usedUs, processors } = groupCpu(machine)
    const atMs = clock.now()
    if (last !== undefined && atMs > last.atMs) {
      value = dampened(value, (usedUs - last.usedUs) / 1_000 / (atMs - last.atMs) / processors)
    }
    last = { usedUs, atMs }
    return value
  })
}

function dampened(before: number, now: number): number {
  return before * (1 - CPU_WEIGHT) + Math.max(0, now) * CPU_WEIGHT
}
