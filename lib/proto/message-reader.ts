import type { DescMessage, Message } from '@bufbuild/protobuf'
import type { Findings } from '../core/errors.ts'
import type { FieldReader } from '../core/field-reader.ts'
import { createReadContext } from './extension.ts'
import type { UnknownPolicy } from './read-context.ts'
import type { ProtoRegistry } from './registry.ts'

/** What to read, and where what is found goes. */
export interface MessageSource {
  readonly registry: ProtoRegistry
  readonly findings: Findings
  readonly desc: DescMessage
  readonly message: Message
  /** Where the message stands in its document; '' for the document itself. */
  readonly path: string
  /** Of fields that the schema does not have. Undefined: as of those that nobody reads. */
  readonly unknownFields?: UnknownPolicy | undefined
}

/** A reader, and the call that ends the reading. */
export interface OpenReader {
  readonly reader: FieldReader
  /**
   * Reports every set field of the whole tree that nothing consumed, in the order of the schema: as an error where the
   * policy is `refuse`, among the ignored paths otherwise. Call it once.
   */
  finish(): void
}

/**
 * Reads a protobuf message through the `FieldReader` contract, Anys and TypedStructs inside it included. Values that the
 * binary form allows and the schema does not (unknown enum numbers, broken durations) become errors among the findings.
 *
 * Getters throw an Error for a field or a type that the schema does not have: a bug of the caller.
 */
export function createMessageReader(source: MessageSource): OpenReader {
  const { registry, findings, desc, message, path, unknownFields } = source
  const reader = createReadContext(findings, registry, unknownFields).openMessage(desc, message, path, 'report')
  return { reader, finish: () => reader.finish() }
}
