import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { type StringValue, StringValueSchema } from '@bufbuild/protobuf/wkt'
import type { MethodDefinition } from '@grpc/grpc-js'

/**
 * The service as both sides see it, written by hand instead of generated:
 *
 *     service Greeter {
 *       rpc Hello (google.protobuf.StringValue) returns (google.protobuf.StringValue);
 *       rpc Spell (google.protobuf.StringValue) returns (stream google.protobuf.StringValue);
 *       rpc Chat (stream google.protobuf.StringValue) returns (stream google.protobuf.StringValue);
 *     }
 */
export const GREETER = {
  hello: method('Hello', false, false),
  spell: method('Spell', false, true),
  chat: method('Chat', true, true),
} as const

export function text(value: string): StringValue {
  return create(StringValueSchema, { value })
}

function method(
  name: string,
  requestStream: boolean,
  responseStream: boolean,
): MethodDefinition<StringValue, StringValue> {
  const serialize = (message: StringValue): Buffer => Buffer.from(toBinary(StringValueSchema, message))
  const deserialize = (bytes: Buffer): StringValue => fromBinary(StringValueSchema, bytes)
  return {
    path: `/example.Greeter/${name}`,
    requestStream,
    responseStream,
    requestSerialize: serialize,
    requestDeserialize: deserialize,
    responseSerialize: serialize,
    responseDeserialize: deserialize,
  }
}
