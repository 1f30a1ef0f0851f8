import type { ConnectionInfo } from '../../lib/core/connection.ts'
import { type Hash64, XxHash64 } from '../../lib/core/hash64.ts'
import { plainObject } from '../../lib/match/filter-state.ts'
import type { TcpHashConfig } from './config.ts'

/** What a connection sticks to a host by: 64 bits for balancers that hash, undefined where it has nothing to be hashed. */
export type ConnectionHash = (facts: ConnectionInfo) => Hash64 | undefined

/** `type.v3.HashPolicy` of a connection; undefined: there is no policy. */
export function compileHash(config: TcpHashConfig | undefined): ConnectionHash | undefined {
  if (config === undefined) return undefined
  const find = compileFind(config)
  return (facts) => {
    const text = find(facts)
    return text === undefined ? undefined : new XxHash64().digest(Buffer.from(text))
  }
}

function compileFind(config: TcpHashConfig): (facts: ConnectionInfo) => string | undefined {
  if (config.kind === 'source-ip') return ({ kind, remoteAddress }) => (kind === 'ip' ? remoteAddress : undefined)
  const { key } = config
  return ({ state }) => plainObject(state.object(key))
}
