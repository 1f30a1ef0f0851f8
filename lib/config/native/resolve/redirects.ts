import type { InternalRedirectConfig, RedirectPredicateConfig, RouteActionConfig } from '../../../router/config.ts'
import type { NativeFollowRedirects } from '../routes.ts'
import type { Reading } from './reading.ts'

export function readFollowRedirects(
  value: boolean | NativeFollowRedirects | undefined,
  path: string,
  { origins, findings }: Reading,
): Pick<RouteActionConfig, 'internalRedirect'> {
  if (value === undefined || value === false) return {}
  const given = value === true ? {} : value
  const headersToCopy = (given.headersToCopy ?? []).map((name) => name.toLowerCase())
  if (headersToCopy.some((name) => name.startsWith(':') || name === 'host')) {
    findings.error(`${path}.headersToCopy`, 'must not name the host or a pseudo-header')
  }
  const predicates: RedirectPredicateConfig[] = []
  if (given.newRoutesOnly === true) predicates.push({ kind: 'previous-routes' })
  if (given.crossScheme === 'safe') predicates.push({ kind: 'safe-cross-scheme' })
  if (given.routes !== undefined) predicates.push({ kind: 'allow-listed-routes', routes: [...given.routes] })
  if (given.filterState !== undefined) predicates.push({ kind: 'filter-state', ifAbsent: false, ...given.filterState })
  const internalRedirect: InternalRedirectConfig = {
    max: given.max ?? 1,
    statuses: [...(given.statuses ?? [302 as const])],
    crossScheme: given.crossScheme === true || given.crossScheme === 'safe',
    headersToCopy,
    predicates,
  }
  return { internalRedirect: origins.at(path, internalRedirect) }
}
