import { buffer } from '../../filters/buffer/index.ts'
import { cors } from '../../filters/cors/index.ts'
import { headerMutation } from '../../filters/header-mutation/index.ts'
import { healthCheck } from '../../filters/health-check/index.ts'
import type { AnyFilterFactory } from '../chain/registry.ts'
import { routerFactory } from '../router/router.ts'

/** The filters that the reference binary has. A custom gateway makes its own list, usually beginning with this one. */
export function standardFilters(): readonly AnyFilterFactory[] {
  return [buffer, cors, headerMutation, healthCheck, routerFactory]
}
