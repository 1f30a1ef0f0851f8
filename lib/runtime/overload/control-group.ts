import { type Machine, textOf } from './machine.ts'

const ROOT = '/sys/fs/cgroup'
/** Version 1 says "no limit" with the largest number of pages there is. */
const UNLIMITED = 2 ** 62

/**
 * The directories of a controller's group, from our own up to the root: each may have a limit, and the tightest counts.
 * Within a container the root is our own group.
 *
 * @param controller of version 1 (`memory`, `cpu`, `cpuacct`); undefined: version 2
 */
function* groupsOf(machine: Machine, controller: string | undefined): Generator<string> {
  const base = controller === undefined ? ROOT : `${ROOT}/${controller}`
  const lines = (textOf(machine, '/proc/self/cgroup') ?? '').split('\n')
  const own = lines
    .map((line) => line.split(':'))
    .find(([, controllers]) =>
      controller === undefined ? controllers === '' : controllers?.split(',').includes(controller),
    )
  let path = own?.slice(2).join(':') ?? '/'
  while (path.length > 1) {
    yield base + path
    path = path.slice(0, path.lastIndexOf('/'))
  }
  yield base
}

/** Pressure on the memory of the control group, with `limitBytes` as a further limit. 0 where nothing limits it. */
export function groupMemoryPressure(machine: Machine, limitBytes: number | undefined): number {
  const more = limitBytes ?? Number.POSITIVE_INFINITY
  let pressure: number | undefined
  for (const [version, dir] of memoryGroups(machine)) {
    const used = usedBytes(machine, dir, version)
    if (used === undefined) continue
    const limit = Math.min(pressure === undefined ? more : Number.POSITIVE_INFINITY, memoryLimit(machine, dir, version))
    pressure = Math.max(pressure ?? 0, used / limit)
  }
  if (pressure === undefined) throw new Error('no control group tells how much memory is used')
  return pressure
}

function* memoryGroups(machine: Machine): Generator<readonly [1 | 2, string]> {
  for (const dir of groupsOf(machine, undefined)) yield [2, dir]
  for (const dir of groupsOf(machine, 'memory')) yield [1, dir]
}

function memoryLimit(machine: Machine, dir: string, version: 1 | 2): number {
  const text = textOf(machine, `${dir}/${version === 2 ? 'memory.max' : 'memory.limit_in_bytes'}`)?.trim()
  const limit = text === undefined || text === 'max' ? Number.NaN : Number(text)
  return limit > 0 && limit < UNLIMITED ? limit : Number.POSITIVE_INFINITY
}

/** Without the pages of files that the kernel drops before it kills anybody (as Kubernetes counts). */
function usedBytes(machine: Machine, dir: string, version: 1 | 2): number | undefined {
  const text = textOf(machine, `${dir}/${version === 2 ? 'memory.current' : 'memory.usage_in_bytes'}`)
  if (text === undefined) return undefined
  const stat = textOf(machine, `${dir}/memory.stat`) ?? ''
  const name = version === 2 ? 'inactive_file' : 'total_inactive_file'
  const spare = new RegExp(`^${name} (\\d+)$`, 'm').exec(stat)
  return Math.max(0, Number(text) - Number(spare?.[1] ?? 0))
}

/** What the control group has used of the processors so far, in µs, and how many of them it may use. */
export function groupCpu(machine: Machine): { readonly usedUs: number; readonly processors: number } {
  for (const dir of groupsOf(machine, undefined)) {
    const used = /^usage_usec (\d+)$/m.exec(textOf(machine, `${dir}/cpu.stat`) ?? '')
    const max = textOf(machine, `${dir}/cpu.max`)
    if (used === null || max === undefined) continue
    const [quota, period] = max.trim().split(' ')
    const processors = quota === 'max' ? machine.processors : Number(quota) / Number(period)
    return { usedUs: Number(used[1]), processors }
  }
  for (const dir of groupsOf(machine, 'cpuacct')) {
    const used = textOf(machine, `${dir}/cpuacct.usage`)
    if (used === undefined) continue
    return { usedUs: Number(used) / 1_000, processors: quotaOf(machine) ?? machine.processors }
  }
  throw new Error('no control group tells how much of the processors is used')
}

/** Of version 1. */
function quotaOf(machine: Machine): number | undefined {
  for (const dir of groupsOf(machine, 'cpu')) {
    const quota = Number(textOf(machine, `${dir}/cpu.cfs_quota_us`) ?? Number.NaN)
    const period = Number(textOf(machine, `${dir}/cpu.cfs_period_us`) ?? Number.NaN)
    if (quota > 0 && period > 0) return quota / period
  }
  return undefined
}
