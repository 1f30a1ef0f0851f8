import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Variant } from './variant.ts'

/** The checkout that this file belongs to. */
export const REPOSITORY = join(import.meta.dirname, '..', '..')

/** A peer that is a script of ours around an npm package; `script` is relative to this folder, in the checkout `root`. */
export function nodePeer(name: string, script: string, floor = false, root = REPOSITORY): Variant {
  const file = join(root, 'benchmarks', 'end-to-end', script)
  return {
    name,
    floor,
    missing: () => (existsSync(file) ? undefined : `${script} does not exist in this checkout`),
    prepare(task) {
      const args = [
        String(task.listenPort),
        String(task.originPort),
        ...(task.logFile === undefined ? [] : [task.logFile]),
      ]
      return { command: [process.execPath, file, ...args], env: { ...process.env, NODE_ENV: 'production' } }
    },
  }
}
