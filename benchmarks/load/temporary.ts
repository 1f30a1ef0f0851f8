import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { processTree } from './accounting.ts'

/**
 * Makes the folder of a run; the caller removes it at its end. Where a signal ends this process first, the folder and
 * every child process are removed on the way out.
 */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-bench-'))
  endChildrenOnSignal(folder)
  return folder
}

function endChildrenOnSignal(folder: string): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      // Parents come first: a supervisor must not replace a worker that has just been killed.
      for (const pid of processTree(process.pid).slice(1)) {
        try {
          process.kill(pid, 'SIGKILL')
        } catch {
          // It has ended by itself.
        }
      }
      rmSync(folder, { recursive: true, force: true })
      process.exit(1)
    })
  }
}
