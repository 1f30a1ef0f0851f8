import { isIP } from 'node:net'
import type { Address } from '../core/address.ts'
import type { Settings } from '../runtime/messages.ts'
import type { BootstrapSource } from './bootstrap-document.ts'

/**
 * What the command line says to the processes that it starts; plain data, since it crosses to them. Without a path and
 * without YAML the built-in configuration is asked for.
 */
export interface RunSettings extends BootstrapSource {
  /** Port of the demo upstream; 0 where there is none. */
  readonly demoPort: number
  /** pino level name. */
  readonly logLevel: string
  /** Overrides the configuration's; '' where it does not. */
  readonly adminAddress: string
  readonly drainTimeS: number
  /** Whether connections are told to go all at once, or one after the other over the drain time. */
  readonly drainStrategy: 'gradual' | 'immediate'
  /** Where what control planes have sent is kept for the next start; '' where it is not. */
  readonly stateDir: string
  /** Where the certificate of this workload is kept; '' where it has none. */
  readonly workloadCerts: string
  /** A file that the address of the admin server is written to; '' for none. */
  readonly adminAddressPath: string
  /** Of resources that are delivered, fields that nobody knows; as Envoy's flags. */
  readonly unknownFields: '' | 'reject' | 'ignore'
  /** Flags as they were given, for `/server_info`. */
  readonly commandLine: { readonly [flag: string]: string }
}

const DEFAULTS: RunSettings = Object.freeze({
  configPath: '',
  configYaml: '',
  serviceNode: '',
  serviceCluster: '',
  serviceZone: '',
  demoPort: 0,
  logLevel: 'info',
  adminAddress: '',
  adminAddressPath: '',
  drainTimeS: 25,
  drainStrategy: 'immediate',
  stateDir: '',
  workloadCerts: '',
  unknownFields: '',
  commandLine: Object.freeze({}),
})

/** What is left out is as it is without flags. */
export function toSettings(settings: Partial<RunSettings>): Settings {
  return { ...DEFAULTS, ...settings }
}

/** The reverse of `toSettings`: both ends are of one version. */
export function fromSettings(settings: Settings): RunSettings {
  return {
    configPath: String(settings.configPath),
    demoPort: Number(settings.demoPort),
    logLevel: String(settings.logLevel),
    adminAddress: String(settings.adminAddress),
    drainTimeS: Number(settings.drainTimeS),
    drainStrategy: settings.drainStrategy === 'gradual' ? 'gradual' : 'immediate',
    configYaml: String(settings.configYaml),
    serviceNode: String(settings.serviceNode),
    serviceCluster: String(settings.serviceCluster),
    serviceZone: String(settings.serviceZone),
    stateDir: String(settings.stateDir),
    workloadCerts: String(settings.workloadCerts),
    adminAddressPath: String(settings.adminAddressPath),
    unknownFields: String(settings.unknownFields) as RunSettings['unknownFields'],
    commandLine: settings.commandLine as RunSettings['commandLine'],
  }
}

/** `127.0.0.1:15000`, `[::1]:15000` or the path of a Unix socket (`/...` or `@...`); undefined for anything else. */
export function parseAddress(text: string): Address | undefined {
  if (/^[/@]./.test(text)) return { kind: 'pipe', path: text }
  const parts = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text)
  if (parts === null) return undefined
  const host = parts[1] ?? parts[2]
  const port = Number(parts[3])
  if (isIP(host) !== (parts[1] === undefined ? 4 : 6) || port > 65_535) return undefined
  return { kind: 'ip', host, port }
}
