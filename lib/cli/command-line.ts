import { availableParallelism } from 'node:os'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { LEVEL_NAMES, logLevel } from '../admin/log-level.ts'
import { parseAddress } from './settings.ts'
import { packageVersion, versionLine } from './version.ts'

const USAGE_ERROR = 2
/** More processes than that on one machine are a slip of the keyboard. */
const MAX_WORKERS = 256
const MAX_DRAIN_S = 24 * 60 * 60

interface RunFlags {
  readonly config?: string
  readonly workers: number
  readonly drainTimeS: number
  readonly logLevel: string
  readonly adminAddress?: string
}

/**
 * The commands of `headgate`. Resolves with the exit status: 0, 1 where the configuration or the gateway failed, 2 where
 * the command line itself was wrong. What a command needs is imported when it runs: `headgate version` should not wait
 * for the descriptors of Envoy's API.
 */
export async function runCommandLine(args: readonly string[], self: NodeJS.Process): Promise<number> {
  let status = 0
  const program = new Command('headgate')
    .description('An Envoy-style filter-chain proxy.')
    .version(packageVersion(), '-V, --version', 'print the version number')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => self.stdout.write(text),
      writeErr: (text) => self.stderr.write(text),
    })
  program.addCommand(
    runCommand(async (flags) => {
      const { run } = await import('./run.ts')
      const { config = '', adminAddress = '', ...rest } = flags
      status = await run({ ...rest, config, adminAddress }, self)
    }).copyInheritedSettings(program),
  )
  program.addCommand(
    validateCommand(async (flags) => {
      status = await validate(flags, self)
    }).copyInheritedSettings(program),
  )
  program
    .command('version')
    .description('print the version, also that of Node')
    .action(() => {
      self.stdout.write(`${versionLine()}\n`)
    })
  try {
    await program.parseAsync(args, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    return error.exitCode === 0 ? 0 : USAGE_ERROR
  }
  return status
}

function runCommand(action: (flags: RunFlags) => Promise<void>): Command {
  return new Command('run')
    .description('run the gateway; without --config a demo on 127.0.0.1:10000')
    .option('-c, --config <file>', 'an Envoy v3 bootstrap, YAML or JSON')
    .option('--workers <n>', 'processes that carry traffic: a number, or auto for one per core', parseWorkers, 1)
    .option('--drain-time-s <n>', 'how long requests may take to end after SIGTERM', parseSeconds, 25)
    .addOption(
      new Option('--log-level <level>', `of the application log: ${LEVEL_NAMES.join(', ')}`)
        .argParser(parseLevel)
        .default('info'),
    )
    .option(
      '--admin-address <address>',
      "instead of the configuration's: ip:port or the path of a socket",
      checkAddress,
    )
    .allowExcessArguments(false)
    .action(action)
}

interface ValidateFlags {
  readonly config?: string
  readonly resources?: string
}

function validateCommand(action: (flags: ValidateFlags) => Promise<void>): Command {
  const command = new Command('validate')
    .description('check a configuration without running it')
    .option('-c, --config <file>', 'an Envoy v3 bootstrap, YAML or JSON')
    .option('--resources <file>', 'single resources: one proto-JSON Any per line; answers one JSON line for each')
    .allowExcessArguments(false)
  return command.action(async (flags: ValidateFlags) => {
    if ((flags.config === undefined) === (flags.resources === undefined)) {
      command.error('error: give either --config or --resources')
    }
    await action(flags)
  })
}

async function validate(flags: ValidateFlags, self: NodeJS.Process): Promise<number> {
  const [{ envoyContext }, { standardFilters }, { validateConfig, validateResources }] = await Promise.all([
    import('./load-config.ts'),
    import('./standard-filters.ts'),
    import('./validate.ts'),
  ])
  const context = envoyContext(standardFilters())
  if (flags.config !== undefined) return validateConfig(flags.config, context, self)
  return validateResources(flags.resources ?? '', context, self)
}

function parseWorkers(text: string): number {
  if (text === 'auto') return availableParallelism()
  return parseWhole(text, 1, MAX_WORKERS, 'auto or a whole number')
}

function parseSeconds(text: string): number {
  return parseWhole(text, 0, MAX_DRAIN_S, 'a whole number of seconds')
}

function parseWhole(text: string, least: number, most: number, what: string): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= least && value <= most) return value
  throw new InvalidArgumentError(`Must be ${what} from ${least} to ${most}.`)
}

function parseLevel(text: string): string {
  const level = logLevel(text)
  if (level === undefined) throw new InvalidArgumentError(`Must be one of ${LEVEL_NAMES.join(', ')}.`)
  return level
}

function checkAddress(text: string): string {
  if (parseAddress(text) === undefined) {
    throw new InvalidArgumentError('Must be like 127.0.0.1:15000, [::1]:15000 or /run/headgate.sock.')
  }
  return text
}
