import { availableParallelism } from 'node:os'
import { Command, InvalidArgumentError, Option } from 'commander'
import { LEVEL_NAMES, logLevel } from '../admin/log-level.ts'
import { FLAGS_WITHOUT_EFFECT, SILENT_FLAGS } from './envoy-flags.ts'
import type { RunOptions } from './run.ts'
import { parseAddress } from './settings.ts'

/** More processes than that on one machine are a slip of the keyboard. */
const MAX_WORKERS = 256
const MAX_DRAIN_S = 24 * 60 * 60

interface RunFlags {
  readonly config?: string
  readonly configPath?: string
  readonly configYaml?: string
  readonly workers: number
  readonly concurrency?: number
  readonly drainTimeS: number
  readonly drainMinTimeS: number
  readonly drainStrategy: 'gradual' | 'immediate'
  readonly parentShutdownTimeS?: number
  readonly spareWorker?: true
  readonly logLevel: string
  readonly adminAddress?: string
  readonly adminAddressPath?: string
  readonly stateDir?: string
  readonly workloadCerts?: string
  readonly serviceNode?: string
  readonly serviceCluster?: string
  readonly serviceZone?: string
  readonly mode: 'serve' | 'validate' | 'init_only'
  readonly baseIdPath?: string
  readonly rejectUnknownDynamicFields?: true
  readonly ignoreUnknownDynamicFields?: true
  readonly hotRestartVersion?: true
}

/** What `headgate run` was asked to do. */
export type RunWish =
  | { readonly kind: 'run' | 'validate'; readonly options: RunOptions }
  /** Launchers of Envoy ask whether its parent can be replaced. */
  | { readonly kind: 'hot-restart-version' }

/**
 * The command that runs a gateway. It takes the flags of Envoy too, so that it can be started in its place; `bare`: it has
 * been, without the name of a command, and what Envoy requires and defaults to holds.
 */
export function runCommand(bare: boolean, action: (wish: RunWish) => Promise<void>): Command {
  const command = new Command('run')
    .description('run the gateway; without a configuration a demo on 127.0.0.1:10000. Takes the flags of Envoy')
    .option('-c, --config <file>', 'an Envoy v3 bootstrap, YAML or JSON')
    .option('--config-path <file>', 'the same')
    .option('--config-yaml <yaml>', 'a bootstrap as text, merged over the file')
  processOptions(command)
    .addOption(
      new Option('-l, --log-level <level>', `of the application log: ${LEVEL_NAMES.join(', ')}`)
        .argParser(parseLevel)
        .default('info'),
    )
    .option(
      '--admin-address <address>',
      "instead of the configuration's: ip:port or the path of a socket",
      checkAddress,
    )
    .option('--admin-address-path <file>', 'a file that the address of the admin server is written to')
    .option('--state-dir <directory>', 'keeps what control planes send, for a start without them')
    .option(
      '--workload-certs <directory>',
      'gets the certificate of this workload from an Istio CA (CA_ADDRESS, POD_NAMESPACE, SERVICE_ACCOUNT, ...) or a ' +
        'SPIFFE agent (SPIFFE_ENDPOINT_SOCKET), and keeps it there',
    )
    .option('--service-node <id>', 'the id of this node, whatever the bootstrap says')
    .option('--service-cluster <name>', 'the cluster of this node, whatever the bootstrap says')
    .option('--service-zone <zone>', 'the zone of this node, whatever the bootstrap says')
    .option('--reject-unknown-dynamic-fields', 'refuses resources with fields that nobody knows')
    .option('--ignore-unknown-dynamic-fields', 'takes resources with fields that nobody knows without a word')
    .option('--base-id-path <file>', 'a file that a base id is written to')
    .option('--hot-restart-version', 'print the version of hot restarts')
    .addOption(new Option('--bootstrap-version <n>', 'of the API: 3').choices(['3']))
    .addOption(
      new Option('--mode <mode>', 'init_only ends when the gateway is ready')
        .choices(['serve', 'validate', 'init_only'])
        .default('serve'),
    )
    .allowExcessArguments(false)
  acceptWithoutEffect(command)
  return command.action((flags: RunFlags) => action(wishOf(flags, command, bare)))
}

