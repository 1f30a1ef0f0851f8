import { readFileSync } from 'node:fs'

/** `+`: it has its effect. `-`: it is reported as without effect. Anything else: why it is refused. */
export type Verdict = string

/** Of an enum with values that come to something else: the verdict of the others, and theirs. */
export type FieldVerdict = Verdict | readonly [Verdict, Readonly<Record<string, Verdict>>]

/** The fields of one message type by name, in the order of Envoy's API. */
export type FieldVerdicts = Readonly<Record<string, FieldVerdict>>

/** Where the fields of a message come to something else than in most places; those that do alone. */
export interface Exception {
  /** `type.field`, or the type of an extension or resource itself; `within` a resource or extension, if not in others. */
  readonly in: readonly string[]
  readonly fields: FieldVerdicts
}

export interface MessageCapabilities {
  readonly fields: FieldVerdicts
  readonly except?: readonly Exception[]
}

/** What becomes of one type of extension; `except` by the place, as in `Exception.in`. */
export interface ExtensionCapabilities {
  readonly verdict: Verdict
  readonly except?: Readonly<Record<string, Verdict>>
}

/**
 * What this version makes of Envoy's API, found by setting every field of every message that is reached and asking the
 * translators. Only what is accepted is looked into.
 */
export interface Capabilities {
  /** Full names of the types that are documents of their own: the bootstrap and the resources. */
  readonly roots: readonly string[]
  /** By extension point, then by full type name. */
  readonly extensions: Readonly<Record<string, Readonly<Record<string, ExtensionCapabilities>>>>
  /** By full type name. */
  readonly messages: Readonly<Record<string, MessageCapabilities>>
}

/** The checked-in table. */
export function readCapabilities(): Capabilities {
  return JSON.parse(readFileSync(new URL('./table.json', import.meta.url), 'utf8')) as Capabilities
}

/** The part that is about types whose full name contains a text. */
export function selectCapabilities(table: Capabilities, text: string): Capabilities {
  const matches = (type: string): boolean => type.toLowerCase().includes(text.toLowerCase())
  const extensions = Object.entries(table.extensions).map(([point, types]) => {
    return [point, Object.fromEntries(Object.entries(types).filter(([type]) => matches(type)))] as const
  })
  return {
    roots: table.roots.filter(matches),
    extensions: Object.fromEntries(extensions.filter(([, types]) => Object.keys(types).length > 0)),
    messages: Object.fromEntries(Object.entries(table.messages).filter(([type]) => matches(type))),
  }
}

/** The verdict of a field as a whole. */
export function verdictOf(field: FieldVerdict): Verdict {
  return typeof field === 'string' ? field : field[0]
}
