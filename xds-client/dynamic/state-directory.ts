import { createHash } from 'node:crypto'
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Log } from '../../lib/core/metrics.ts'
import { decodeState, encodeState, type StateIdentity, type StateRecord } from './state-file.ts'

/** Larger files are neither written nor read. */
const LIMIT_BYTES = 256 * 1024 * 1024

/** Keys and certificates are among what is kept. */
const FILE_MODE = 0o600
const DIRECTORY_MODE = 0o700

/** Files on their way, with the process that writes them. */
const UNFINISHED = /^[a-z]+-[0-9a-f]{16}\.state\.\d+\.(?:new|last)$/
/** Of a process that has ended: no file takes that long. */
const UNFINISHED_MS = 600_000

/**
 * A directory with one file for each type of resources of each source; none where there are no resources. Replaced as a
 * whole, never written in place.
 */
export class StateDirectory {
  readonly #path: string
  readonly #log: Log
  /** Written for the last time: what was on its way before is not to replace it. */
  readonly #final = new Set<string>()

  constructor(path: string, log: Log) {
    this.#path = path
    this.#log = log
    try {
      mkdirSync(path, { recursive: true, mode: DIRECTORY_MODE })
      this.#sweep()
    } catch (error) {
      this.#warn('the state directory cannot be made', path, error)
    }
  }

  /** Undefined where there is no file, or none that can be used. */
  read(identity: StateIdentity): StateRecord[] | undefined {
    const path = this.#file(identity)
    try {
      const stat = statSync(path, { throwIfNoEntry: false })
      if (stat === undefined) return undefined
      if (stat.size > LIMIT_BYTES) throw new Error(`it has ${stat.size} bytes, the limit is ${LIMIT_BYTES}`)
      return decodeState(readFileSync(path), identity)
    } catch (error) {
      this.#warn('a file of the state directory is ignored', path, error)
      return undefined
    }
  }

  /** Resolves when it is on disk, or could not be written, which is told. */
  async write(identity: StateIdentity, records: readonly StateRecord[]): Promise<void> {
    const path = this.#file(identity)
    const temporary = `${path}.${process.pid}.new`
    try {
      if (records.length === 0) {
        rmSync(path, { force: true })
        return
      }
      const bytes = this.#encode(identity, records)
      rmSync(temporary, { force: true })
      const file = await open(temporary, 'wx', FILE_MODE)
      try {
        await file.writeFile(bytes)
        await file.sync()
      } finally {
        await file.close()
      }
      if (this.#final.has(path)) rmSync(temporary, { force: true })
      else renameSync(temporary, path)
    } catch (error) {
      rmSync(temporary, { force: true })
      this.#warn('a file of the state directory cannot be written', path, error)
    }
  }

  /** The same at once: before the process ends. */
  writeNow(identity: StateIdentity, records: readonly StateRecord[]): void {
    const path = this.#file(identity)
    const temporary = `${path}.${process.pid}.last`
    this.#final.add(path)
    try {
      if (records.length === 0) {
        rmSync(path, { force: true })
        return
      }
      const bytes = this.#encode(identity, records)
      rmSync(temporary, { force: true })
      const file = openSync(temporary, 'wx', FILE_MODE)
      try {
        writeAll(file, bytes)
        fsyncSync(file)
      } finally {
        closeSync(file)
      }
      renameSync(temporary, path)
    } catch (error) {
      rmSync(temporary, { force: true })
      this.#warn('a file of the state directory cannot be written', path, error)
    }
  }

  /** What processes that were killed have left: keys and certificates are among it. */
  #sweep(): void {
    for (const name of readdirSync(this.#path)) {
      if (!UNFINISHED.test(name)) continue
      const path = join(this.#path, name)
      const stat = statSync(path, { throwIfNoEntry: false })
      if (stat !== undefined && Date.now() - stat.mtimeMs > UNFINISHED_MS) rmSync(path, { force: true })
    }
  }

  #encode(identity: StateIdentity, records: readonly StateRecord[]): Buffer {
    const chunks = encodeState(identity, records)
    const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
    if (bytes > LIMIT_BYTES) throw new Error(`it would have ${bytes} bytes, the limit is ${LIMIT_BYTES}`)
    return Buffer.concat(chunks)
  }

  #file({ typeName, source, node }: StateIdentity): string {
    const id = createHash('sha256')
      .update(JSON.stringify([typeName, source, node]))
      .digest('hex')
      .slice(0, 16)
    return join(this.#path, `${typeName.slice(typeName.lastIndexOf('.') + 1).toLowerCase()}-${id}.state`)
  }

  #warn(message: string, file: string, error: unknown): void {
    this.#log.warn(message, { file, reason: error instanceof Error ? error.message : String(error) })
  }
}

function writeAll(file: number, bytes: Buffer): void {
  let at = 0
  while (at < bytes.length) at += writeSync(file, bytes, at)
}
