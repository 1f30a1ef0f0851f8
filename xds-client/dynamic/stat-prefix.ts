import type { ListenerConfig } from '../../lib/config/listener.ts'
import { factsOf, type Kind } from './kinds.ts'
import type { Resource } from './resource.ts'

/** Names of one subscription that have cells of their own; these are never given back, so what comes after shares some. */
const OWN_PLACES = 1_000

/**
 * Where Envoy counts the updates of a subscription; where each resource has its own place, by its name. Of very many, those
 * beyond the first thousand are counted together (`eds.`, `rds.`, …).
 */
export function statPrefix(
  kind: Kind,
  find: (name: string) => Resource | undefined,
): string | ((name: string) => string) | undefined {
  const prefix = envoyPrefix(kind, find)
  if (typeof prefix !== 'function') return prefix
  const names = new Set<string>()
  return (name) => {
    if (names.size < OWN_PLACES) names.add(name)
    return names.has(name) ? prefix(name) : `${factsOf(kind).service}.`
  }
}

function envoyPrefix(
  kind: Kind,
  find: (name: string) => Resource | undefined,
): string | ((name: string) => string) | undefined {
  switch (kind) {
    case 'cluster':
      return 'cluster_manager.cds.'
    case 'listener':
      return 'listener_manager.lds.'
    case 'assignment':
      return (name) => `cluster.${first(find(name))?.key ?? name}.`
    case 'routes':
      return (name) => `http.${managerOf(find(name))}.rds.${clean(name)}.`
    case 'secret':
      return (name) => `sds.${clean(name)}.`
    case 'extension':
      return (name) => `extension_config_discovery.${placeOf(find(name))}.${clean(name)}.`
    case 'runtime':
      return (name) => `runtime.${clean(name)}.`
    case 'scopes':
      return 'scoped_rds.'
    case 'virtual-hosts':
      return 'vhds.'
    case 'endpoints':
      return 'leds.'
    default:
      return undefined
  }
}

function first(resource: Resource | undefined): Resource | undefined {
  return resource?.dependents.values().next().value
}

/** The `stat_prefix` of a connection manager that uses the route table. */
function managerOf(table: Resource | undefined): string {
  for (const { facts, latest } of table?.dependents ?? []) {
    if (facts.kind !== 'listener' || latest === undefined) continue
    const { filterChains, defaultFilterChain } = latest.config as ListenerConfig
    for (const { http } of defaultFilterChain === undefined ? filterChains : [...filterChains, defaultFilterChain]) {
      if (http?.routeTable === table?.key) return http?.statPrefix ?? ''
    }
  }
  return 'scoped'
}

function placeOf(extension: Resource | undefined): string {
  for (const reference of first(extension)?.latest?.references ?? []) {
    if (reference.kind !== 'extension' || reference.key !== extension?.key) continue
    const place = reference.extension?.place
    return place === 'listener' ? 'tcp_listener_filter' : `${place}_filter`
  }
  return 'http_filter'
}

/** Dots stay, as in Envoy; colons would be taken for something else. */
function clean(name: string): string {
  return name.replaceAll(':', '_')
}
