import { createHash } from 'node:crypto'
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, statSync, writevSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { Log } from '../../lib/core/metrics.ts'
import { decodeState, encodeState, type StateIdentity, type StateRecord } from './state-file.ts'

/** Larger files are neither written nor read. */
const LIMIT_BYTES = 256 * 1024 * 1024

/** Keys and certificates are among what is kept. */
const FILE_MODE = 0o600
const DIRECTORY_MODE = 0o700

/** A directory with one file for each type of resources of each source. Replaced as a whole, never written in place. */
export class StateDirectory {
  readonly #path: string
  readonly #log: Log

  constructor(path: string, log: Log) {
    this.#path = path
    this.#log = log
    try {
      mkdirSync(path, { recursive: true, mode: DIRECTORY_MODE })
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
      const chunks = this.#encode(identity, records)
      const file = await open(temporary, 'w', FILE_MODE)
      try {
        await file.writev(chunks)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(temporary, path)
    } catch (error) {
      this.#warn('a file of the state directory cannot be written', path, error)
    }
  }

  /** The same at once: before the process ends. */
  writeNow(identity: StateIdentity, records: readonly StateRecord[]): void {
    const path = this.#file(identity)
    const temporary = `${path}.${process.pid}.last`
    try {
      const chunks = this.#encode(identity, records)
      const file = openSync(temporary, 'w', FILE_MODE)
      try {
        writeAll(file, chunks)
        fsyncSync(file)
      } finally {
        closeSync(file)
      }
      renameSync(temporary, path)
    } catch (error) {
      this.#warn('a file of the state directory cannot be written', path, error)
    }
  }

  /** In pieces that the system takes whole. */
  #encode(identity: StateIdentity, records: readonly StateRecord[]): Buffer[] {
    const chunks = encodeState(identity, records)
    const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
    if (bytes > LIMIT_BYTES) throw new Error(`it would have ${bytes} bytes, the limit is ${LIMIT_BYTES}`)
    return [Buffer.concat(chunks)]
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

function writeAll(file: number, chunks: readonly Buffer[]): void {
  for (const chunk of chunks) {
    let at = 0
    while (at < chunk.length) at += writevSync(file, [chunk.subarray(at)])
  }
}
