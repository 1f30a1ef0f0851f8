import { once } from 'node:events'
import { join } from 'node:path'
import { Child } from './child.ts'
import type { Machine } from './machine.ts'

/** Runs the load from a fresh process of our own, on the load cores; `file` is its script, in this folder. */
export async function runGenerator<L extends object, R>(
  file: string,
  load: L,
  machine: Machine,
  folder: string,
): Promise<R> {
  const script = join(import.meta.dirname, file)
  const stderrFile = join(folder, 'generator.err')
  const spec = { command: [process.execPath, script], cores: machine.loadCores, stderrFile, ipc: true }
  const child = new Child(spec, machine)
  try {
    const answer = once(child.process, 'message')
    child.process.send(load)
    const result = await Promise.race([answer, child.exited])
    if (result === undefined) throw new Error(`the load generator ${child.failure}`)
    return result[0] as R
  } finally {
    await child.stop()
  }
}
