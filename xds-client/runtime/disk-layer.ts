import { type Dirent, lstatSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
import type { RuntimeLayerConfig } from '../config.ts'
import { type LayerValues, parseEntry } from './entries.ts'

export type DiskLayerConfig = Extract<RuntimeLayerConfig, { kind: 'disk' }>

/** Envoy's, so that a link that leads back to where it is comes to an end. */
const MAX_DEPTH = 16
/** Two such links in one directory would end after 65,536 rounds: more entries than any layer has end it before. */
const MAX_ENTRIES = 100_000
const MAX_FILE_BYTES = 1024 * 1024

/** Where the files of a disk layer are. */
export function diskLayerPath(layer: DiskLayerConfig, serviceCluster: string): string {
  const path = `${layer.symlinkRoot}/${layer.subdirectory}`
  return layer.appendServiceCluster ? `${path}/${serviceCluster}` : path
}

/**
 * The values of a directory tree: each file is an entry, the directories on the way to it and its name are the key. Lines
 * that begin with `#` are comments. Undefined where there is no such directory, which is no mistake.
 *
 * @throws Error where anything in there cannot be read or is no value: nothing of the layer is used then, as in Envoy.
 */
export function readDiskLayer(path: string): LayerValues | undefined {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) return undefined
  const walk: Walk = { values: new Map(), entries: 0 }
  walkDirectory(path, '', 1, walk)
  return walk.values
}

interface Walk {
  readonly values: LayerValues
  entries: number
}

function walkDirectory(path: string, prefix: string, depth: number, walk: Walk): void {
  if (depth > MAX_DEPTH) throw new Error(`${path}: is nested deeper than ${MAX_DEPTH} directories`)
  const real = realpathSync(path)
  if (/^\/(?:dev|proc|sys)(?:\/|$)/.test(real)) throw new Error(`${path}: leads to ${real}, which holds no values`)
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (++walk.entries > MAX_ENTRIES)
      throw new Error(`${path}: there are more than ${MAX_ENTRIES} entries in the layer`)
    const inner = `${path}/${entry.name}`
    const key = prefix === '' ? entry.name : `${prefix}.${entry.name}`
    const kind = kindOf(inner, entry)
    if (kind === 'directory') walkDirectory(inner, key, depth + 1, walk)
    else if (kind === 'file') walk.values.set(key, readEntry(inner))
  }
}

/** Links count as what they lead to; one that leads nowhere is passed over, as are sockets and devices. */
function kindOf(path: string, entry: Dirent): 'directory' | 'file' | 'other' {
  const stat = entry.isSymbolicLink() ? statSync(path, { throwIfNoEntry: false }) : entry
  return stat?.isDirectory() === true ? 'directory' : stat?.isFile() === true ? 'file' : 'other'
}

function readEntry(path: string): ReturnType<typeof parseEntry> {
  const { size } = statSync(path)
  if (size > MAX_FILE_BYTES) throw new Error(`${path}: is too large: ${size} bytes, limit ${MAX_FILE_BYTES}`)
  const lines = readFileSync(path, 'utf8').split('\n')
  const text = lines.filter((line) => line !== '' && !line.startsWith('#')).join('\n')
  try {
    return parseEntry(text.trimEnd())
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** Tells one link from the one that replaces it; '' where there is none. */
export function linkIdentity(path: string): string {
  try {
    const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false })
    return stat === undefined ? '' : `${stat.dev}:${stat.ino}:${stat.ctimeNs}`
  } catch {
    return ''
  }
}
