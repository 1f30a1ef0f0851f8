import type { HttpConnectionManagerConfig, HttpFilterConfig, LocalReplyMapperConfig } from '../listener.ts'
import { checkAccessLog, checkLogFilter } from './logs.ts'
import { checkCidr, checkStringMatch } from './matchers.ts'
import { checkRouteTable, checkUpgrades } from './routes.ts'
import type { Spot } from './spot.ts'
import { checkEditableName, checkFormatConfig, checkHeaderName, checkHeaderValue } from './texts.ts'

/** One connection manager: its filters, its routes, and every text in it that is compiled later. */
export function checkHttp(http: HttpConnectionManagerConfig, spot: Spot): void {
  const terminals = checkFilters(http.filters, spot)
  checkRouteTable(http.routes, spot.field('routes', http.routes), terminals)
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

/** Unique names, one filter that ends the chain, and that one last. Answers the names of those that end it. */
function checkFilters(filters: readonly HttpFilterConfig[], spot: Spot): ReadonlySet<string> {
  const names = new Set<string>()
  const terminals = new Set<string>()
  spot.each('filters', filters, (filter, at, i) => {
    if (filter.name === '') at.field('name').error('must not be empty')
    else if (names.has(filter.name)) at.field('name').error(`a second HTTP filter "${filter.name}"`)
    names.add(filter.name)
    if (filter.instance !== undefined || !spot.context.isTerminal(filter.typeUrl)) return
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
