import type { DescMessage, Message } from '@bufbuild/protobuf'
import type { Findings, JsonObject } from '../core/errors.ts'
import type { ExtensionReader, FieldReader } from '../core/field-reader.ts'
import type { AnyMessage } from './any.ts'
import type { PathSource } from './path.ts'
import type { ProtoRegistry } from './registry.ts'

/** See `FieldReader.unread`. */
export type UnreadPolicy = 'refuse' | 'report'

/** What becomes of fields that the schema does not have: errors, or listed among the ignored paths. */
export type UnknownPolicy = 'reject' | 'ignore'

/** A reader whose tree can be asked, once everything is read, what was set and not read. */
export interface TrackedReader extends FieldReader {
  /** Reports the set fields of this message and of all that were read from it that nothing consumed. */
  finish(): void
}

export interface TrackedExtension extends ExtensionReader {
  readonly fields: TrackedReader
}

/** What all readers of one document share, and how one kind of reader opens another. */
export interface ReadContext {
  readonly findings: Findings
  /** Undefined for plain JSON without any protobuf in it. */
  readonly registry: ProtoRegistry | undefined
  /** Undefined: as of fields that nobody reads. */
  readonly unknownFields: UnknownPolicy | undefined
  openMessage(desc: DescMessage, message: Message | JsonObject, path: PathSource, policy: UnreadPolicy): TrackedReader
  openJson(value: JsonObject, path: PathSource, typeName: string): TrackedReader
  /** Undefined, with errors among the findings, where the content does not decode as its type. */
  openAny(any: AnyMessage, path: PathSource, policy: UnreadPolicy): TrackedExtension | undefined
}

/** What a reader remembers of a field that was consumed: what it handed out, and the readers inside. */
export interface Consumed {
  readonly value: unknown
  readonly readers: readonly TrackedReader[]
}

/** A field consumed without readers to follow. */
export const CONSUMED: Consumed = Object.freeze({ value: undefined, readers: Object.freeze([]) })
