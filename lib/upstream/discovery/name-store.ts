import { open, readFile, rename, rm, stat } from 'node:fs/promises'
import { isIp } from '../../core/address.ts'
import type { Cancel, Clock } from '../../core/clock.ts'
import type { Log } from '../../core/metrics.ts'
import type { NameStoreConfig } from './config.ts'

/** A longer file is not one of ours, or of no use. */
const MAX_FILE_BYTES = 16 * 1024 * 1024

/** What a name stood for last. */
export interface StoredName {
  readonly addresses: readonly string[]
  /** Seconds since the epoch. */
  readonly atS: number
}

/**
 * Names of a forward proxy and their last good addresses, in a file that outlives the process (Envoy's file based key value
 * store, in its format: the length of each key and value before it; a value has a line `address:port|ttl|seconds` for
 * each address). Written a while after a change, whole, in place of the file before. Several processes may share a file: each
 * adds what it knows to what is there, the newest answer of a name counts, and beyond `maxEntries` the oldest go.
 */
export class NameStore {
  readonly #config: NameStoreConfig
  readonly #clock: Clock
  readonly #log: Log
  /** By `host:port`; undefined: forgotten. */
  readonly #changes = new Map<string, StoredName | undefined>()
  #timer: Cancel | undefined = undefined
  #writing: Promise<void> = Promise.resolve()
  #failing = false
  #closed = false

  constructor(config: NameStoreConfig, clock: Clock, log: Log) {
    this.#config = config
    this.#clock = clock
    this.#log = log
  }

  /** What is there, at most `maxEntries`, the newest first. Never rejects: what cannot be read is not there. */
  async load(): Promise<ReadonlyMap<string, StoredName>> {
    const { path, maxEntries } = this.#config
    try {
      return newest(await readNames(path), maxEntries)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      this.#log.warn('the stored names of a forward proxy cannot be read', { path, reason })
      return new Map()
    }
  }

  set(key: string, addresses: readonly string[]): void {
    this.#change(key, { addresses, atS: Math.floor(this.#clock.wall() / 1000) })
  }

  remove(key: string): void {
    this.#change(key, undefined)
  }

  #change(key: string, name: StoredName | undefined): void {
    if (this.#closed) return
    this.#changes.set(key, name)
    this.#timer ??= this.#clock.schedule(this.#config.flushMs, () => {
      this.#timer = undefined
      void this.flush()
    })
  }

  /** Resolves, never rejects, when what has changed by now is written, or cannot be. One at a time. */
  flush(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#write())
    return this.#writing
  }

  async #write(): Promise<void> {
    if (this.#changes.size === 0) return
    const { path, maxEntries } = this.#config
    const changes = new Map(this.#changes)
    this.#changes.clear()
    try {
      // A file that is no longer what it was is written anew.
      const names = await readNames(path).catch(() => new Map<string, StoredName>())
      for (const [key, name] of changes) {
        if (name === undefined) names.delete(key)
        else names.set(key, name)
      }
      await replaceFile(path, formatNames(newest(names, maxEntries)))
      this.#failing = false
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      // Once for each outage; what could not be written is written with the next change.
      if (!this.#failing) this.#log.warn('the names of a forward proxy cannot be stored', { path, reason })
      this.#failing = true
      for (const [key, name] of changes) if (!this.#changes.has(key)) this.#changes.set(key, name)
    }
  }

  /** What has changed is written at once. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#timer?.()
    this.#timer = undefined
    void this.flush()
  }
}

/** @throws Error of the file system, or where it is too long; a missing file is an empty one. */
async function readNames(path: string): Promise<Map<string, StoredName>> {
  try {
    const { size } = await stat(path)
    if (size > MAX_FILE_BYTES) throw new Error(`is ${size} bytes long, the limit is ${MAX_FILE_BYTES}`)
    return parseNames(await readFile(path))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map()
    throw error
  }
}

async function replaceFile(path: string, text: Buffer): Promise<void> {
  const next = `${path}.${process.pid}.tmp`
  try {
    const file = await open(next, 'w', 0o600)
    try {
      await file.writeFile(text)
    } finally {
      await file.close()
    }
    await rename(next, path)
  } catch (error) {
    await rm(next, { force: true })
    throw error
  }
}

/** Never fails: where it breaks off it ends, and what is no name with addresses is left out. */
export function parseNames(bytes: Buffer): Map<string, StoredName> {
  const names = new Map<string, StoredName>()
  let at = 0
  const token = (): string | undefined => {
    const end = bytes.indexOf(0x0a, at)
    const digits = end < 0 || end - at > 9 ? '' : bytes.toString('latin1', at, end)
    if (!/^\d+$/.test(digits) || end + 1 + Number(digits) > bytes.length) return undefined
    at = end + 1 + Number(digits)
    return bytes.toString('utf8', end + 1, at)
  }
  for (;;) {
    const key = token()
    const value = key === undefined ? undefined : token()
    if (key === undefined || value === undefined) return names
    const name = parseValue(value)
    if (name !== undefined) names.set(key, name)
  }
}

function parseValue(value: string): StoredName | undefined {
  const addresses: string[] = []
  let atS = 0
  for (const line of value.split('\n')) {
    const parts = /^(?:\[([^\]]+)\]|([^:|]+)):\d+\|\d+\|(\d{1,12})$/.exec(line)
    const address = parts?.[1] ?? parts?.[2] ?? ''
    if (parts === null || !isIp(address)) return undefined
    addresses.push(address)
    atS = Number(parts[3])
  }
  return { addresses, atS }
}

export function formatNames(names: ReadonlyMap<string, StoredName>): Buffer {
  const parts: string[] = []
  for (const [key, { addresses, atS }] of names) {
    const port = key.slice(key.lastIndexOf(':') + 1)
    const value = addresses.map((ip) => `${ip.includes(':') ? `[${ip}]` : ip}:${port}|0|${atS}`).join('\n')
    parts.push(`${Buffer.byteLength(key)}\n${key}`, `${Buffer.byteLength(value)}\n${value}`)
  }
  return Buffer.from(parts.join(''))
}

function newest(names: ReadonlyMap<string, StoredName>, limit: number): ReadonlyMap<string, StoredName> {
  const list = [...names].sort(([, a], [, b]) => b.atS - a.atS)
  return new Map(list.slice(0, limit))
}
