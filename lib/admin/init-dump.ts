import type { JsonObject } from '../core/errors.ts'
import type { AdminAnswer, AdminRequest } from './endpoint.ts'
import { json } from './endpoint.ts'

/**
 * Envoy's `/init_dump` (`envoy.admin.v3.UnreadyTargetsDumps`): what is not finished yet, and what it waits for. `mask` is
 * the kind of what is not finished (`listener`, as in Envoy; here also `cluster`); nothing is of a kind that there is not.
 */
export function initDump({ query, backend }: AdminRequest): AdminAnswer {
  const mask = query.get('mask')
  const waiting = backend.dynamic()?.waiting ?? []
  const asked = waiting.filter(({ target }) => mask === null || target.split(' ', 1)[0] === mask)
  if (asked.length === 0) return json({})
  return json({
    unready_targets_dumps: asked.map((one): JsonObject => ({ name: one.target, target_names: [...one.for] })),
  })
}
