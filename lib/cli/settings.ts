import { isIP } from 'node:net'
import type { Address } from '../core/address.ts'
import type { Settings } from '../runtime/messages.ts'

/** What the command line says to the processes that it starts; plain data, since it crosses to them. */
export interface RunSettings {
  /** '' where the built-in configuration is asked for. */
  readonly configPath: string
  /** Port of the demo upstream; 0 where there is none. */
  readonly demoPort: number
  /** pino level name. */
  readonly logLevel: string
  /** Overrides the configuration's; '' where it does not. */
  readonly adminAddress: string
  readonly drainTimeS: number
}

export function toSettings(settings: RunSettings): Settings {
  return { ...settings }
}

/** The reverse of `toSettings`: both ends are of one version. */
export function fromSettings(settings: Settings): RunSettings {
  return {
    configPath: String(settings.configPath),
    demoPort: Number(settings.demoPort),
    logLevel: String(settings.logLevel),
    adminAddress: String(settings.adminAddress),
    drainTimeS: Number(settings.drainTimeS),
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
