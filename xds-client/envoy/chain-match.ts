import { serverNameProblem } from '../../lib/config/chain-match.ts'
import type { FilterChainMatchConfig } from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { translateCidr } from './address.ts'

const SOURCE_TYPES: ReadonlyMap<string, FilterChainMatchConfig['sourceType']> = new Map([
  ['ANY', 'any'],
  ['SAME_IP_OR_LOOPBACK', 'same-ip-or-loopback'],
  ['EXTERNAL', 'external'],
])

/** `config.listener.v3.FilterChainMatch`; undefined where it is not set, or sets nothing. */
export function translateChainMatch(reader: FieldReader | undefined): FilterChainMatchConfig | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  reader.refuse('address_suffix', 'address suffixes are not available; Envoy does not look at them either')
  reader.refuse('suffix_len', 'address suffixes are not available; Envoy does not look at them either')
  const destinationPort = reader.number('destination_port')
  const transportProtocol = translateTransport(reader)
  const match: FilterChainMatchConfig = {
    ...(destinationPort !== undefined && { destinationPort }),
    destinations: reader.messages('prefix_ranges').map(translateCidr),
    serverNames: translateServerNames(reader),
    ...(transportProtocol && { transportProtocol }),
    applicationProtocols: reader.strings('application_protocols'),
    directSources: reader.messages('direct_source_prefix_ranges').map(translateCidr),
    sourceType: SOURCE_TYPES.get(reader.enumName('source_type')) ?? 'any',
    sources: reader.messages('source_prefix_ranges').map(translateCidr),
    sourcePorts: reader.numbers('source_ports'),
  }
  return isEmpty(match) ? undefined : match
}

function translateServerNames(reader: FieldReader): string[] {
  const names = reader.strings('server_names')
  for (const name of names) {
    const problem = serverNameProblem(name)
    if (problem !== undefined) reader.error('server_names', problem)
  }
  return names.map((name) => name.toLowerCase())
}

function translateTransport(reader: FieldReader): FilterChainMatchConfig['transportProtocol'] {
  const text = reader.string('transport_protocol')
  if (text === '' || text === 'tls' || text === 'raw_buffer') return text === '' ? undefined : text
  // No inspector would ever find it: such a chain takes nothing, which nobody means.
  reader.error('transport_protocol', `must be "tls" or "raw_buffer", is "${text}"`)
  return undefined
}

function isEmpty({ destinationPort, transportProtocol, sourceType, ...lists }: FilterChainMatchConfig): boolean {
  const rest: readonly (readonly unknown[])[] = Object.values(lists)
  return (
    destinationPort === undefined &&
    transportProtocol === undefined &&
    sourceType === 'any' &&
    rest.every((list) => list.length === 0)
  )
}
