import { readFileSync } from 'node:fs'
import { ConfigError, ConfigRefused, type Json, type Place } from '../core/errors.ts'
import { createPlaceFinder, type PlaceFinder } from './place.ts'
import { MAX_NESTING, readYaml } from './yaml-value.ts'

/** A configuration file that was read: its value, and where in the text each part of it stands. */
export interface ParsedConfig {
  readonly value: Json
  /**
   * The place of a field, list item or map key by the path of an error; snake_case and camelCase find each other. For a
   * field that is not there it is the place of what should hold it. Undefined only where the text is not known.
   */
  place(path: string): Place | undefined
}

/** What a file may weigh; 10 MB are a very large configuration, and YAML takes 75 times its size in memory. */
const MAX_FILE_BYTES = 64 * 1024 * 1024

/** Reads a file as `parseConfigText` does. @throws ConfigRefused where it can't be read, too. */
export function readConfigFile(path: string): ParsedConfig {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (cause) {
    throw refused(path, `cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
  if (bytes.length > MAX_FILE_BYTES) throw refused(path, `is too large: ${bytes.length} bytes, limit ${MAX_FILE_BYTES}`)
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw refused(path, 'is not valid UTF-8')
  }
  return parseConfigText(text, path)
}

/**
 * Reads one document of YAML 1.2 (core schema, merge keys) or JSON. Duplicate keys, more than one document, unknown tags
 * and aliases that blow up are errors. JSON takes a fast path; places are computed only when one is asked for.
 *
 * @throws ConfigRefused with every syntax error and its place; `file` names the text in it.
 */
export function parseConfigText(text: string, file: string): ParsedConfig {
  const json = /^\s*[{[]/.test(text) ? parseStrictJson(text) : undefined
  const value = json ?? readYaml(text, file)
  let finder: PlaceFinder | undefined
  return {
    value,
    place(path: string): Place | undefined {
      finder ??= createPlaceFinder(text, file)
      return finder(path)
    },
  }
}

/** Gives each error that has no place yet the one that its path leads to. */
export function locate(errors: readonly ConfigError[], parsed: ParsedConfig): void {
  for (const error of errors) error.place ??= parsed.place(error.path)
}

function refused(file: string, message: string): ConfigRefused {
  return new ConfigRefused([new ConfigError('', message, { file, line: 1, column: 1 })])
}

/** Undefined where the text is not JSON, has a key twice, or nests too deep: the YAML parser then says where. */
function parseStrictJson(text: string): Json | undefined {
  let value: Json
  try {
    value = JSON.parse(text) as Json
  } catch {
    return undefined
  }
  const keys = countKeys(value, 0)
  return keys === countColons(text) ? value : undefined
}

/** Each member of an object has one colon outside of strings, so a key that JSON.parse has dropped shows here. */
function countColons(text: string): number {
  let colons = 0
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit === 0x3a) colons++
    else if (unit === 0x22) {
      i = text.indexOf('"', i + 1)
      while (isEscaped(text, i)) i = text.indexOf('"', i + 1)
    }
  }
  return colons
}

function isEscaped(text: string, quote: number): boolean {
  let backslashes = 0
  while (text.charCodeAt(quote - 1 - backslashes) === 0x5c) backslashes++
  return backslashes % 2 === 1
}

/** -1 where the value is nested too deep. */
function countKeys(value: Json, depth: number): number {
  if (typeof value !== 'object' || value === null) return 0
  if (depth > MAX_NESTING) return -1
  const items = Object.values(value)
  let keys = Array.isArray(value) ? 0 : items.length
  for (const item of items) {
    const inner = countKeys(item, depth + 1)
    if (inner < 0) return -1
    keys += inner
  }
  return keys
}
