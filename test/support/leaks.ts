import { createHook } from 'node:async_hooks'
import { settle } from './clock.ts'

/** What must not be left behind. Timers count only where code of this repository set them: the test runner has its own. */
const WATCHED: ReadonlySet<string> = new Set([
  'TCPWRAP',
  'TCPSERVERWRAP',
  'PIPEWRAP',
  'PIPESERVERWRAP',
  'TLSWRAP',
  'UDPWRAP',
  'PROCESSWRAP',
  'FILEHANDLE',
  'FSEVENTWRAP',
  'STATWATCHER',
  'ZLIB',
  'Timeout',
])

interface Resource {
  readonly type: string
  /** Frames of this repository that made it; '' for what the kernel handed over (accepted sockets). */
  readonly from: string
}

export interface LeakWatch {
  /** What was made since the watch began and still lives, one line each. */
  left(): string[]
  /** Waits until nothing is left, or throws with the list after `deadlineMs` (default 2,000). Ends the watch. */
  assertNone(deadlineMs?: number): Promise<void>
  stop(): void
}

/**
 * Watches sockets, servers, streams and timers that come into being from now on, those that keep no process alive
 * included (which `process.getActiveResourcesInfo` would hide). Slow: for tests only, one watch at a time.
 */
export function watchLeaks(): LeakWatch {
  const alive = new Map<number, Resource>()
  const hook = createHook({
    init(id, type) {
      if (!WATCHED.has(type)) return
      const from = originOf(new Error('made here').stack ?? '')
      if (type === 'Timeout' && from === '') return
      alive.set(id, { type, from })
    },
    destroy(id) {
      alive.delete(id)
    },
  }).enable()
  const left = (): string[] => [...alive.values()].map((r) => (r.from === '' ? r.type : `${r.type} made at ${r.from}`))
  const stop = (): void => void hook.disable()
  return {
    left,
    stop,
    async assertNone(deadlineMs = 2_000) {
      try {
        const endMs = performance.now() + deadlineMs
        while (alive.size > 0 && performance.now() < endMs) {
          // Destroy hooks of wrapped handles run when the loop has closed them, a few turns after `close`.
          await settle(5)
          if (alive.size > 0) await pause(10, alive)
        }
        const rest = left()
        if (rest.length > 0) throw new Error(`${rest.length} leaked: ${rest.join('; ')}`)
      } finally {
        stop()
      }
    },
  }
}

/** A wait that does not count as a leak of itself. */
async function pause(ms: number, alive: Map<number, Resource>): Promise<void> {
  const before = new Set(alive.keys())
  const waited = new Promise<void>((resolve) => setTimeout(resolve, ms))
  for (const [id, resource] of alive) if (!before.has(id) && resource.type === 'Timeout') alive.delete(id)
  await waited
}

/** The nearest frame of this repository, this file and packages excepted. */
function originOf(stack: string): string {
  for (const line of stack.split('\n').slice(1)) {
    const place = /(?:\(|at )((?:file:\/\/|\/)[^)]+:\d+):\d+\)?$/.exec(line.trim())
    if (place === null || place[1].includes('/node_modules/') || place[1].includes('/support/leaks.ts')) continue
    return place[1].replace(/^.*\/(lib|listeners|filters|xds-client|test|benchmarks|examples)\//, '$1/')
  }
  return ''
}
