import type { Rejection } from '../source.ts'
import type { TypeInterest } from './interest.ts'
import type { DeltaRequest, DiscoveryResponse, ErrorDetail, WholeRequest } from './messages.ts'
import { describeRejections } from './rejection.ts'

/** `google.rpc.Code` */
const INVALID_ARGUMENT = 3

export type DiscoveryRequest = WholeRequest | DeltaRequest

/** The conversation about resources of one type, in one of the two variants; goes on over any number of streams. */
export interface TypeProtocol {
  readonly interest: TypeInterest
  /** A new stream: nothing has been said on it. */
  begin(): void
  /** Hands the response to whoever wants it; its verdict waits for `next`. Answers what was refused. */
  receive(response: DiscoveryResponse): readonly Rejection[]
  /** There is probably something to say. */
  readonly due: boolean
  /** The next request to send; undefined where there is nothing to say. `node`: it carries the node. */
  next(node: boolean): DiscoveryRequest | undefined
}

/** What a NACK says; undefined: nothing was refused. */
export function verdictOf(rejections: readonly Rejection[]): ErrorDetail | undefined {
  if (rejections.length === 0) return undefined
  return { code: INVALID_ARGUMENT, message: describeRejections(rejections) }
}
