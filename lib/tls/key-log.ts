import { appendFile } from 'node:fs'
import { compileCidrs } from '../match/cidr.ts'
import type { KeyLogConfig } from './config.ts'

/** Both ends of a connection. */
export interface KeyLogAddresses {
  readonly local: string
  readonly remote: string
}

/** Nobody else may read it: whoever has the file can read the connections. */
const OWNER_ONLY = 0o600

function ignore(): void {}

/**
 * Writes the secrets of TLS sessions to a file, in the format of NSS, for connections between the addresses that are
 * configured. Lines are appended whole, so that processes may share the file; it is opened for each, so that it may be
 * moved away. The configuration must have passed `checkTls`.
 */
export class KeyLog {
  readonly #path: string
  readonly #local: (ip: string) => boolean
  readonly #remote: (ip: string) => boolean

  constructor({ path, localRanges, remoteRanges }: KeyLogConfig) {
    this.#path = path
    this.#local = localRanges.length === 0 ? anywhere : compileCidrs(localRanges)
    this.#remote = remoteRanges.length === 0 ? anywhere : compileCidrs(remoteRanges)
  }

  wants({ local, remote }: KeyLogAddresses): boolean {
    return this.#local(local) && this.#remote(remote)
  }

  /** A line as the runtime gives it, with its end. What cannot be written is lost: no connection ends for it. */
  write(line: Buffer): void {
    appendFile(this.#path, line, { mode: OWNER_ONLY }, ignore)
  }
}

function anywhere(): boolean {
  return true
}
