import type { ExtensionReader } from '../../lib/core/field-reader.ts'

interface Named {
  readonly name: string
}

/**
 * The parser of an extension: by the type of its configuration, or by name where it has none. Unlike in HTTP chains a
 * type that nobody knows is never looked up by name.
 */
export function findExtensionParser<P extends Named>(
  parsers: ReadonlyMap<string, P>,
  name: string,
  extension: ExtensionReader | undefined,
): P | undefined {
  if (extension !== undefined && extension.typeUrl !== '') return parsers.get(extension.typeUrl)
  for (const parser of parsers.values()) if (parser.name === name) return parser
  return undefined
}
