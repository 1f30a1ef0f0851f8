import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Log } from '../../lib/core/metrics.ts'
import { Orphans } from '../../lib/runtime/orphans.ts'
import { TestClock } from '../support/clock.ts'

const MAIN = join(import.meta.dirname, '../../lib/cli/main.ts')
/** A process of its own is the first of another process namespace, as in a container; needs root. */
const NAMESPACE = ['--pid', '--fork', '--mount-proc', '--kill-child']

t.setTimeout(60_000)

interface Stat {
  readonly pid: number
  readonly state: string
  readonly parent: number
}

function processes(): Stat[] {
  return readdirSync('/proc').flatMap((name) => {
    const pid = Number(name)
    if (!Number.isInteger(pid)) return []
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ', 2)
      return [{ pid, state, parent: Number(parent) }]
    } catch {
      return []
    }
  })
}

async function until<V>(ask: () => V, wanted: (value: V) => boolean): Promise<V> {
  for (;;) {
    const value = ask()
    if (wanted(value)) return value
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

const permitted = spawnSync('unshare', [...NAMESPACE, 'true']).status === 0
const skip = permitted ? false : 'no process namespace can be made here (unshare --pid, root)'

t.test(
  'as PID 1 it collects what others have started, and leaves its own children to the runtime',
  { skip },
  async (t) => {
    const file = join(t.testdir(), 'gateway.json')
    const admin = { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } }
    writeFileSync(file, JSON.stringify({ admin, static_resources: { listeners: [], clusters: [] } }))
    const flags = ['run', '--config', file, '--log-level', 'debug', '--drain-time-s', '1']
    const outer = spawn('unshare', [...NAMESPACE, process.execPath, '--disable-sigusr1', MAIN, ...flags], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let said = ''
    outer.stderr.on('data', (text) => {
      said += text
    })
    t.teardown(() => outer.kill('SIGKILL'))
    await until(
      () => said,
      (text) => text.includes('"msg":"ready"'),
    )
    const { pid: first } = processes().find(({ parent }) => parent === outer.pid) as Stat
    const children = (): Stat[] => processes().filter(({ parent }) => parent === first)
    const own = children()
    t.equal(own.length, 2, 'control and a worker')
    // What `kubectl exec` does: a shell that leaves something behind.
    for (let i = 0; i < 3; i++) {
      const shell = spawn('nsenter', ['-t', String(first), '-p', '-m', 'sh', '-c', 'sleep 0.3 & exit 0'], {
        stdio: 'ignore',
      })
      t.same(await once(shell, 'exit'), [0, null])
    }
    t.equal(children().length, own.length + 3, 'they are its children now')
    await until(children, ({ length }) => length === own.length)
    // The lines come by a pipe, later than what they tell of.
    const collected = (): number => said.split('collected a process').length - 1
    t.equal(await until(collected, (count) => count >= 3), 3)

    const [control, worker] = own
    for (const { pid } of [worker, control]) process.kill(pid, 'SIGKILL')
    await until(
      () => said.split('has ended and is started again').length - 1,
      (ends) => ends === 2,
    )
    t.equal(said.split('"signal":"SIGKILL"').length - 1, 2, 'their ends were told by the runtime')
    await until(children, (all) => all.length === 2 && all.every(({ state }) => state !== 'Z'))
    process.kill(first, 'SIGTERM')
    const [code] = await once(outer, 'exit')
    t.equal(code, 0)
  },
)

t.test('where nothing can be collected it says so, once', (t) => {
  const clock = new TestClock()
  const said: string[] = []
  const log: Log = { debug() {}, info() {}, warn: (text) => void said.push(text), error() {} }
  const first = spawn('sh', ['-c', 'exit 0'], { stdio: 'ignore' })
  const pid = first.pid as number
  // Its end has not been noticed here as long as nothing else runs.
  while (processes().find((each) => each.pid === pid)?.state !== 'Z');
  const listeners = process.listenerCount('SIGCHLD')
  let own = [pid]
  const orphans = new Orphans({ process, clock, log, own: () => own, collect: () => undefined })
  clock.advance(100)
  t.same(said, [], 'not for a child of its own')
  own = []
  clock.advance(30_000)
  clock.advance(30_000)
  t.equal(said.length, 1)
  t.match(said[0], /an init/)
  orphans[Symbol.dispose]()
  t.equal(process.listenerCount('SIGCHLD'), listeners)
  t.equal(clock.pending, 0)
  t.end()
})
