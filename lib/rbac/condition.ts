import { type TlsPeer, verifiedPeer } from '../core/connection.ts'
import { compileCidrs } from '../match/cidr.ts'
import type { MetadataMatchConfig, StringMatchConfig } from '../match/config.ts'
import { compileFilterState } from '../match/filter-state.ts'
import { compileHeader } from '../match/header.ts'
import { barePath, compilePath } from '../match/path.ts'
import { compileString } from '../match/string.ts'
import { compileMetadata, type MetadataSource } from '../match/value.ts'
import type { RbacAttributes } from './attributes.ts'
import type { ConditionConfig } from './config.ts'

export type Condition = (attributes: RbacAttributes) => boolean

/**
 * Compiles one permission or principal.
 *
 * @throws Error for a pattern, template or address range that is none.
 */
export function compileCondition(config: ConditionConfig): Condition {
  switch (config.kind) {
    case 'any':
      return () => true
    case 'and':
      return every(config.of.map(compileCondition))
    case 'or':
      return some(config.of.map(compileCondition))
    case 'not': {
      const test = compileCondition(config.of)
      return (attributes) => !test(attributes)
    }
    case 'header': {
      const test = compileHeader(config.header)
      return ({ request, head }) => request !== undefined && head !== undefined && test(request, head)
    }
    case 'path':
      return onPath(compileString(config.string))
    case 'path-template':
      return onPath(compilePath({ kind: 'template', value: config.template }))
    case 'metadata':
      return onMetadata(config.metadata, config.source)
    case 'filter-state': {
      const test = compileFilterState(config.state)
      return ({ filterState }) => filterState !== undefined && test(filterState)
    }
    default:
      return compileConnectionCondition(config)
  }
}

type ConnectionCondition = Extract<
  ConditionConfig,
  {
    kind: `${string}-ip` | 'destination-port' | 'server-name' | 'authenticated' | 'san'
  }
>

/** What the connection alone decides. */
function compileConnectionCondition(config: ConnectionCondition): Condition {
  switch (config.kind) {
    case 'remote-ip':
    case 'connection-ip':
    case 'direct-remote-ip':
    case 'destination-ip':
      return onAddress(config.kind, compileCidrs([config.range]))
    case 'destination-port': {
      const { start, end } = config
      // Connections within the gateway have the port that their client asked for; only paths have none.
      return ({ connection: { kind, localPort } }) => kind !== 'pipe' && localPort >= start && localPort < end
    }
    case 'server-name': {
      const test = compileString(config.string)
      return ({ connection }) => test(connection.serverName ?? '')
    }
    case 'authenticated':
      return onIdentity(config.name)
    case 'san': {
      const test = compileString(config.name)
      const { type } = config
      return ({ connection }) => {
        const peer = verifiedPeer(connection)
        return peer !== undefined && sansOf(peer, type).some(test)
      }
    }
  }
}

export function every(tests: readonly Condition[]): Condition {
  if (tests.length === 1) return tests[0]
  return (attributes) => {
    for (const test of tests) if (!test(attributes)) return false
    return true
  }
}

export function some(tests: readonly Condition[]): Condition {
  if (tests.length === 1) return tests[0]
  return (attributes) => {
    for (const test of tests) if (test(attributes)) return true
    return false
  }
}

function onPath(test: (path: string) => boolean): Condition {
  return ({ head }) => head !== undefined && head.path !== '' && test(barePath(head.path))
}

function onMetadata(config: MetadataMatchConfig, source: 'dynamic' | 'route'): Condition {
  const test = compileMetadata(config)
  if (source === 'dynamic') return ({ metadata }) => test(metadata)
  return ({ route }) => route !== undefined && test(routeMetadata(route.metadata))
}

function routeMetadata(all: NonNullable<RbacAttributes['route']>['metadata']): MetadataSource {
  return { get: (namespace) => (all !== undefined && Object.hasOwn(all, namespace) ? all[namespace] : undefined) }
}

function onAddress(kind: ConnectionCondition['kind'], within: (ip: string) => boolean): Condition {
  switch (kind) {
    case 'remote-ip':
      return ({ info, connection }) => within(info?.clientAddress || connection.remoteAddress)
    case 'connection-ip':
      return ({ connection }) => within(connection.remoteAddress)
    case 'direct-remote-ip':
      return ({ connection }) => within(connection.directRemoteAddress)
    default:
      return ({ connection }) => within(connection.localAddress)
  }
}

function onIdentity(name: StringMatchConfig | undefined): Condition {
  if (name === undefined) return ({ connection }) => verifiedPeer(connection) !== undefined
  const test = compileString(name)
  return ({ connection }) => {
    const peer = verifiedPeer(connection)
    return peer !== undefined && (peer.uriSans.some(test) || peer.dnsSans.some(test) || test(peer.subject))
  }
}

function sansOf(peer: TlsPeer, type: 'uri' | 'dns' | 'email' | 'ip'): readonly string[] {
  switch (type) {
    case 'uri':
      return peer.uriSans
    case 'dns':
      return peer.dnsSans
    case 'email':
      return peer.emailSans
    case 'ip':
      return peer.ipSans
  }
}
