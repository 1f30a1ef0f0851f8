import { routerFactory } from '../router/router.ts'
import type { AnyFactory } from './load-config.ts'

/** The filters that the reference binary has. A custom gateway makes its own list, usually beginning with this one. */
export function standardFilters(): readonly AnyFactory[] {
  return [routerFactory]
}
