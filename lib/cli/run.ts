import { writeFileSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../core/clock.ts'
import { Orphans } from '../runtime/orphans.ts'
import { handleSignals } from '../runtime/shutdown.ts'
import { Supervisor } from '../runtime/supervisor.ts'
import { createLog } from '../telemetry/log.ts'
import { DEFAULT_LISTENER } from './default-config.ts'
import type { DemoUpstream } from './demo-upstream.ts'
import { startDemoUpstream } from './demo-upstream.ts'
import { type RunSettings, toSettings } from './settings.ts'
import { packageVersion } from './version.ts'

export interface RunOptions extends Omit<RunSettings, 'demoPort'> {
  readonly workers: number
  /** Of the drain time, how long connections are still taken after SIGTERM. */
  readonly drainMinTimeS: number
  /** How long a worker that was replaced may take to end. */
  readonly parentShutdownTimeS: number
  /** One more worker process is kept in reserve. */
  readonly spareWorker: boolean
  /** Ends when the gateway is ready. */
  readonly initOnly: boolean
  /** Where launchers of Envoy look for the base id that they asked for; '' for none. */
  readonly baseIdPath: string
  /** Flags that were given and mean nothing here. */
  readonly withoutEffect: readonly string[]
}

/** `headgate run`: this process becomes the supervisor. Resolves with the exit status when everything has ended. */
export async function run(options: RunOptions, self: NodeJS.Process): Promise<number> {
  const log = createLog({ level: options.logLevel })
  const { workers, spareWorker, drainMinTimeS, parentShutdownTimeS, initOnly, baseIdPath, withoutEffect, ...settings } =
    options
  if (withoutEffect.length > 0) log.warn('flags that have no effect here', { flags: withoutEffect })
  if (baseIdPath !== '') writeFileSync(baseIdPath, '0')
  const own = options.configPath === '' && options.configYaml === ''
  const demo = own ? await startDemoUpstream() : undefined
  const supervisor = new Supervisor({
    controlEntry: sibling('control-process'),
    workerEntry: sibling('worker-process'),
    workers,
    spareWorker,
    drainTimeMs: options.drainTimeS * 1000,
    drainMinMs: drainMinTimeS * 1000,
    replacedMs: parentShutdownTimeS * 1000,
    settings: toSettings({ ...settings, demoPort: demo?.port ?? 0 }),
    clock: systemClock,
    log,
    ready(admin) {
      log.info('ready', { version: packageVersion(), workers, admin })
      if (initOnly) supervisor.stop(0)
      if (demo !== undefined) self.stdout.write(welcome(demo, admin))
    },
  })
  const signals = handleSignals(self, supervisor, log)
  // The first process of a container has children that it never started.
  const orphans =
    self.pid === 1 ? new Orphans({ process: self, clock: systemClock, log, own: () => supervisor.children }) : undefined
  const status = await supervisor.ended
  await demo?.close()
  log.flush()
  orphans?.[Symbol.dispose]()
  signals[Symbol.dispose]()
  return status
}

/** A module beside this one, whichever extension it has: `.ts` in the repository, `.js` in the package. */
function sibling(name: string): string {
  return fileURLToPath(new URL(`./${name}${extname(import.meta.url)}`, import.meta.url))
}

function welcome(demo: DemoUpstream, admin: string): string {
  const proxy = `http://${DEFAULT_LISTENER}`
  return `headgate ${packageVersion()} proxies ${proxy} to a built-in demo upstream (127.0.0.1:${demo.port}).
Try:
  curl -i ${proxy}/hello
  curl -i -d 'some text' ${proxy}/echo
  curl -i ${proxy}/direct
  curl http://${admin}/ready
  curl http://${admin}/clusters
  curl 'http://${admin}/stats?usedonly'
Your own configuration: headgate run --config FILE. Stop with Ctrl-C.
`
}
