import type { LoadRequest } from '../load/load.ts'

/** A generated route: what it matches in Envoy's terms, and a request that only it takes. */
export interface GeneratedRoute {
  readonly match: object
  readonly request: LoadRequest
}

/**
 * Route `index` of `count`: the last tenth are regular expressions, the others by turns a prefix, an exact path and a
 * path with a header matcher. No request matches two routes, so each is found at its own place in the order.
 */
export function routeOf(index: number, count: number): GeneratedRoute {
  if (index >= count - Math.floor(count / 10)) {
    const regex = `/items-${index}/[0-9]+/[a-z]+`
    return { match: { safe_regex: { regex } }, request: { method: 'GET', path: `/items-${index}/42/detail` } }
  }
  if (index % 3 === 0) {
    return { match: { prefix: `/service-${index}/` }, request: { method: 'GET', path: `/service-${index}/orders/7` } }
  }
  const path = `/page-${index}`
  if (index % 3 === 1) return { match: { path }, request: { method: 'GET', path } }
  const header = { name: 'x-tenant', string_match: { exact: `tenant-${index}` } }
  return {
    match: { path, headers: [header] },
    request: { method: 'GET', path, header: ['x-tenant', `tenant-${index}`] },
  }
}

/** A request for each of the routes, in an order that jumps through them and is the same in every run. */
export function requestsFor(count: number): LoadRequest[] {
  // 7919 is prime and divides none of the counts in use, so every index comes exactly once.
  return Array.from({ length: count }, (_, i) => routeOf((i * 7919) % count, count).request)
}
