import type { GatewayConfig } from '../../lib/config/model.ts'
import { type ParsedConfig, parseConfigText } from '../../lib/config/parse.ts'
import { ConfigError, ConfigRefused, type Json, type JsonObject } from '../../lib/core/errors.ts'
import { type AnyMessage, unpackAny } from '../../lib/proto/any.ts'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import type { ConfigSourceConfig, DynamicConfig } from '../config.ts'
import { translateBootstrap } from './bootstrap.ts'
import { ADS_SOURCE } from './config-source.ts'
import { isDelivered } from './dynamic.ts'
import { ErrorList } from './error-list.ts'
import type { Reference } from './references.ts'
import { translateResource } from './resources.ts'
import { type EnvoyLoadContext, translateMessage } from './run.ts'
import type { SecretValue } from './translated.ts'

export type { EnvoyLoadContext } from './run.ts'

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

/** A bootstrap, and everything that whoever keeps it up to date needs of it. */
export interface LoadedBootstrap {
  /**
   * Static resources. Where something is delivered by somebody else, they hold placeholders (`references` says which);
   * static secrets are in their places already.
   */
  readonly config: GatewayConfig
  /** Undefined: nobody delivers anything, and `config` is all there is. */
  readonly dynamic: DynamicConfig | undefined
  /** What static resources need from elsewhere, by `listener/NAME` and `cluster/NAME`; those that need nothing are not listed. */
  readonly references: ReadonlyMap<string, readonly Reference[]>
  /** Static secrets by name. */
  readonly secrets: ReadonlyMap<string, SecretValue>
  /** Clusters that stand for `google_grpc` targets; they are among those of `config` too. */
  readonly channelClusters: readonly ClusterConfig[]
  /** For `translateBytes`: the given one, with what resources that are delivered must know of the bootstrap. */
  readonly context: EnvoyLoadContext
}

/**
 * Makes the IR of an Envoy bootstrap: decodes it strictly, checks the validation rules of its messages, translates it,
 * and lists what was set and nothing acts on.
 *
 * @throws ConfigRefused with every mistake that was found, each with its place; nothing is half done.
 */
export function readBootstrap(parsed: ParsedConfig, context: EnvoyLoadContext): LoadedBootstrap {
  const desc = context.registry.expect('envoy.config.bootstrap.v3.Bootstrap')
  const decoded = decodeJson(context.registry, desc, parsed.value, '')
  const errors = new ErrorList(decoded.errors)
  if (decoded.message === undefined) throw new ConfigRefused(inPlaces(errors.all, parsed))
  const source = { desc, message: decoded.message, path: '' }
  // What files a bootstrap names is its reader's business, not that of resources.
  const loadServers = new Map<string, ConfigSourceConfig>()
  const inner = { ...context, loadServers }
  const { value, ignored, clusters } = translateMessage(source, inner, errors, translateBootstrap)
  if (errors.all.length > 0) throw new ConfigRefused(inPlaces(errors.all, parsed))
  const { config, references, secrets, known } = value
  return {
    config: { ...config, clusters: [...config.clusters, ...clusters], ignored, source: parsed.value as JsonObject },
    dynamic: value.dynamic,
    references,
    secrets,
    channelClusters: clusters,
    context: { ...inner, ...known },
  }
}

/**
 * The same for a bootstrap from which nobody delivers anything, as a whole. An admin layer of its runtime stays empty.
 *
 * @throws ConfigRefused as `readBootstrap`, and where something is delivered
 */
export function loadBootstrap(parsed: ParsedConfig, context: EnvoyLoadContext): GatewayConfig {
  const { config, dynamic, references } = readBootstrap(parsed, context)
  if (dynamic === undefined || (references.size === 0 && !isDelivered(dynamic, dynamic.runtime))) return config
  throw new ConfigRefused([new ConfigError('', 'is not static: parts of it are delivered by discovery services')])
}

/**
 * Judges one resource: a line with the proto-JSON of an Any. Never throws for what a line may hold. `check` judges what it
 * was translated into, as the client that has resources delivered does.
 */
export function loadResourceLine(
  line: string,
  context: EnvoyLoadContext,
  check?: (typeName: string, config: unknown) => readonly ConfigError[],
): ResourceResult {
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
  const { value, ignored } = translateMessage(
    source,
    { self: ADS_SOURCE, loadServers: new Map(), ...context },
    errors,
    (reader, inner) => translateResource(content.typeName, reader, inner),
  )
  if (errors.all.length === 0 && check !== undefined) errors.add(check(content.typeName, value.config))
  if (errors.all.length > 0) return refused(type, value.name, errors.all)
  return { type, name: value.name, result: 'accepted', errors: [], ignored }
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
