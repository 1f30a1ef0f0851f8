import {
  type Alias,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml'
import { ConfigError, ConfigRefused, type Json, type JsonObject, type Place } from '../core/errors.ts'

/** More levels than any configuration has, fewer than recursion can bear. */
export const MAX_NESTING = 500
/**
 * How many values aliases may add to those that stand in the text: enough for any real sharing, and little enough that
 * whoever walks the result is done in a second. Ten times the text's own values are allowed where that is more.
 */
const MAX_ALIASED_VALUES = 100_000

/**
 * The value of one YAML 1.2 document (core schema, merge keys). Aliased parts are shared objects in the result.
 *
 * The conversion is ours because that of the library takes quadratic time for aliases and for wide mappings.
 *
 * @throws ConfigRefused with every mistake and its place.
 */
export function readYaml(text: string, file: string): Json {
  const lines = new LineCounter()
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset)
    return { file, line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  const reader = new YamlReader(place)
  let value: Json = null
  try {
    const document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: false,
      uniqueKeys: false,
      logLevel: 'error',
    })
    for (const { code, message, pos } of [...document.errors, ...document.warnings]) {
      reader.error(pos[0], code === 'MULTIPLE_DOCS' ? 'only one document is allowed in a file' : message)
    }
    if (document.contents === null) reader.error(0, 'the file is empty')
    else value = reader.read(document.contents)
  } catch (cause) {
    // The library recurses; only nesting that no configuration has can exhaust the stack.
    if (!(cause instanceof RangeError)) throw cause
    reader.error(0, 'is nested too deeply')
  }
  if (reader.errors.length > 0) throw new ConfigRefused(reader.errors)
  return value
}

/** What an anchor stands for, and how many values that is once written out; undefined while it is being read. */
type Anchored = { readonly value: Json; readonly size: number } | undefined

class YamlReader {
  readonly errors: ConfigError[] = []
  readonly #place: (offset: number) => Place
  /** The latest node with each anchor's name, as YAML 1.2 §3.2.2.2 resolves aliases. */
  readonly #anchors = new Map<string, Anchored>()
  /** Values in the text, and values with all aliases written out. */
  #written = 0
  #expanded = 0
  #depth = 0
  #exploded = false

  constructor(place: (offset: number) => Place) {
    this.#place = place
  }

  error(offset: number, message: string): void {
    this.errors.push(new ConfigError('', message, this.#place(offset)))
  }

  read(node: unknown): Json {
    if (isAlias(node)) return this.#alias(node)
    const anchor = (node as (Node & { anchor?: string }) | null)?.anchor
    const before = this.#expanded
    if (anchor !== undefined) this.#anchors.set(anchor, undefined)
    this.#written++
    this.#expanded++
    const value = this.#content(node)
    if (anchor !== undefined) this.#anchors.set(anchor, { value, size: this.#expanded - before })
    return value
  }

  #content(node: unknown): Json {
    if (isScalar(node)) return (node.value ?? null) as Json
    if (!isMap(node) && !isSeq(node)) return null
    if (this.#depth >= MAX_NESTING) {
      this.error(offsetOf(node), `is nested too deeply: more than ${MAX_NESTING} levels`)
      return null
    }
    this.#depth++
    const value = isMap(node) ? this.#mapping(node) : this.#sequence(node)
    this.#depth--
    return value
  }

  #sequence(node: YAMLSeq): Json[] {
    return node.items.map((item) => this.read(item))
  }

  #mapping(node: YAMLMap): JsonObject {
    const object: JsonObject = {}
    const merged = new Set<string>()
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? key.value : undefined
      if (!isScalar(key) || name === null || name === undefined) {
        this.error(offsetOf(key ?? value ?? node), 'a key must be a plain word or a string')
      } else if (name === '<<' && key.type === 'PLAIN') {
        this.#merge(object, merged, value)
      } else {
        const text = String(name)
        if (key.anchor !== undefined) this.#anchors.set(key.anchor, { value: text, size: 1 })
        if (Object.hasOwn(object, text) && !merged.delete(text))
          this.error(offsetOf(key), `the key "${text}" is there twice`)
        define(object, text, this.read(value))
      }
    }
    return object
  }

  /** `<<`: one mapping or a list of them; keys of the mapping itself win, then those of earlier ones in the list. */
  #merge(object: JsonObject, merged: Set<string>, node: unknown): void {
    const value = this.read(node)
    for (const source of Array.isArray(value) ? value : [value]) {
      if (typeof source !== 'object' || source === null || Array.isArray(source)) {
        this.error(offsetOf(node), 'only mappings can be merged with <<')
        return
      }
      for (const key of Object.keys(source)) {
        if (Object.hasOwn(object, key)) continue
        define(object, key, source[key])
        merged.add(key)
      }
    }
  }

  #alias(node: Alias): Json {
    const name = node.source
    const target = this.#anchors.get(name)
    if (target === undefined) {
      const why = this.#anchors.has(name) ? 'stands inside its own anchor' : 'has no anchor before it'
      this.error(offsetOf(node), `the alias *${name} ${why}`)
      return null
    }
    this.#expanded += target.size
    const limit = Math.max(MAX_ALIASED_VALUES, this.#written * 10)
    if (this.#expanded - this.#written > limit && !this.#exploded) {
      this.#exploded = true
      this.error(offsetOf(node), `the aliases up to *${name} stand for more than ${limit} values`)
    }
    return target.value
  }
}

/** Plain assignment would change the prototype for one name. */
function define(object: JsonObject, key: string, value: Json): void {
  if (key === '__proto__') {
    Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true })
  } else {
    object[key] = value
  }
}

/** Where a node begins in the text; 0 for nodes that have no text of their own. */
function offsetOf(node: unknown): number {
  return (node as { range?: [number, number, number] | null } | null)?.range?.[0] ?? 0
}
