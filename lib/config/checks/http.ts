import type {
  HttpConnectionManagerConfig,
  HttpFilterConfig,
  LocalReplyMapperConfig,
  ScopedRoutesConfig,
} from '../listener.ts'
import { checkAccessLog, checkLogFilter } from './logs.ts'
import { checkCidr, checkMatcherTree, checkStringMatch } from './matchers.ts'
import { checkRouteTable, checkUpgrades } from './routes.ts'
import type { Spot } from './spot.ts'
import { checkEditableName, checkFormatConfig, checkHeaderName, checkHeaderValue } from './texts.ts'

/** One connection manager: its filters, its routes, and every text in it that is compiled later. */
export function checkHttp(http: HttpConnectionManagerConfig, spot: Spot): void {
  const terminals = checkFilters(http.filters, spot)
  checkRoutes(http, spot, terminals)
  checkClient(http, spot)
  spot.each('earlyHeaderMutations', http.earlyHeaderMutations, (mutation, at) => {
    if (mutation.remove !== undefined) checkEditableName(mutation.remove, at.field('remove'))
    if (mutation.append !== undefined) checkHeaderValue(mutation.append, at.field('append', mutation.append))
    if (mutation.removeOnMatch === undefined) return
    checkStringMatch(mutation.removeOnMatch, at.field('removeOnMatch', mutation.removeOnMatch))
  })
  const reply = spot.field('localReply', http.localReply)
  checkFormatConfig(http.localReply.bodyFormat, reply.field('bodyFormat', http.localReply.bodyFormat))
  reply.each('mappers', http.localReply.mappers, checkMapper)
  spot.each('accessLogs', http.accessLogs, checkAccessLog)
  checkUpgrades(http.upgrades, spot)
}

/** In one place, and what is there fits. Tables that are named alone need not exist (yet). */
function checkRoutes(http: HttpConnectionManagerConfig, spot: Spot, terminals: ReadonlySet<string>): void {
  const { routes, routeTable, scopedRoutes } = http
  const places = [routes, routeTable, scopedRoutes].filter((place) => place !== undefined)
  if (places.length !== 1) spot.error('one of routes, routeTable and scopedRoutes is required')
  if (routes !== undefined) checkRouteTable(routes, spot.field('routes', routes), terminals)
  if (routeTable === '') spot.field('routeTable').error('must not be empty')
  if (scopedRoutes !== undefined) checkScopes(scopedRoutes, spot.field('scopedRoutes', scopedRoutes), terminals)
}

function checkScopes({ key, scopes }: ScopedRoutesConfig, spot: Spot, terminals: ReadonlySet<string>): void {
  if (key.length === 0) spot.field('key', key).error('must not be empty')
  spot.each('key', key, ({ header, element }, at) => {
    if (!header.startsWith(':')) checkHeaderName(header, at.field('header'))
    if (element.kind === 'key' && element.separator === '') at.field('element', element).error('needs a separator')
  })
  const owners = new Map<string, string>()
  spot.each('scopes', scopes, (scope, at) => {
    const { name, routes, routeTable } = scope
    const text = JSON.stringify(scope.key)
    const owner = owners.get(text)
    if (owner !== undefined) at.field('key', scope.key).error(`is the key of scope "${owner}" already`)
    owners.set(text, name)
    if (scope.key.length !== key.length) {
      at.field('key', scope.key).error(`has ${scope.key.length} parts, and keys are made of ${key.length}`)
    }
    if ((routes === undefined) === (routeTable === undefined)) at.error('one of routes and routeTable is required')
    if (routes !== undefined) checkRouteTable(routes, at.field('routes', routes), terminals)
  })
}

/** Unique names, one filter that ends the chain, and that one last. Answers the names of those that end it. */
function checkFilters(filters: readonly HttpFilterConfig[], spot: Spot): ReadonlySet<string> {
  const names = new Set<string>()
  const terminals = new Set<string>()
  spot.each('filters', filters, (filter, at, i) => {
    if (filter.name === '') at.field('name').error('must not be empty')
    else if (names.has(filter.name)) at.field('name').error(`a second HTTP filter "${filter.name}"`)
    names.add(filter.name)
    if (filter.instance !== undefined || filter.missing === true || !spot.context.isTerminal(filter.typeUrl)) return
    terminals.add(filter.name)
    if (filter.disabled) at.field('disabled').error(`"${filter.name}" ends the filter chain and cannot be disabled`)
    if (i < filters.length - 1) at.error(`"${filter.name}" ends the filter chain and must be the last filter`)
  })
  if (terminals.size === 0) {
    spot.field('filters').error('the last HTTP filter must be one that ends the chain (the router)')
  }
  return terminals
}

function checkClient(http: HttpConnectionManagerConfig, spot: Spot): void {
  const { clientCertificateHeader: told } = http
  if (told?.byRequest !== undefined) {
    const at = spot.field('clientCertificateHeader', told).field('byRequest', told.byRequest)
    checkMatcherTree(told.byRequest, at, () => {})
  }
  spot.each('internalCidrs', http.internalCidrs, checkCidr)
  spot.each('originalIpDetection', http.originalIpDetection, (detection, at) => {
    if (detection.kind === 'custom-header') {
      checkHeaderName(detection.header, at.field('header'))
      return
    }
    at.each('trustedCidrs', detection.trustedCidrs, checkCidr)
    if (detection.trustedHops > 0 && detection.trustedCidrs !== undefined) {
      at.field('trustedCidrs').error('excludes trustedHops')
    }
  })
  if (http.originalIpDetection.length === 0) return
  if (http.useRemoteAddress) spot.field('useRemoteAddress').error('excludes originalIpDetection')
  if (http.xffTrustedHops > 0) spot.field('xffTrustedHops').error('excludes originalIpDetection')
}

function checkMapper(mapper: LocalReplyMapperConfig, spot: Spot): void {
  checkLogFilter(mapper.filter, spot.field('filter', mapper.filter))
  checkFormatConfig(mapper.bodyFormat, spot.field('bodyFormat', mapper.bodyFormat))
  spot.each('headers', mapper.headers, checkHeaderValue)
}