/** How many processes there are, and how they end. */
function processOptions(command: Command): Command {
  return command
    .option('--workers <n>', 'processes that carry traffic: a number, or auto for one per core', parseWorkers, 1)
    .option('--concurrency <n>', 'the same, as Envoy counts: 0 is 1', parseConcurrency)
    .option('--drain-time-s <n>', 'how long requests may take to end after SIGTERM', parseSeconds, 25)
    .option(
      '--drain-min-time-s <n>',
      'of that, how long connections are still taken while /ready says no: the time that load balancers need to notice',
      parseSeconds,
      0,
    )
    .addOption(
      new Option(
        '--drain-strategy <strategy>',
        'connections are told to go all at once, or bit by bit over the drain time',
      )
        .choices(['gradual', 'immediate'])
        .default('immediate'),
    )
    .option(
      '--parent-shutdown-time-s <n>',
      'how long a worker that was replaced may take to end (default: as --drain-time-s)',
      parseSeconds,
    )
    .option(
      '--spare-worker',
      'keeps one more worker process in reserve, which takes the place of one that dies at once',
    )
}

function acceptWithoutEffect(command: Command): void {
  for (const { flags, description, choices, repeated } of FLAGS_WITHOUT_EFFECT) {
    const option = new Option(flags, `without effect: ${description}`).hideHelp()
    if (choices !== undefined) option.choices([...choices])
    if (repeated) option.argParser((value, before: readonly string[] = []) => [...before, value])
    command.addOption(option)
  }
}

function wishOf(flags: RunFlags, command: Command, bare: boolean): RunWish {
  if (flags.hotRestartVersion) return { kind: 'hot-restart-version' }
  const { config = '', configPath = config, configYaml = '', concurrency, mode } = flags
  if (config !== '' && configPath !== config) command.error('error: give either --config or --config-path')
  if ((bare || mode === 'validate') && configPath === '' && configYaml === '') {
    command.error('error: give --config-path or --config-yaml')
  }
  const { rejectUnknownDynamicFields: reject, ignoreUnknownDynamicFields: ignore } = flags
  if (reject && ignore) {
    command.error('error: give either --reject-unknown-dynamic-fields or --ignore-unknown-dynamic-fields')
  }
  if (flags.drainMinTimeS > flags.drainTimeS) {
    command.error('error: --drain-min-time-s must not be larger than --drain-time-s')
  }
  // Of the two, whichever was given; a bare command line is one of Envoy's, whose default are all cores.
  const given = command.getOptionValueSource('workers') !== 'default'
  const cores = Math.min(MAX_WORKERS, availableParallelism())
  const workers = concurrency ?? (given || !bare ? flags.workers : cores)
  return {
    kind: mode === 'validate' ? 'validate' : 'run',
    options: {
      configPath,
      configYaml,
      workers,
      drainTimeS: flags.drainTimeS,
      drainMinTimeS: flags.drainMinTimeS,
      drainStrategy: flags.drainStrategy,
      spareWorker: flags.spareWorker === true,
      parentShutdownTimeS: flags.parentShutdownTimeS ?? flags.drainTimeS,
      logLevel: flags.logLevel,
      adminAddress: flags.adminAddress ?? '',
      adminAddressPath: flags.adminAddressPath ?? '',
      stateDir: flags.stateDir ?? '',
      workloadCerts: flags.workloadCerts ?? '',
      serviceNode: flags.serviceNode ?? '',
      serviceCluster: flags.serviceCluster ?? '',
      serviceZone: flags.serviceZone ?? '',
      unknownFields: reject ? 'reject' : ignore ? 'ignore' : '',
      initOnly: mode === 'init_only',
      baseIdPath: flags.baseIdPath ?? '',
      commandLine: givenFlags(command),
      withoutEffect: withoutEffect(command),
    },
  }
}

/** As Envoy's `CommandLineOptions` call them. */
function givenFlags(command: Command): { readonly [flag: string]: string } {
  const given: Record<string, string> = {}
  for (const option of command.options) {
    const name = option.attributeName()
    if (command.getOptionValueSource(name) !== 'cli') continue
    given[option.name().replaceAll('-', '_')] = String(command.getOptionValue(name))
  }
  return given
}

function withoutEffect(command: Command): string[] {
  const names = new Set(FLAGS_WITHOUT_EFFECT.map(({ flags }) => flags.split(' ')[0]))
  return command.options
    .filter(({ long }) => long !== undefined && long !== null && names.has(long))
    .filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli')
    .filter((option) => !SILENT_FLAGS.has(option.name()))
    .map(({ long }) => long as string)
}

function parseWorkers(text: string): number {
  if (text === 'auto') return availableParallelism()
  return parseWhole(text, 1, MAX_WORKERS, 'auto or a whole number')
}

function parseConcurrency(text: string): number {
  return Math.max(1, parseWhole(text, 0, MAX_WORKERS, 'a whole number'))
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
