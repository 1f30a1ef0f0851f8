import { Command, CommanderError, Option } from 'commander'
import type { EnvoyLoadContext } from '../../xds-client/envoy/load.ts'
import type { CapabilitiesFlags } from './capabilities.ts'
import { type RunWish, runCommand } from './run-command.ts'
import { packageVersion, versionLine } from './version.ts'

const USAGE_ERROR = 2
/** Flags that are none of `run`: they ask about the program itself. */
const ABOUT: ReadonlySet<string> = new Set(['-V', '--version', '-h', '--help'])

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
  // Envoy has no commands: flags alone are those of a launcher that starts one.
  const bare = args.length > 0 && args[0].startsWith('-') && !ABOUT.has(args[0])
  program.addCommand(
    runCommand(bare, async (wish) => {
      status = await obey(wish, self)
    }).copyInheritedSettings(program),
  )
  program.addCommand(
    validateCommand(async (flags) => {
      status = await validate(flags, self)
    }).copyInheritedSettings(program),
  )
  program.addCommand(
    capabilitiesCommand(async (type, flags) => {
      const { printCapabilities } = await import('./capabilities.ts')
      status = printCapabilities(type, flags, self)
    }).copyInheritedSettings(program),
  )
  program
    .command('version')
    .description('print the version, also that of Node')
    .action(() => {
      self.stdout.write(`${versionLine()}\n`)
    })
  try {
    await program.parseAsync(wordsOf(args, bare), { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    return error.exitCode === 0 ? 0 : USAGE_ERROR
  }
  return status
}

function wordsOf(args: readonly string[], bare: boolean): readonly string[] {
  if (!bare) return args
  return args.includes('--version') ? ['--version'] : ['run', ...args]
}

async function obey(wish: RunWish, self: NodeJS.Process): Promise<number> {
  if (wish.kind === 'hot-restart-version') {
    self.stdout.write('disabled\n')
    return 0
  }
  if (wish.kind === 'run') {
    const { run } = await import('./run.ts')
    return run(wish.options, self)
  }
  const { validateConfig } = await import('./validate.ts')
  return validateConfig(wish.options, await standardContext(), self)
}

function capabilitiesCommand(action: (type: string | undefined, flags: CapabilitiesFlags) => Promise<void>): Command {
  return new Command('capabilities')
    .description("what becomes of each type and field of Envoy's API: accepted, ignored or refused")
    .argument('[type]', 'every field of the messages whose full name contains this')
    .option('--json', 'the whole table')
    .addOption(new Option('--markdown', 'as xds-client/CAPABILITIES.md').conflicts('json'))
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
  const { resourceJudge, validateConfig, validateResources } = await import('./validate.ts')
  const context = await standardContext()
  if (flags.resources !== undefined) return validateResources(flags.resources, resourceJudge(context), self)
  return validateConfig({ ...NO_SOURCE, configPath: flags.config ?? '' }, context, self)
}

const NO_SOURCE = Object.freeze({
  configPath: '',
  configYaml: '',
  serviceNode: '',
  serviceCluster: '',
  serviceZone: '',
})

async function standardContext(): Promise<EnvoyLoadContext> {
  const [{ envoyContext }, { standardFilters }] = await Promise.all([
    import('./load-config.ts'),
    import('./standard-filters.ts'),
  ])
  return envoyContext(standardFilters())
}
