import type { UpgradeConfig } from './config.ts'

/**
 * Whether a request may switch protocols, by Envoy's rule: the route's own entry for the type decides where it has one,
 * else the connection manager's; a type that neither lists is refused.
 *
 * @param type the value of `Upgrade` or `:protocol`, in any case; `connect` for a CONNECT request.
 */
export function upgradeAllowed(
  type: string,
  connectionManager: readonly UpgradeConfig[],
  route: readonly UpgradeConfig[] | undefined,
): boolean {
  const wanted = type.toLowerCase()
  return entryFor(wanted, route) ?? entryFor(wanted, connectionManager) ?? false
}

function entryFor(type: string, list: readonly UpgradeConfig[] | undefined): boolean | undefined {
  if (list === undefined) return undefined
  for (const entry of list) if (entry.type.toLowerCase() === type) return entry.enabled
  return undefined
}
