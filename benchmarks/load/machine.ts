import { execFileSync } from 'node:child_process'
import { accessSync, constants, existsSync, readFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { delimiter, join } from 'node:path'

/** Where the measured proxy and everything else run, and what is installed to help. */
export interface Machine {
  /** Core list for `taskset -c`; undefined where nothing can be pinned. */
  readonly proxyCores: string | undefined
  readonly loadCores: string | undefined
  readonly taskset: string | undefined
  readonly wrk: string | undefined
  readonly h2load: string | undefined
  /** One line for the report: processor, cores, kernel, Node version, load average at the start. */
  readonly description: string
  /** What this machine cannot do, one sentence each; the report prints them. */
  readonly warnings: readonly string[]
}

/** The path of an installed program, also looked for in the sbin folders that an ordinary user's PATH leaves out. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin']
  for (const folder of folders) {
    const path = join(folder, name)
    try {
      accessSync(path, constants.X_OK)
      if (folder !== '') return path
    } catch {
      // Not here: the next folder.
    }
  }
  return undefined
}

/**
 * Looks at the machine and moves this process to the load cores, so that every child that is not pinned otherwise stays
 * off the proxy's core. `ownLoad` leaves wrk and h2load alone even where they are installed. Throws where there is no /proc: the CPU
 * figures come from there.
 */
export function prepareMachine(ownLoad = false): Machine {
  if (!existsSync('/proc/self/stat')) throw new Error('the benchmarks read /proc and run on Linux only')
  const warnings: string[] = []
  const allowed = allowedCores()
  const taskset = findProgram('taskset')
  const wrk = ownLoad ? undefined : findProgram('wrk')
  const h2load = ownLoad ? undefined : findProgram('h2load')
  if (wrk === undefined) warnings.push(`${ownLoad ? 'wrk is not used' : 'wrk is not installed'}: ${OWN_LOAD}`)
  if (h2load === undefined)
    warnings.push(`${ownLoad ? 'h2load is not used' : 'h2load is not installed'}: ${OWN_HTTP2_LOAD}`)
  let proxyCores: string | undefined
  let loadCores: string | undefined
  if (taskset === undefined) warnings.push('taskset is not installed: nothing is pinned to a core')
  else if (allowed.length < 2) warnings.push('one core only: proxy, load and origin share it')
  else {
    proxyCores = String(allowed[allowed.length - 1])
    loadCores = allowed.slice(0, -1).join(',')
    execFileSync(taskset, ['-a', '-c', '-p', loadCores, String(process.pid)], { stdio: 'ignore' })
  }
  return { proxyCores, loadCores, taskset, wrk, h2load, description: describe(allowed.length), warnings }
}

const OWN_HTTP2_LOAD =
  'load over HTTP/2 comes from benchmarks/load/http2/generator-process.ts, which costs ten times more'
const OWN_LOAD =
  'the load comes from benchmarks/load/generator-process.ts, which costs more and so limits requests/s sooner'

/** Cores this process may use, from the kernel rather than from `os.cpus()`: containers restrict them. */
function allowedCores(): number[] {
  const line = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))
  const cores: number[] = []
  for (const part of (line?.[1] ?? '0').split(',')) {
    const [first, last] = part.split('-').map(Number)
    for (let core = first; core <= (last ?? first); core++) cores.push(core)
  }
  return cores
}

function describe(cores: number): string {
  const kernel = readFileSync('/proc/sys/kernel/osrelease', 'utf8').split('-')[0].trim()
  const load = loadavg()[0].toFixed(2)
  return `${cpus()[0].model.trim()}, ${cores} cores, Linux ${kernel}, Node ${process.version}, load average ${load} at the start`
}
