import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { UpgradeConfig } from '../../lib/router/config.ts'

/** A field of an upgrade that cannot be honoured. */
export interface RefusedField {
  readonly field: 'filters' | 'connect_config'
  readonly why: string
}

/** `upgrade_configs` of a connection manager or a route; types are case-insensitive and must not repeat. */
export function translateUpgrades(reader: FieldReader, refused: RefusedField): UpgradeConfig[] {
  const seen = new Set<string>()
  return reader.messages('upgrade_configs').map((entry) => {
    entry.unread('refuse')
    entry.refuse(refused.field, refused.why)
    const type = entry.string('upgrade_type').toLowerCase()
    if (type !== '' && seen.has(type)) entry.error('upgrade_type', `"${type}" is listed twice`)
    seen.add(type)
    return { type, enabled: entry.optionalBool('enabled') ?? true }
  })
}
