import type { Findings, JsonObject } from '../core/errors.ts'
import { createReadContext } from './extension.ts'
import type { OpenReader } from './message-reader.ts'
import type { ProtoRegistry } from './registry.ts'

/** What to read, and where what is found goes. */
export interface JsonSource {
  readonly findings: Findings
  readonly value: JsonObject
  /** Where the object stands in its document; '' for the document itself. */
  readonly path: string
  /** What the object is, for messages: a message's full name, or any word. */
  readonly typeName: string
  /** Needed only to read Anys of known types strictly. */
  readonly registry?: ProtoRegistry
}

/**
 * Reads a JSON object that has no schema through the `FieldReader` contract: a stranger's filter, native configuration.
 * Scalars follow ProtoJSON; durations may also be numbers of seconds. What nothing read is an `unknown field`.
 */
export function createJsonReader(source: JsonSource): OpenReader {
  const { findings, value, path, typeName, registry } = source
  const reader = createReadContext(findings, registry).openJson(value, path, typeName)
  return { reader, finish: () => reader.finish() }
}
