import type { AnyFilterFactory } from '../chain/registry.ts'
import { routerFactory } from '../router/router.ts'

/** The filters that the reference binary has. A custom gateway makes its own list, usually beginning with this one. */
export function standardFilters(): readonly AnyFilterFactory[] {
  return [routerFactory]
}
