import type { FilterChainConfig } from '../lib/config/listener.ts'
import type { ConnectionInfo } from '../lib/core/connection.ts'

/** Chooses the filter chain of a connection: answers its place in the list it was compiled from, -1 for none. */
export type ChainChoice = (facts: ConnectionInfo) => number

/** Compiles the choice between the chains of a listener. */
export function compileChainChoice(chains: readonly FilterChainConfig[]): ChainChoice {
  const any = chains.findIndex(({ match }) => match === undefined)
  return () => any
}
