import type { FieldReader } from '../core/field-reader.ts'
import type { RbacAuditConfig } from './config.ts'

const CONDITIONS: ReadonlyMap<string, RbacAuditConfig['when']> = new Map<string, RbacAuditConfig['when']>([
  ['ON_DENY', 'deny'],
  ['ON_ALLOW', 'allow'],
  ['ON_DENY_AND_ALLOW', 'both'],
])

const STDOUT = 'envoy.extensions.rbac.audit_loggers.stream.v3.StdoutAuditLog'

/** `config.rbac.v3.RBAC.AuditLoggingOptions`; undefined: nothing is written down. */
export function parseAudit(reader: FieldReader | undefined): RbacAuditConfig | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  const word = reader.enumName('audit_condition')
  const when = CONDITIONS.get(word)
  if (when === undefined && word !== '' && word !== 'NONE')
    reader.error('audit_condition', `unknown condition "${word}"`)
  const loggers = reader.messages('logger_configs').flatMap(parseLogger)
  return when === undefined || loggers.length === 0 ? undefined : { when, loggers }
}

/** A logger that is not known is a mistake, unless the configuration can do without. */
function parseLogger(reader: FieldReader): RbacAuditConfig['loggers'] {
  const optional = reader.bool('is_optional')
  const extension = reader.message('audit_logger')
  extension?.string('name')
  const logger = extension?.any('typed_config')
  if (logger?.typeUrl === STDOUT) return ['stdout']
  logger?.fields.toJson()
  if (optional) reader.ignore('audit_logger')
  else reader.error('audit_logger', `audit logger "${logger?.typeUrl ?? ''}" is not available`)
  return []
}
