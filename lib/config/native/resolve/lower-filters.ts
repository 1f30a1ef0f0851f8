import type { FactoryTable } from '../../../chain/factories.ts'
import type { Json, JsonObject } from '../../../core/errors.ts'
import type { FieldReader } from '../../../core/field-reader.ts'
import type { MatcherTreeConfig } from '../../../match/config.ts'
import { indexPath } from '../../../proto/path.ts'
import { looksAtTls } from '../../chain-matcher.ts'
import type { FilterChainConfig, ListenerFilterConfig, NetworkFilterConfig } from '../../listener.ts'
import { hasTlsInspector, inspectorPlace, wantsTlsInspector } from '../../tls-inspector.ts'
import { isFactory } from '../factories.ts'
import type { NativeListenerFilter, NativeNetworkFilter } from '../listeners.ts'
import { findByWord, parseFields } from './factories.ts'
import type { Reading } from './reading.ts'

interface Factory {
  readonly name: string
  readonly typeUrls: readonly string[]
  /** Of listener filters: why only internal listeners can have it. */
  readonly internalOnly?: string
  parse(fields: FieldReader): unknown
}

interface Written {
  readonly name?: string
  readonly type?: string
  readonly factory?: unknown
  readonly config?: JsonObject
}

export function readNetworkFilters(
  filters: readonly NativeNetworkFilter[],
  path: string,
  reading: Reading,
): NetworkFilterConfig[] {
  return readAll(filters, path, { reading, table: reading.filters.network }).map(({ config }) => config)
}

/** Whose listener filters are read. */
interface ForListener {
  readonly reading: Reading
  readonly chains: readonly FilterChainConfig[]
  readonly matcher: MatcherTreeConfig<string> | undefined
  readonly internal: boolean
}

/** With the TLS inspector where filter chains are chosen by what it finds. */
export function readListenerFilters(
  filters: readonly NativeListenerFilter[],
  path: string,
  { reading, chains, matcher, internal }: ForListener,
): ListenerFilterConfig[] {
  const table = reading.filters.listener
  const read: ListenerFilterConfig[] = readAll(filters, path, { reading, table }).map(({ config, index }) => {
    const { disabledFor } = filters[index]
    const internalOnly = table.byType.get(config.typeUrl)?.internalOnly
    if (internalOnly !== undefined && !internal) reading.findings.error(indexPath(path, index), internalOnly)
    return disabledFor === undefined
      ? config
      : reading.origins.at(indexPath(path, index), { ...config, disabledFor: structuredClone(disabledFor) })
  })
  if (wantsTlsInspector(chains, read) || (matcher !== undefined && looksAtTls(matcher) && !hasTlsInspector(read))) {
    const factory = findByWord('tls_inspector', table, { path, reading })
    if (factory !== undefined) {
      const { config } = parsed(factory, {}, { path, reading })
      read.splice(inspectorPlace(read), 0, config)
    }
  }
  return read
}

interface Read {
  readonly config: NetworkFilterConfig
  readonly index: number
}

function readAll(
  filters: readonly unknown[],
  path: string,
  { reading, table }: { readonly reading: Reading; readonly table: FactoryTable<Factory> },
): Read[] {
  const all: Read[] = []
  filters.forEach((filter, index) => {
    const at = indexPath(path, index)
    const written: Written = isFactory(filter) ? { factory: filter } : (filter as Written)
    const factory = factoryOf(written, table, { path: at, reading })
    if (factory === undefined) return
    const { config } = parsed(factory, written, { path: at, reading })
    all.push({ config: reading.origins.at(at, config), index })
  })
  return all
}

interface Part {
  readonly path: string
  readonly reading: Reading
}

function factoryOf(written: Written, table: FactoryTable<Factory>, part: Part): Factory | undefined {
  if (written.factory === undefined) return findByWord(written.type ?? written.name ?? '', table, part)
  const factory = written.factory as Factory
  // Workers and snapshots compile by type: a factory that the gateway was not made with cannot be used.
  if (table.byType.get(factory.typeUrls[0]) === factory) return factory
  part.reading.findings.error(part.path, `the factory "${factory.name}" is not one that this gateway was created with`)
  return undefined
}

function parsed(
  factory: Factory,
  { name = factory.name, config = {} }: Written,
  { path, reading }: Part,
): { readonly config: NetworkFilterConfig } {
  const [typeUrl] = factory.typeUrls
  const value = parseFields({ path: `${path}.config`, typeUrl, config }, reading, (reader) => factory.parse(reader))
  return { config: { name, typeUrl, config: value as Json } }
}
