import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('../../../lib/cli/main.ts', import.meta.url))

/** A proxy under comparison, running. */
export interface RunningProxy {
  readonly kind: 'envoy' | 'headgate'
  /** `http://127.0.0.1:port` of its admin. */
  readonly admin: string
  /** Port of each listener by name. */
  readonly ports: ReadonlyMap<string, number>
  /** Folder that the bootstrap's `@LOGS@` stands for. */
  readonly logs: string
  /** Everything written to standard error. */
  stderr(): string
  stop(): Promise<void>
}

interface Started {
  readonly child: ChildProcess
  readonly text: { err: string }
  readonly ended: Promise<unknown>
}

/** Starts Envoy with one worker thread; `folder` is its own and receives configuration and logs. */
export async function startEnvoy(program: string, bootstrap: string, folder: string): Promise<RunningProxy> {
  const config = prepare(bootstrap, folder)
  const adminPath = join(folder, 'admin-address')
  const started = run(program, [
    ...['-c', config, '--concurrency', '1', '--use-dynamic-base-id', '--admin-address-path', adminPath],
    ...['--file-flush-interval-msec', '50', '--log-level', 'error', '--drain-time-s', '1'],
  ])
  const address = await poll('Envoy to write its admin address', started, () => readOptional(adminPath))
  return ready('envoy', `http://${address.trim()}`, folder, started)
}

/** Starts Headgate from the sources with one worker process. */
export async function startHeadgate(bootstrap: string, folder: string): Promise<RunningProxy> {
  const config = prepare(bootstrap, folder)
  const started = run(process.execPath, ['--disable-sigusr1', MAIN, 'run', '--config', config, '--workers', '1'])
  const address = await poll('Headgate to say that it is ready', started, () => {
    const line = started.text.err.split('\n').find((text) => text.includes('"msg":"ready"'))
    return line === undefined ? undefined : (JSON.parse(line) as { admin: string }).admin
  })
  return ready('headgate', `http://${address}`, folder, started)
}

/** `envoy --mode validate`: the exit status and what it said. */
export async function validateWithEnvoy(program: string, config: string): Promise<{ status: number; said: string }> {
  const started = run(program, ['--mode', 'validate', '-c', config, '--log-level', 'error', '--use-dynamic-base-id'])
  const [status] = (await started.ended) as [number | null]
  return { status: status ?? -1, said: started.text.err }
}

function prepare(bootstrap: string, folder: string): string {
  mkdirSync(folder, { recursive: true })
  const config = join(folder, 'bootstrap.json')
  writeFileSync(config, bootstrap.replaceAll('@LOGS@', folder))
  return config
}

function run(program: string, args: readonly string[]): Started {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const text = { err: '' }
  child.stderr?.on('data', (chunk: Buffer) => {
    text.err += chunk.toString('utf8')
  })
  return { child, text, ended: once(child, 'close') }
}

async function ready(
  kind: RunningProxy['kind'],
  admin: string,
  folder: string,
  started: Started,
): Promise<RunningProxy> {
  await poll(`${kind} to answer /ready`, started, async () => {
    const answer = await fetch(`${admin}/ready`).catch(() => undefined)
    return answer?.status === 200 ? true : undefined
  })
  const listeners = (await (await fetch(`${admin}/listeners?format=json`)).json()) as ListenerStatuses
  return {
    kind,
    admin,
    ports: new Map(listeners.listener_statuses.map((l) => [l.name, l.local_address.socket_address.port_value])),
    logs: folder,
    stderr: () => started.text.err,
    async stop(): Promise<void> {
      started.child.kill('SIGKILL')
      await started.ended
    },
  }
}

interface ListenerStatuses {
  readonly listener_statuses: readonly {
    readonly name: string
    readonly local_address: { readonly socket_address: { readonly port_value: number } }
  }[]
}

async function poll<T>(what: string, started: Started, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const until = Date.now() + 30_000
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (started.child.exitCode !== null || started.child.signalCode !== null || Date.now() > until) {
      started.child.kill('SIGKILL')
      await started.ended
      throw new Error(`waited in vain for ${what}:\n${started.text.err}`)
    }
    await sleep(20)
  }
}

function readOptional(path: string): string | undefined {
  try {
    const text = readFileSync(path, 'utf8')
    return text.trim() === '' ? undefined : text
  } catch {
    return undefined
  }
}
