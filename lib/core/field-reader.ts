import type { Json, JsonObject } from './errors.ts'

/**
 * Reads one configuration message and remembers which fields were read, so that a field which is set and that nothing
 * consumed can be refused or reported (never dropped in silence).
 *
 * Implemented over protobuf messages and over plain JSON; names are protobuf names (`snake_case`) in both. Every getter
 * marks its field as consumed. A value of the wrong type is recorded as an error with its path and the getter answers
 * as if the field were not set: parsing goes on, so that all mistakes are found in one pass.
 */
export interface FieldReader {
  /** Path from the root of the document, for example `http_filters[0].typed_config`. */
  readonly path: string
  /** Full protobuf name of the message, or the type URL's last part for JSON. */
  readonly typeName: string
  /** True where the field is set: explicit presence, a non-default scalar, a non-empty list or map. Does not consume. */
  has(name: string): boolean
  /** '' where it is not set. */
  string(name: string): string
  strings(name: string): string[]
  /** False where it is not set; understands `google.protobuf.BoolValue`. */
  bool(name: string): boolean
  /** Undefined where it is not set; for wrappers and optional fields whose default is not false. */
  optionalBool(name: string): boolean | undefined
  /** Any integer or floating-point type or wrapper; undefined where it is not set. 64-bit values beyond 2^53 are errors. */
  number(name: string): number | undefined
  numbers(name: string): number[]
  /** `google.protobuf.Duration` in milliseconds; undefined where it is not set, 0 where it is set to 0. */
  durationMs(name: string): number | undefined
  /** The enum value's name (`ROUND_ROBIN`); the zero value's name where it is not set. */
  enumName(name: string): string
  enumNames(name: string): string[]
  bytes(name: string): Buffer | undefined
  /** A sub-message, or undefined where it is not set. */
  message(name: string): FieldReader | undefined
  messages(name: string): FieldReader[]
  /** `map<string, Message>`. */
  messageMap(name: string): Map<string, FieldReader>
  /** `map<string, scalar>`. */
  scalarMap(name: string): Map<string, Json>
  /** `google.protobuf.Struct` or `Value`, or any sub-message, whole, as JSON; everything in it counts as consumed. */
  json(name: string): Json | undefined
  /** Name of the member of the oneof that is set (`route`, `redirect`, ...), or undefined. Does not consume it. */
  which(oneof: string): string | undefined
  /**
   * A `google.protobuf.Any` unpacked, `TypedStruct` unwrapped. `typeUrl` is without the `type.googleapis.com/` prefix.
   * Undefined where it is not set.
   */
  any(name: string): ExtensionReader | undefined
  anyMap(name: string): Map<string, ExtensionReader>
  /** Record a mistake; `name` undefined blames the message as a whole. */
  error(name: string | undefined, message: string): void
  /** The field is known and has no effect here: consumed, and listed among the ignored paths when it is set. */
  ignore(...names: string[]): void
  /** The field is known and cannot be honoured: consumed, and an error when it is set. */
  refuse(name: string, why: string): void
  /**
   * What happens to a set field of this message (and of sub-messages read from it afterwards) that nothing consumed:
   * `refuse` where ignoring it would select, admit or authenticate differently, `report` otherwise.
   */
  unread(policy: 'refuse' | 'report'): this
  /** The whole message as proto-JSON, consuming everything. */
  toJson(): JsonObject
}

/** An extension's configuration: which type it is, and its fields. */
export interface ExtensionReader {
  readonly path: string
  /** `envoy.extensions.filters.http.cors.v3.Cors` */
  readonly typeUrl: string
  /** True where the Any carried no bytes at all (Envoy then skips the type check). */
  readonly empty: boolean
  readonly fields: FieldReader
}
