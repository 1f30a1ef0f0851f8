import { readFile } from 'node:fs/promises'
import type { Clock } from '../../../core/clock.ts'
import type { HostsFile } from './hosts-file.ts'
import { parseHostsFile } from './hosts-file.ts'
import type { ResolvConf } from './resolv-conf.ts'
import { DEFAULT_RESOLV_CONF, parseResolvConf } from './resolv-conf.ts'

/** How long what was read is taken to hold. */
const FRESH_MS = 5_000

export interface SystemNames {
  readonly hosts: HostsFile
  readonly conf: ResolvConf
}

/** Rejects where there is no such file. */
export type ReadText = (path: string) => Promise<string>

/** Reads /etc/hosts and /etc/resolv.conf, again when they were read more than 5 s ago. A missing file is an empty one. */
export class SystemFiles {
  readonly #clock: Clock
  readonly #readText: ReadText
  #loading: Promise<SystemNames> | undefined = undefined
  #loadedMs = 0

  constructor(clock: Clock, readText: ReadText = (path) => readFile(path, 'utf8')) {
    this.#clock = clock
    this.#readText = readText
  }

  /** Calls at the same time share one reading. */
  load(): Promise<SystemNames> {
    const nowMs = this.#clock.now()
    if (this.#loading !== undefined && nowMs - this.#loadedMs < FRESH_MS) return this.#loading
    this.#loadedMs = nowMs
    this.#loading = this.#read()
    return this.#loading
  }

  async #read(): Promise<SystemNames> {
    const [hosts, conf] = await Promise.all([this.#text('/etc/hosts'), this.#text('/etc/resolv.conf')])
    return { hosts: parseHostsFile(hosts), conf: conf === '' ? DEFAULT_RESOLV_CONF : parseResolvConf(conf) }
  }

  async #text(path: string): Promise<string> {
    try {
      return await this.#readText(path)
    } catch {
      return ''
    }
  }
}
