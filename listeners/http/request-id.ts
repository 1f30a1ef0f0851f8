import { randomUUID } from 'node:crypto'
import type { Headers } from '../../lib/core/headers.ts'

export interface RequestIdRules {
  readonly generateRequestId: boolean
  readonly preserveExternalRequestId: boolean
}

/**
 * Sets `x-request-id` by Envoy's rules and answers it ('' where there is none): an external caller's id is replaced
 * unless `preserve_external_request_id`, an internal caller's is kept, a missing one is generated.
 */
export function applyRequestId(headers: Headers, internal: boolean, rules: RequestIdRules): string {
  const old = headers.get('x-request-id')
  if (old !== undefined && (internal || rules.preserveExternalRequestId)) return old
  if (!rules.generateRequestId) {
    // Without generation a stranger's id is left alone, as Envoy does.
    return old ?? ''
  }
  const id = randomUUID()
  if (old === undefined) headers.append('x-request-id', id)
  else headers.set('x-request-id', id)
  return id
}
