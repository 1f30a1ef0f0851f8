import type { Json, JsonObject } from '../../../core/errors.ts'
import type { FieldReader } from '../../../core/field-reader.ts'
import { createJsonReader } from '../../../proto/json-reader.ts'
import { didYouMean } from '../../../proto/suggest.ts'
import type { Reading } from './reading.ts'

interface Named {
  readonly name: string
}

/** Factories of one kind of filter. */
export interface Known<F> {
  readonly factories: readonly F[]
  readonly byType: ReadonlyMap<string, F>
}

/** A factory by its name, by the last word of its name, or by the type of its configuration. */
export function findByWord<F extends Named>(
  word: string,
  { factories, byType }: Known<F>,
  { path, reading }: { readonly path: string; readonly reading: Reading },
): F | undefined {
  const typed = byType.get(word.replace(/^type\.googleapis\.com\//, ''))
  if (typed !== undefined) return typed
  const exact = factories.find((factory) => factory.name === word)
  if (exact !== undefined) return exact
  const short = factories.filter((factory) => shortName(factory) === word)
  if (short.length === 1) return short[0]
  const names = factories.map(shortName)
  reading.findings.error(
    path,
    short.length > 1
      ? `"${word}" may be any of ${short.map((factory) => factory.name).join(', ')}: use the whole name as type`
      : `no filter is called "${word}"${didYouMean(word, names)}; this gateway has ${names.join(', ')}`,
  )
  return undefined
}

function shortName({ name }: Named): string {
  return name.slice(name.lastIndexOf('.') + 1)
}

interface Fields {
  readonly path: string
  readonly typeUrl: string
  readonly config: JsonObject
}

/** Reads JSON by a factory's own parser; what it does not read is an unknown field. */
export function parseFields(
  { path, typeUrl, config }: Fields,
  reading: Reading,
  parse: (reader: FieldReader) => unknown,
): Json {
  const { reader, finish } = createJsonReader({
    findings: reading.findings,
    value: structuredClone(config),
    path,
    typeName: typeUrl,
  })
  const value = parse(reader)
  finish()
  return value as Json
}
