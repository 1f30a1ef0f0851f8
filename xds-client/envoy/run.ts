import { create, type DescMessage, type Message } from '@bufbuild/protobuf'
import { Findings } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { createJsonReader } from '../../lib/proto/json-reader.ts'
import { createMessageReader } from '../../lib/proto/message-reader.ts'
import type { ProtoRegistry } from '../../lib/proto/registry.ts'
import type { RuleChecker } from '../../lib/proto/rules.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import type { EnvoyContext } from './context.ts'
import type { ErrorList } from './error-list.ts'
import { type Reference, ReferenceList } from './references.ts'

/** A translation's context, and the schema that documents are decoded with. */
export interface EnvoyLoadContext extends EnvoyContext {
  readonly registry: ProtoRegistry
  readonly rules: RuleChecker
}

/** A message to translate; paths of what is found begin with `path`. */
export interface Source {
  readonly desc: DescMessage
  readonly message: Message
  readonly path: string
}

/** What a translation left behind besides its value. */
export interface Translated<T> {
  /** Worth something only where nothing was found wrong. */
  readonly value: T
  readonly errors: ErrorList
  readonly ignored: readonly string[]
  readonly references: readonly Reference[]
  readonly files: readonly string[]
  readonly directories: readonly string[]
  readonly clusters: readonly ClusterConfig[]
}

const NONE: readonly never[] = Object.freeze([])

/**
 * Checks the validation rules of a message, translates it and reports what nothing read: the one way in which bootstraps,
 * delivered resources and those of a file are judged.
 */
export function translateMessage<T>(
  source: Source,
  context: EnvoyLoadContext,
  errors: ErrorList,
  run: (reader: FieldReader, context: EnvoyContext) => T,
): Translated<T> {
  errors.add(context.rules.check(source.desc, source.message, source.path))
  const findings = new Findings()
  const { registry } = context
  const { unknownFields } = context
  const { reader, finish } = createMessageReader({ registry, findings, ...source, unknownFields })
  const found = new Found(context)
  const value = run(reader, {
    ...context,
    references: found.references,
    readFile: context.readFile && found.readFile,
    // A directory is watched wherever files are read.
    watchDirectory: context.readFile && found.watchDirectory,
    addCluster: found.addCluster,
    emptyFields: (typeName, path) => openEmpty(registry, findings, typeName, path),
  })
  finish()
  errors.add(findings.errors)
  const ignored = findings.ignored.length === 0 ? NONE : [...new Set(findings.ignored)]
  return {
    value,
    errors,
    ignored,
    references: found.references.list,
    files: found.files,
    directories: found.directories,
    clusters: found.clusters,
  }
}

/** What a translation asks for besides its message. */
class Found {
  readonly references = new ReferenceList()
  readonly #context: EnvoyContext
  #files: Set<string> | undefined = undefined
  #directories: Set<string> | undefined = undefined
  #clusters: Map<string, ClusterConfig> | undefined = undefined

  constructor(context: EnvoyContext) {
    this.#context = context
  }

  readonly readFile = (path: string): Buffer => {
    this.#files ??= new Set()
    this.#files.add(path)
    return (this.#context.readFile as (path: string) => Buffer)(path)
  }

  readonly watchDirectory = (path: string): void => {
    this.#directories ??= new Set()
    this.#directories.add(path)
    this.#context.watchDirectory?.(path)
  }

  readonly addCluster = (cluster: ClusterConfig): void => {
    this.#clusters ??= new Map()
    this.#clusters.set(cluster.name, cluster)
  }

  get files(): readonly string[] {
    return this.#files === undefined ? NONE : [...this.#files]
  }

  get directories(): readonly string[] {
    return this.#directories === undefined ? NONE : [...this.#directories]
  }

  get clusters(): readonly ClusterConfig[] {
    return this.#clusters === undefined ? NONE : [...this.#clusters.values()]
  }
}

function openEmpty(registry: ProtoRegistry, findings: Findings, typeName: string, path: string): FieldReader {
  const desc = registry.message(typeName)
  if (desc === undefined) return createJsonReader({ findings, value: {}, path, typeName, registry }).reader
  return createMessageReader({ registry, findings, desc, message: create(desc), path }).reader
}
