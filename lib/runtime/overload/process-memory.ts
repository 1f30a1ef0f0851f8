import { type Machine, textOf } from './machine.ts'

const KIB = 1024

/**
 * What these processes hold in memory together: the anonymous and shared memory of each, and the mapped files (the runtime's
 * code, mostly) of the one that has most of them, since all map the same. Those that are gone count nothing.
 */
export function memoryOf(machine: Machine, pids: Iterable<number>): number {
  let own = 0
  let files = 0
  let known = false
  for (const pid of pids) {
    const status = textOf(machine, `/proc/${pid}/status`)
    if (status === undefined) continue
    known = true
    own += field(status, 'RssAnon') + field(status, 'RssShmem')
    files = Math.max(files, field(status, 'RssFile'))
  }
  if (!known) throw new Error('this platform does not tell what other processes hold in memory')
  return own + files
}

function field(status: string, name: string): number {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)
  return Number(found?.[1] ?? 0) * KIB
}
