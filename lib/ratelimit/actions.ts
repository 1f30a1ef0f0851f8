import type { HttpStream } from '../chain/filter.ts'
import { canonicalIp, isIp } from '../core/address.ts'
import { compileCidrs } from '../match/cidr.ts'
import { compileHeader, compileHeaderValue } from '../match/header.ts'
import { compileInput } from '../match/tree.ts'
import { valueAt } from '../match/value.ts'
import { maskIp } from '../telemetry/format/mask-ip.ts'
import type { LogStream } from '../telemetry/format/operator.ts'
import { compileFormat } from '../telemetry/format.ts'
import type { RateLimitActionConfig } from './config.ts'
import { compileDecodedQuery, decodedParameter } from './query.ts'

/**
 * Adds its entry to those of a descriptor. False: there is none for this request, and no descriptor either.
 * `serviceCluster` is what this proxy calls itself.
 */
export type Action = (stream: HttpStream, serviceCluster: string, entries: string[]) => boolean

type Of<K extends RateLimitActionConfig['kind']> = Extract<RateLimitActionConfig, { readonly kind: K }>

/** @throws Error for a pattern or a range that cannot be compiled. */
export function compileAction(config: RateLimitActionConfig): Action {
  switch (config.kind) {
    case 'source-cluster':
      return (_stream, serviceCluster, entries) => add(entries, 'source_cluster', serviceCluster)
    case 'destination-cluster':
      return (stream, _cluster, entries) => addUnlessEmpty(entries, 'destination_cluster', stream.route?.cluster)
    case 'remote-address':
      return ({ info }, _cluster, entries) =>
        isIp(info.clientAddress) && add(entries, 'remote_address', canonicalIp(info.clientAddress))
    case 'masked-remote-address':
      return compileMasked(config)
    case 'request-header':
      return compileRequestHeader(config)
    case 'query-parameter':
      return compileParameter(config)
    case 'generic-key': {
      const { key, value } = config
      return (_stream, _cluster, entries) => add(entries, key, value)
    }
    case 'header-match':
      return compileHeaderMatch(config)
    case 'query-match':
      return compileQueryMatch(config)
    case 'address-match':
      return compileAddressMatch(config)
    case 'metadata':
      return compileMetadata(config)
    case 'input': {
      const { key } = config
      const read = compileInput(config.input)
      return (stream, _cluster, entries) => addUnlessEmpty(entries, key, read(stream))
    }
  }
}

function add(entries: string[], key: string, value: string): true {
  entries.push(key, value)
  return true
}

function addUnlessEmpty(entries: string[], key: string, value: string | undefined): boolean {
  return value !== undefined && value !== '' && add(entries, key, value)
}

function compileMasked({ v4Bits, v6Bits }: Of<'masked-remote-address'>): Action {
  return ({ info }, _cluster, entries) => {
    if (!isIp(info.clientAddress)) return false
    const address = canonicalIp(info.clientAddress)
    return addUnlessEmpty(entries, 'masked_remote_address', maskIp(address, address.includes(':') ? v6Bits : v4Bits))
  }
}

/** Of several values the first one, as in Envoy. */
function compileRequestHeader({ name, key, skipIfAbsent }: Of<'request-header'>): Action {
  if (name.startsWith(':') || name === 'host') {
    const read = compileHeaderValue(name)
    return ({ request, head }, _cluster, entries) => {
      const value = read(request, head)
      return value === undefined ? skipIfAbsent : add(entries, key, value)
    }
  }
  return ({ request }, _cluster, entries) => {
    const value = request.get(name)
    return value === undefined ? skipIfAbsent : add(entries, key, value)
  }
}

function compileParameter({ name, key, skipIfAbsent }: Of<'query-parameter'>): Action {
  return ({ head }, _cluster, entries) => {
    const value = decodedParameter(head.path, name)
    return value === undefined ? skipIfAbsent : add(entries, key, value)
  }
}

function compileHeaderMatch({ headers, expected, key, value }: Of<'header-match'>): Action {
  const tests = headers.map(compileHeader)
  return ({ request, head }, _cluster, entries) => {
    let matches = true
    for (const test of tests) matches &&= test(request, head)
    return matches === expected && add(entries, key, value)
  }
}

function compileQueryMatch({ parameters, expected, key, value }: Of<'query-match'>): Action {
  const tests = parameters.map(compileDecodedQuery)
  return ({ head }, _cluster, entries) => {
    let matches = true
    for (const test of tests) matches &&= test(head.path)
    return matches === expected && add(entries, key, value)
  }
}

function compileAddressMatch({ ranges, inverted, key, value, otherwise }: Of<'address-match'>): Action {
  const within = compileCidrs(ranges)
  const format = compileFormat(value, { missing: '', output: 'body' })
  return (stream, _cluster, entries) => {
    const { clientAddress } = stream.info
    if (!isIp(clientAddress) || within(clientAddress) === inverted) return false
    return addUnlessEmpty(entries, key, format(stream as LogStream) || otherwise)
  }
}

function compileMetadata({ source, namespace, path, key, otherwise, skipIfAbsent }: Of<'metadata'>): Action {
  return ({ metadata, route }, _cluster, entries) => {
    const root = source === 'dynamic' ? metadata.get(namespace) : route?.metadata?.[namespace]
    const value = valueAt(root, path)
    const text = typeof value === 'string' && value !== '' ? value : otherwise
    return text === '' ? skipIfAbsent : add(entries, key, text)
  }
}
