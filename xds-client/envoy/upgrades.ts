import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { ConnectConfig, UpgradeConfig } from '../../lib/router/config.ts'
import { translateProxyHeader } from './proxy-header.ts'

/** Whose upgrades they are: a connection manager's have filters, a route's can end CONNECT here. */
export type UpgradeOwner = 'connection manager' | 'route'

/** `upgrade_configs` of a connection manager or a route; types are case-insensitive and must not repeat. */
export function translateUpgrades(reader: FieldReader, owner: UpgradeOwner): UpgradeConfig[] {
  const seen = new Set<string>()
  return reader.messages('upgrade_configs').map((entry) => {
    entry.unread('refuse')
    if (owner === 'connection manager') entry.refuse('filters', 'a filter chain of its own is not available')
    const type = entry.string('upgrade_type').toLowerCase()
    if (type !== '' && seen.has(type)) entry.error('upgrade_type', `"${type}" is listed twice`)
    seen.add(type)
    const connect = owner === 'route' ? translateConnect(entry, type) : undefined
    return { type, enabled: entry.optionalBool('enabled') ?? true, ...(connect && { connect }) }
  })
}

/** `RouteAction.UpgradeConfig.ConnectConfig` */
function translateConnect(entry: FieldReader, type: string): ConnectConfig | undefined {
  const reader = entry.message('connect_config')
  if (reader === undefined) return undefined
  reader.unread('refuse')
  if (type !== 'connect') {
    entry.error('connect_config', `belongs to the upgrade CONNECT, this one is "${type}"`)
  }
  const header = reader.message('proxy_protocol_config')
  return {
    allowPost: reader.bool('allow_post'),
    ...(header && { proxyProtocol: translateProxyHeader(header) }),
  }
}
