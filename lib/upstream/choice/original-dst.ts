import { canonicalIp, isIp } from '../../core/address.ts'
import type { PickContext } from '../../core/attempt.ts'
import type { Counter } from '../../core/metrics.ts'
import { type MetadataPath, valueAt } from '../../match/value.ts'
import type { OriginalDstConfig } from '../discovery/config.ts'
import { parseAuthority, type WantedHost } from '../discovery/wanted-host.ts'
import type { Wanted } from './named.ts'

/** Filter state by which filters say where to go (Envoy's key). */
const ADDRESS_KEY = 'envoy.network.transport_socket.original_dst_address'

/**
 * Where a request was meant to go, in Envoy's order: what filters have said, metadata, a field of the request, and what a
 * listener filter has restored on the connection (PROXY header). `invalid` counts what is no address with a port.
 */
export function originalDestination({ header, metadata, port }: OriginalDstConfig, invalid: () => Counter): Wanted {
  const read = (value: unknown): WantedHost | undefined => {
    if (typeof value !== 'string') return undefined
    const found = addressOf(value)
    if (found === undefined) invalid().v++
    return found
  }
  const told = (context: PickContext): WantedHost | undefined => {
    const { filterState, downstream } = context
    const said = read(filterState?.get(ADDRESS_KEY) ?? downstream?.state.object(ADDRESS_KEY))
    if (said !== undefined) return said
    const noted = metadata && read(metadataAt(context, metadata.namespace, metadata.path))
    if (noted !== undefined) return noted
    return header === undefined ? undefined : read(context.header?.(header))
  }
  return (context) => {
    const found = told(context) ?? restored(context)
    return found === undefined || port === undefined ? found : { name: found.name, port }
  }
}

/** `ip:port`; nothing else is an address here, names least of all. */
function addressOf(text: string): WantedHost | undefined {
  const parsed = parseAuthority(text, undefined, false)
  if (parsed === undefined || !isIp(parsed.name) || isIp(text) || !/:\d+$/.test(text)) return undefined
  return { name: canonicalIp(parsed.name), port: parsed.port }
}

function restored({ downstream }: PickContext): WantedHost | undefined {
  if (downstream === undefined || downstream.kind !== 'ip') return undefined
  const { localAddress, localPort, directLocalAddress, directLocalPort } = downstream
  // Itself: it was not restored, and would lead back here.
  if (localPort === 0 || (localAddress === directLocalAddress && localPort === directLocalPort)) return undefined
  return isIp(localAddress) ? { name: canonicalIp(localAddress), port: localPort } : undefined
}

function metadataAt({ metadata, downstream }: PickContext, namespace: string, path: MetadataPath): unknown {
  return valueAt(metadata?.get(namespace), path) ?? valueAt(downstream?.state.metadata(namespace), path)
}
