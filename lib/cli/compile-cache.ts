import { statSync } from 'node:fs'
import module from 'node:module'
import { basename, dirname, join } from 'node:path'

/**
 * Has Node keep what it makes of the modules (types stripped, code compiled), for this process and its children: loading them
 * takes each process half a second of CPU otherwise, which counts when a dead worker is replaced. The folder belongs to
 * whoever owns the code: another user who could write there could put code of theirs into it. Nothing happens where it cannot
 * be written to, or where everybody could write to it, or where the environment says something else (`NODE_COMPILE_CACHE`, `NODE_DISABLE_COMPILE_CACHE`).
 */
export function keepCompiled(env: NodeJS.ProcessEnv, from: string): void {
  if (env.NODE_COMPILE_CACHE !== undefined || env.NODE_DISABLE_COMPILE_CACHE !== undefined) return
  const cache = join(modulesFolder(from), '.cache')
  const folder = join(cache, 'headgate')
  if (isOpen(cache) || isOpen(folder)) return
  const { status } = module.enableCompileCache(folder)
  if (status === module.constants.compileCacheStatus.ENABLED) env.NODE_COMPILE_CACHE = folder
}

/** Anybody may write there, as some images have it for what build tools keep. */
function isOpen(folder: string): boolean {
  try {
    return ((statSync(folder, { throwIfNoEntry: false })?.mode ?? 0) & 0o002) !== 0
  } catch {
    return true
  }
}

/** The `node_modules` that the package is in; of a repository its own. */
function modulesFolder(from: string): string {
  for (let at = from; at !== dirname(at); at = dirname(at)) if (basename(at) === 'node_modules') return at
  return join(dirname(dirname(from)), 'node_modules')
}
