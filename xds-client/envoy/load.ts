import { create, type DescMessage, type Message } from '@bufbuild/protobuf'
import type { GatewayConfig } from '../../lib/config/model.ts'
import { type ParsedConfig, parseConfigText } from '../../lib/config/parse.ts'
import { ConfigError, ConfigRefused, Findings, type Json, type JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { type AnyMessage, unpackAny } from '../../lib/proto/any.ts'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import { createJsonReader } from '../../lib/proto/json-reader.ts'
import { createMessageReader } from '../../lib/proto/message-reader.ts'
import type { ProtoRegistry } from '../../lib/proto/registry.ts'
import type { RuleChecker } from '../../lib/proto/rules.ts'
import { translateBootstrap } from './bootstrap.ts'
import type { EnvoyContext } from './context.ts'
import { translateResource } from './resources.ts'

/** A translation's context, and the schema that documents are decoded with. */
export interface EnvoyLoadContext extends EnvoyContext {
  readonly registry: ProtoRegistry
  readonly rules: RuleChecker
}

/** What `headgate validate --resources` prints for one resource. */
export interface ResourceResult {
  /** The `@type` as written; '' where there is none. */
  readonly type: string
  readonly name: string
  readonly result: 'accepted' | 'refused'
  readonly errors: readonly { readonly path: string; readonly message: string }[]
  /** Paths of fields that are set and have no effect. */
  readonly ignored: readonly string[]
}

/**
 * Makes the IR of an Envoy bootstrap: decodes it strictly, checks the validation rules of its messages, translates it,
 * and lists what was set and nothing acts on.
 *
 * @throws ConfigRefused with every mistake that was found, each with its place; nothing is half done.
 */
export function loadBootstrap(parsed: ParsedConfig, context: EnvoyLoadContext): GatewayConfig {
  const desc = context.registry.expect('envoy.config.bootstrap.v3.Bootstrap')
  const decoded = decodeJson(context.registry, desc, parsed.value, '')
  const errors = new ErrorList(decoded.errors)
  let config: GatewayConfig | undefined
  if (decoded.message !== undefined) {
    const source = { desc, message: decoded.message, path: '' }
    config = translate(source, context, errors, translateBootstrap).value
  }
  if (config === undefined || errors.all.length > 0) throw new ConfigRefused(inPlaces(errors.all, parsed))
  const ignored = [...new Set(errors.ignored)]
  return { ...config, ignored, source: parsed.value as JsonObject }
}

/** Judges one resource: a line with the proto-JSON of an Any. Never throws for what a line may hold. */
export function loadResourceLine(line: string, context: EnvoyLoadContext): ResourceResult {
  const json = parseLine(line)
  if (json instanceof ConfigRefused) return refused('', '', json.errors)
  const type = typeOf(json)
  const anyDesc = context.registry.expect('google.protobuf.Any')
  const decoded = decodeJson(context.registry, anyDesc, json, '')
  const errors = new ErrorList(decoded.errors)
  if (decoded.message === undefined) return refused(type, '', errors.all)
  const content = unpackAny(context.registry, decoded.message as AnyMessage)
  if (content.kind !== 'message') {
    if (errors.all.length === 0)
      errors.add([new ConfigError('', `resource type "${content.typeName}": is not available`)])
    return refused(type, nameOf(json), errors.all)
  }
  const source = { desc: content.desc, message: content.message, path: content.suffix }
  const { name } = translate(source, context, errors, (reader, inner) =>
    translateResource(content.typeName, reader, inner),
  ).value
  if (errors.all.length > 0) return refused(type, name, errors.all)
  return { type, name, result: 'accepted', errors: [], ignored: [...new Set(errors.ignored)] }
}

interface Source {
  readonly desc: DescMessage
  readonly message: Message
  readonly path: string
}

/** Checks the rules of a message and translates it; what is wrong goes to `errors`. */
function translate<T>(
  source: Source,
  context: EnvoyLoadContext,
  errors: ErrorList,
  run: (reader: FieldReader, context: EnvoyContext) => T,
): { readonly value: T } {
  errors.add(context.rules.check(source.desc, source.message, source.path))
  const findings = new Findings()
  const { reader, finish } = createMessageReader({ registry: context.registry, findings, ...source })
  const value = run(reader, {
    ...context,
    emptyFields: (typeName, path) => openEmpty(context.registry, findings, typeName, path),
  })
  finish()
  errors.add(findings.errors)
  errors.ignored.push(...findings.ignored)
  return { value }
}

function openEmpty(registry: ProtoRegistry, findings: Findings, typeName: string, path: string): FieldReader {
  const desc = registry.message(typeName)
  if (desc === undefined) return createJsonReader({ findings, value: {}, path, typeName, registry }).reader
  return createMessageReader({ registry, findings, desc, message: create(desc), path }).reader
}

/**
 * Mistakes of all phases. A later phase sees a message from which an earlier one left out what was wrong, so what it says
 * about the same field is an echo and dropped.
 */
class ErrorList {
  readonly all: ConfigError[] = []
  readonly ignored: string[] = []
  readonly #paths = new Set<string>()

  constructor(errors: readonly ConfigError[]) {
    this.add(errors)
  }

  add(errors: readonly ConfigError[]): void {
    const fresh = errors.filter((error) => !this.#paths.has(snakeCase(error.path)))
    for (const error of fresh) this.#paths.add(snakeCase(error.path))
    this.all.push(...fresh)
  }
}

/** Decoding spells paths as the author does, rules and readers as the schema does. */
function snakeCase(path: string): string {
  return path.replace(/[a-z0-9][A-Z]/g, (pair) => `${pair[0]}_${pair[1].toLowerCase()}`)
}

function inPlaces(errors: readonly ConfigError[], parsed: ParsedConfig): ConfigError[] {
  for (const error of errors) error.place ??= parsed.place(error.path)
  const at = (error: ConfigError): number =>
    error.place === undefined ? 0 : error.place.line * 1e6 + error.place.column
  return [...errors].sort((a, b) => at(a) - at(b))
}

/** JSON only, and each key once. */
function parseLine(line: string): Json | ConfigRefused {
  try {
    JSON.parse(line)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return new ConfigRefused([new ConfigError('', `is not JSON: ${why}`)])
  }
  try {
    return parseConfigText(line, '').value
  } catch (error) {
    if (error instanceof ConfigRefused) return error
    throw error
  }
}

function refused(type: string, name: string, errors: readonly ConfigError[]): ResourceResult {
  const list = errors.map(({ path, message }) => ({ path, message }))
  return { type, name, result: 'refused', errors: list, ignored: [] }
}

function typeOf(json: Json): string {
  return field(json, '@type')
}

function nameOf(json: Json): string {
  return field(json, 'name')
}

function field(json: Json, key: string): string {
  if (typeof json !== 'object' || json === null || Array.isArray(json) || !Object.hasOwn(json, key)) return ''
  const value = json[key]
  return typeof value === 'string' ? value : ''
}
