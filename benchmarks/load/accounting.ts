import { readdirSync, readFileSync } from 'node:fs'

/** Of one process since its birth. CPU counts every thread, also those that have ended, in steps of 10 ms. */
export interface Usage {
  readonly userUs: number
  readonly systemUs: number
  readonly rssBytes: number
}

/** CPU used by a process tree between two readings. */
export interface CpuUse {
  readonly userUs: number
  readonly systemUs: number
  /** Of the process that used most: the worker, where a supervisor and a control process run beside it. */
  readonly busiestUs: number
  readonly busiestPid: number
}

/** USER_HZ is 100 on every Linux that Node runs on; it is the unit of /proc, not the kernel's own tick. */
const TICK_US = 10_000

/** The process and all its living descendants. */
export function processTree(root: number): number[] {
  const pids = [root]
  for (let i = 0; i < pids.length; i++) {
    for (const thread of list(`/proc/${pids[i]}/task`)) {
      const children = read(`/proc/${pids[i]}/task/${thread}/children`)
      for (const pid of children.split(' ')) if (pid.trim() !== '') pids.push(Number(pid))
    }
  }
  return pids
}

/** Reads every process of a tree; those that end meanwhile are left out. */
export function readTree(root: number): Map<number, Usage> {
  const usages = new Map<number, Usage>()
  for (const pid of processTree(root)) {
    const usage = readUsage(pid)
    if (usage !== undefined) usages.set(pid, usage)
  }
  return usages
}

/**
 * The difference of two readings. Throws when a process of the first one is gone: its last microseconds are unknown, and
 * a proxy that loses a process while it is measured has no figure.
 */
export function cpuBetween(before: Map<number, Usage>, after: Map<number, Usage>): CpuUse {
  let userUs = 0
  let systemUs = 0
  let busiestUs = 0
  let busiestPid = 0
  for (const pid of before.keys()) if (!after.has(pid)) throw new Error(`process ${pid} ended while it was measured`)
  for (const [pid, usage] of after) {
    const earlier = before.get(pid)
    const user = usage.userUs - (earlier?.userUs ?? 0)
    const system = usage.systemUs - (earlier?.systemUs ?? 0)
    userUs += user
    systemUs += system
    if (user + system > busiestUs) {
      busiestUs = user + system
      busiestPid = pid
    }
  }
  return { userUs, systemUs, busiestUs, busiestPid }
}

/** Resident bytes of all processes of a tree together; pages that they share count in each. */
export function rssOf(root: number): number {
  let sum = 0
  for (const usage of readTree(root).values()) sum += usage.rssBytes
  return sum
}

function readUsage(pid: number): Usage | undefined {
  const stat = read(`/proc/${pid}/stat`)
  // The second field is the name in parentheses and may hold spaces and parentheses itself: count from the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  if (fields.length < 22 || fields[0] === 'Z') return undefined
  const rss = /^VmRSS:\s*(\d+) kB/m.exec(read(`/proc/${pid}/status`))
  return {
    userUs: Number(fields[11]) * TICK_US,
    systemUs: Number(fields[12]) * TICK_US,
    rssBytes: Number(rss?.[1] ?? 0) * 1024,
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}
