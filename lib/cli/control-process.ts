import type { AdminServer } from '../admin/server.ts'
import { startAdmin } from '../admin/server.ts'
import type { GatewayConfig } from '../config/model.ts'
import { formatAddress } from '../core/address.ts'
import { systemClock } from '../core/clock.ts'
import { runControl } from '../runtime/control.ts'
import type { ControlPanel } from '../runtime/control-panel.ts'
import type { ControlParts, LoadedFiles } from '../runtime/control-parts.ts'
import { FileRecorder } from '../runtime/recorded-files.ts'
import { ignoreBrokenPipes } from '../runtime/shutdown.ts'
import type { LevelLog } from '../telemetry/log.ts'
import { createLog } from '../telemetry/log.ts'
import { defaultConfig } from './default-config.ts'
import { envoyContext, loadConfigFile, loadConfigText } from './load-config.ts'
import type { RunSettings } from './settings.ts'
import { fromSettings, parseAddress } from './settings.ts'
import { standardFilters } from './standard-filters.ts'
import { versionLine } from './version.ts'

// The entry module of the control process: forked by the supervisor, never imported.

process.title = 'headgate: control'
ignoreBrokenPipes(process)
runControl({ process, clock: systemClock, create: (settings) => controlParts(fromSettings(settings)) })

function controlParts(settings: RunSettings): ControlParts {
  const log = createLog({ level: settings.logLevel })
  process.on('exit', () => log.flush())
  return {
    log,
    load: async () => load(settings),
    startAdmin: (panel, config) => openAdmin(panel, config, { settings, log }),
    report: (errors) => process.stderr.write(errors.map((error) => `${error.toString()}\n`).join('')),
    setLogLevel: (level) => log.setLevel(level),
    // The application log goes to standard error, which nobody moves away.
    reopenLogs() {},
  }
}

function load(settings: RunSettings): LoadedFiles {
  const files = new FileRecorder()
  const { readFile, watchDirectory } = files
  const context = { ...envoyContext(standardFilters()), readFile, watchDirectory }
  const { config } =
    settings.configPath === ''
      ? loadConfigText(defaultConfig(settings.demoPort), 'built-in configuration', context)
      : loadConfigFile(settings.configPath, context)
  const address = parseAddress(settings.adminAddress)
  return { config: address === undefined ? config : { ...config, admin: { address } }, files }
}

async function openAdmin(
  panel: ControlPanel,
  config: GatewayConfig,
  { settings, log }: { readonly settings: RunSettings; readonly log: LevelLog },
): Promise<string> {
  if (config.admin === undefined) return ''
  const options = {
    config_path: settings.configPath,
    log_level: settings.logLevel,
    drain_time: `${settings.drainTimeS}s`,
  }
  const server: AdminServer = await startAdmin({
    address: config.admin.address,
    backend: panel,
    identity: { version: versionLine(), options },
    log,
  })
  return formatAddress(server.address)
}
