import { writeFile } from 'node:fs/promises'
import type { AdminOptions, AdminServer } from '../admin/server.ts'
import { startAdmin } from '../admin/server.ts'
import type { GatewayConfig } from '../config/model.ts'
import { formatAddress } from '../core/address.ts'
import { systemClock } from '../core/clock.ts'
import { ConfigError, ConfigRefused } from '../core/errors.ts'
import type { Log } from '../core/metrics.ts'
import { runControl } from '../runtime/control.ts'
import type { ControlPanel } from '../runtime/control-panel.ts'
import type { ControlParts } from '../runtime/control-parts.ts'
import { ignoreBrokenPipes } from '../runtime/shutdown.ts'
import type { LevelLog } from '../telemetry/log.ts'
import { createLog } from '../telemetry/log.ts'
import { BootstrapLoader } from './bootstrap-loader.ts'
import { HostJudging } from './host-judge.ts'
import type { RunSettings } from './settings.ts'
import { fromSettings } from './settings.ts'
import { versionLine } from './version.ts'

// The entry module of the control process: forked by the supervisor, never imported.

process.title = 'headgate: control'
ignoreBrokenPipes(process)
runControl({ process, clock: systemClock, create: (settings) => controlParts(fromSettings(settings)) })

function controlParts(settings: RunSettings): ControlParts {
  const log = createLog({ level: settings.logLevel })
  process.on('exit', () => log.flush())
  const loader = new BootstrapLoader(settings, log)
  let workload: Promise<unknown> | undefined
  const judging = new HostJudging({ clock: systemClock, log, random: Math.random })
  return {
    log,
    load: async () => {
      // Once for the life of this process, and before files that are written with it are read.
      if (settings.workloadCerts !== '') workload ??= keepCertificate(settings.workloadCerts, log)
      await workload
      return loader.load()
    },
    async startAdmin(panel, config) {
      loader.panel = panel
      return openAdmin(panel, config, { settings, log, registry: () => loader.registry })
    },
    report: (errors) => process.stderr.write(errors.map((error) => `${error.toString()}\n`).join('')),
    setLogLevel: (level) => log.setLevel(level),
    // The application log goes to standard error, which nobody moves away; event logs of hosts are files.
    reopenLogs: () => judging.reopenLogs(),
    metrics: () => judging.metrics(loader.metrics()),
    judgeHosts: (site) => judging.begin(site),
  }
}

/** Loaded where it is wanted: few have one. */
async function keepCertificate(directory: string, log: Log): Promise<unknown> {
  const { keepWorkloadCertificate } = await import('./workload.ts')
  return keepWorkloadCertificate(directory, process.env, log)
}

interface AdminParts {
  readonly settings: RunSettings
  readonly log: LevelLog
  readonly registry: AdminOptions['registry']
}

async function openAdmin(
  panel: ControlPanel,
  config: GatewayConfig,
  { settings, log, registry }: AdminParts,
): Promise<string> {
  if (config.admin === undefined) return ''
  const options = {
    config_path: settings.configPath,
    log_level: settings.logLevel,
    drain_time: `${settings.drainTimeS}s`,
    ...settings.commandLine,
  }
  const server: AdminServer = await startAdmin({
    address: config.admin.address,
    backend: panel,
    identity: { version: versionLine(), options },
    log,
    registry,
  })
  const address = formatAddress(server.address)
  if (settings.adminAddressPath !== '') await writeAddress(settings.adminAddressPath, address)
  return address
}

/** Launchers learn the port from there. */
async function writeAddress(path: string, address: string): Promise<void> {
  try {
    await writeFile(path, address)
  } catch (error) {
    throw new ConfigRefused([
      new ConfigError('--admin-address-path', error instanceof Error ? error.message : `${error}`),
    ])
  }
}
