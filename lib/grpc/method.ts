import { type DescMessage, type DescMethod, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf'
import type { ProtoRegistry } from '../proto/registry.ts'

/** One method of a service, with the wire form of its messages. */
export interface GrpcMethod<I, O> {
  /** `/package.Service/Method`. */
  readonly path: string
  /** Called once per message sent. The bytes are handed over: they must not change afterwards. */
  encode(message: I): Uint8Array
  /**
   * Called once per message received; what it throws ends the call with INTERNAL. `bytes` never change but may be a view
   * of a larger packet: what is kept for long is better copied.
   */
  decode(bytes: Uint8Array): O
}

/** A method of a protobuf service as @bufbuild/protobuf describes it. */
export function protobufMethod<I extends DescMessage, O extends DescMessage>(
  desc: DescMethod & { readonly input: I; readonly output: O },
): GrpcMethod<MessageShape<I>, MessageShape<O>> {
  const { input, output } = desc
  return Object.freeze({
    path: `/${desc.parent.typeName}/${desc.name}`,
    encode: (message: MessageShape<I>) => toBinary(input, message),
    decode: (bytes: Uint8Array) => fromBinary(output, bytes),
  })
}

/**
 * The method of that name among the types of the registry.
 *
 * @throws Error where it is unknown: a bug, or a wrong artefact
 */
export function registryMethod(
  registry: ProtoRegistry,
  service: string,
  name: string,
): GrpcMethod<MessageShape<DescMessage>, MessageShape<DescMessage>> {
  const desc = registry.files.getService(service)?.methods.find((method) => method.name === name)
  if (desc === undefined) throw new Error(`no method ${service}/${name} in the descriptor set`)
  return protobufMethod(desc)
}
