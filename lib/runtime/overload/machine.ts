import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'

/** What monitors read of the machine; tests bring one of their own. */
export interface Machine {
  /** The text of a file. Throws where it cannot be read. */
  text(path: string): string
  /** The same for files that may be anywhere, and slow. */
  textLater(path: string): Promise<string>
  /** Processors that this process may use. */
  readonly processors: number
  /** Bytes that this process holds in memory. */
  rss(): number
  /** The share of the time since it was asked last that the event loop was busy, in [0, 1]. */
  loopUtilization(): number
}

/** The one that this process runs on. */
export function machineOf(self: NodeJS.Process, processors: number): Machine {
  let last = performance.eventLoopUtilization()
  return {
    text: (path) => readFileSync(path, 'latin1'),
    textLater: (path) => readFile(path, 'utf8'),
    processors,
    rss: () => self.memoryUsage.rss(),
    loopUtilization() {
      const now = performance.eventLoopUtilization()
      const { utilization } = performance.eventLoopUtilization(now, last)
      last = now
      return utilization
    },
  }
}

/** A file's text, or undefined where it is not there. */
export function textOf(machine: Machine, path: string): string | undefined {
  try {
    return machine.text(path)
  } catch {
    return undefined
  }
}
