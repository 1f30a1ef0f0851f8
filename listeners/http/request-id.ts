import type { Headers } from '../../lib/core/headers.ts'
import type { Uuids } from '../../lib/core/uuids.ts'

export interface RequestIdRules {
  readonly useRemoteAddress: boolean
  readonly generateRequestId: boolean
  readonly preserveExternalRequestId: boolean
}

/**
 * Sets `x-request-id` by Envoy's rules and answers it ('' where there is none): at the edge (`use_remote_address`) an
 * external caller's id is replaced unless `preserve_external_request_id`; elsewhere it is kept. A missing or empty one
 * is generated.
 */
export function applyRequestId(headers: Headers, internal: boolean, rules: RequestIdRules, uuids: Uuids): string {
  const old = headers.get('x-request-id')
  const trusted = internal || !rules.useRemoteAddress || rules.preserveExternalRequestId
  if (old !== undefined && old !== '' && trusted) return old
  if (!rules.generateRequestId) {
    // Without generation a stranger's id is left alone, as Envoy does.
    return old ?? ''
  }
  const id = uuids.next()
  if (old === undefined) headers.add('x-request-id', id)
  else headers.put('x-request-id', id)
  return id
}
