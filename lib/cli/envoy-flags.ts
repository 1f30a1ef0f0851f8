/** What Envoy's flag does here. */
export interface EnvoyFlag {
  /** As commander writes it. */
  readonly flags: string
  readonly description: string
  /** Values that it may have; undefined: any. */
  readonly choices?: readonly string[]
  /** It may be given more than once. */
  readonly repeated?: true
}

function flag(flags: string, description: string, choices?: readonly string[]): EnvoyFlag {
  return Object.freeze({ flags, description, ...(choices && { choices }) })
}

const NO_RESTART = 'of hot restarts, which do not exist here'

/** Flags that launchers of Envoy pass, and that mean nothing here: taken, and told in the log. */
export const FLAGS_WITHOUT_EFFECT: readonly EnvoyFlag[] = Object.freeze([
  flag('--allow-unknown-fields', 'unknown fields of the bootstrap are refused'),
  flag('--allow-unknown-static-fields', 'unknown fields of the bootstrap are refused'),
  flag('--base-id <n>', NO_RESTART),
  flag('--component-log-level <list>', 'there is one level for all'),
  flag('--cpuset-threads', 'the number of cores that this process may use counts anyway'),
  flag('--disable-extensions <list>', 'filters cannot be switched off'),
  flag('--disable-hot-restart', NO_RESTART),
  flag('--enable-core-dump', 'ask the system for core dumps'),
  flag('--enable-fine-grain-logging', 'there is one level for all'),
  flag('--enable-mutex-tracing', 'there are no mutexes'),
  flag('--file-flush-interval-msec <n>', 'access logs are written soon in any case'),
  flag('--file-flush-min-size-kb <n>', 'access logs are written soon in any case'),
  flag('--local-address-ip-version <version>', 'the address of this machine is not looked up', ['v4', 'v6']),
  flag('--log-format <format>', 'the application log is lines of JSON'),
  flag('--log-format-escaped', 'the application log is lines of JSON'),
  flag('--log-path <file>', 'the application log goes to standard error'),
  flag('--restart-epoch <n>', NO_RESTART),
  flag('--skip-hot-restart-on-no-parent', NO_RESTART),
  flag('--skip-hot-restart-parent-stats', NO_RESTART),
  flag('--socket-mode <mode>', NO_RESTART),
  flag('--socket-path <path>', NO_RESTART),
  Object.freeze({ ...flag('--stats-tag <tag>', 'statistics have the tags of Envoy'), repeated: true as const }),
  flag('--use-dynamic-base-id', NO_RESTART),
])

/** Those of them whose absence of effect is what was asked for: nothing to tell. */
export const SILENT_FLAGS: ReadonlySet<string> = new Set(['disable-hot-restart', 'base-id', 'use-dynamic-base-id'])
