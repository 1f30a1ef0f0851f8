/** A name of the form `xdstp://authority/type/id?context`, taken apart. */
export interface XdstpName {
  readonly authority: string
  readonly typeName: string
  /** As it is written, still percent-encoded. */
  readonly id: string
  /** Sorted by key. */
  readonly context: readonly (readonly [key: string, value: string])[]
  /** The id ends in `/*`, or is `*`: all resources of a collection. */
  readonly glob: boolean
}

const SCHEME = 'xdstp://'

export function isXdstp(name: string): boolean {
  return name.startsWith(SCHEME)
}

/** Undefined where it is not of that form (xRFC TP1). Directives (behind `#`) are no part of a name. */
export function parseXdstp(name: string): XdstpName | undefined {
  const match = /^xdstp:\/\/([^/?#]*)\/([^/?#]+)(?:\/([^?#]*))?(?:\?([^#]*))?(?:#.*)?$/.exec(name)
  if (match === null) return undefined
  const [, authority, typeName, id = '', query = ''] = match
  const context = query
    .split('&')
    .filter((part) => part !== '')
    .map((part): readonly [string, string] => {
      const at = part.indexOf('=')
      return at < 0 ? [part, ''] : [part.slice(0, at), part.slice(at + 1)]
    })
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
  return { authority, typeName, id, context, glob: id === '*' || id.endsWith('/*') }
}

/**
 * The spelling under which a resource is known: of `xdstp:` names with sorted context parameters and without directives, all
 * other names are as they are.
 */
export function canonicalName(name: string): string {
  if (!isXdstp(name)) return name
  const parsed = parseXdstp(name)
  return parsed === undefined ? name : formatXdstp(parsed)
}

/** True for names that stand for all resources of a collection. */
export function isGlob(name: string): boolean {
  return isXdstp(name) && parseXdstp(name)?.glob === true
}

/** The collection that a resource of that (canonical) name belongs to, as one subscribes to it; undefined where it has none. */
export function globOf(name: string): string | undefined {
  const parsed = isXdstp(name) ? parseXdstp(name) : undefined
  if (parsed === undefined || parsed.glob) return undefined
  return formatXdstp({ ...parsed, id: `${parsed.id.slice(0, parsed.id.lastIndexOf('/') + 1)}*` })
}

/** True where these names stand for the resource: by its name, one of its aliases, as one of a collection or of all. */
export function covers(names: { has(name: string): boolean }, name: string, aliases: readonly string[]): boolean {
  if (names.has('*') || names.has(name)) return true
  for (const alias of aliases) if (names.has(alias)) return true
  const glob = globOf(name)
  return glob !== undefined && names.has(glob)
}

/** The spelling of a name that has been taken apart. */
export function formatXdstp({ authority, typeName, id, context }: XdstpName): string {
  const query = context.map(([key, value]) => `${key}=${value}`).join('&')
  return `${SCHEME}${authority}/${typeName}/${id}${query === '' ? '' : `?${query}`}`
}
