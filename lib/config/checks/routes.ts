import { compileTemplateRewrite } from '../../match/template.ts'
import { didYouMean } from '../../proto/suggest.ts'
import type {
  ClusterChoiceConfig,
  FilterConfigs,
  MirrorConfig,
  PathMatchConfig,
  PathRewriteConfig,
  RouteActionConfig,
  RouteConfig,
  RouteTableConfig,
  VirtualHostConfig,
} from '../../router/config.ts'
import { checkHashPolicy } from './hash-policy.ts'
import { checkFraction, checkMatcherTree, checkRouteMatch } from './matchers.ts'
import type { Spot } from './spot.ts'
import { checkFormatConfig, checkHeaderEdits, checkHeaderName, checkRegexRewrite, checkText } from './texts.ts'

const MAX_WEIGHT_SUM = 0xffff_ffff

/** What a route needs to know of the table and the chain around it. */
interface Surroundings {
  readonly table: RouteTableConfig
  /** Names of filters that end the chain and may not be switched off. */
  readonly terminals: ReadonlySet<string>
  readonly virtualHost: string
  readonly route: string
}

/** A route table; `terminals` names the filters of its chain that end it. */
export function checkRouteTable(table: RouteTableConfig, spot: Spot, terminals: ReadonlySet<string>): void {
  const around: Surroundings = { table, terminals, virtualHost: '', route: '' }
  checkLevel(table, spot, around)
  spot.each('internalOnlyHeaders', table.internalOnlyHeaders, checkHeaderName)
  if (table.virtualHostHeader !== undefined) checkHeaderName(table.virtualHostHeader, spot.field('virtualHostHeader'))
  const owners = new Map<string, string>()
  const names = new Set<string>()
  spot.each('virtualHosts', table.virtualHosts, (host, at) => {
    if (names.has(host.name)) at.field('name').error(`a second virtual host "${host.name}"`)
    names.add(host.name)
    checkDomains(host, at, owners)
    checkVirtualHost(host, at, { ...around, virtualHost: host.name })
  })
}

function checkDomains(host: VirtualHostConfig, spot: Spot, owners: Map<string, string>): void {
  if (host.domains.length === 0) spot.field('domains').error('must not be empty')
  spot.each('domains', host.domains, (domain, at) => {
    const owner = owners.get(domain)
    if (owner !== undefined) at.error(`"${domain}" belongs to virtual host "${owner}" already; domains must be unique`)
    owners.set(domain, host.name)
    if (domain === '') at.error('must not be empty')
    else if (domain.slice(1, -1).includes('*')) at.error(`"${domain}" has "*" in its middle`)
  })
}

function checkVirtualHost(host: VirtualHostConfig, spot: Spot, around: Surroundings): void {
  checkLevel(host, spot, around)
  spot.each('routes', host.routes, (route, at) => checkRoute(route, at, around))
  if (host.matcher === undefined) return
  if (host.routes.length > 0) spot.field('matcher').error('excludes routes')
  const tree = spot.field('matcher', host.matcher)
  checkMatcherTree(host.matcher, tree, (route, at) => checkRoute(route, at, around))
}

function checkRoute(route: RouteConfig, spot: Spot, host: Surroundings): void {
  const around = { ...host, route: route.name }
  checkRouteMatch(route.match, spot.field('match', route.match))
  checkLevel(route, spot, around)
  const { action } = route
  const at = spot.field('action', action)
  switch (action.kind) {
    case 'route':
      checkForward(action, at, { ...around, path: route.match.path })
      break
    case 'redirect':
      if (action.regexRewrite !== undefined) {
        checkRegexRewrite(action.regexRewrite, at.field('regexRewrite', action.regexRewrite))
      }
      break
    case 'direct': {
      checkFormatConfig(action.bodyFormat, at.field('bodyFormat', action.bodyFormat))
      const size = Buffer.byteLength(action.body ?? '')
      const limit = host.table.maxDirectResponseBodyBytes
      if (size > limit) at.field('body').error(`is ${size} bytes long, the limit is ${limit}`)
      break
    }
  }
}

function checkForward(
  action: RouteActionConfig,
  spot: Spot,
  around: Surroundings & { readonly path: PathMatchConfig },
): void {
  checkChoice(action.cluster, spot.field('cluster', action.cluster), around)
  spot.each('mirrors', action.mirrors, (mirror, at) => checkMirror(mirror, at, around))
  checkUpgrades(action.upgrades, spot, true)
  const tunnel = action.upgrades?.find(({ connect }) => connect?.targets !== undefined)?.connect
  spot.each('targets', tunnel?.targets, ({ cluster }, at) => {
    if (cluster !== undefined) checkCluster(cluster, at.field('cluster'), around)
  })
  spot.each('hashPolicies', action.hashPolicies, checkHashPolicy)
  const { pathRewrite, hostRewrite } = action
  if (pathRewrite !== undefined) checkPathRewrite(pathRewrite, spot.field('pathRewrite', pathRewrite), around.path)
  if (hostRewrite === undefined) return
  const at = spot.field('hostRewrite', hostRewrite)
  if (hostRewrite.kind === 'path-regex')
    checkRegexRewrite(hostRewrite.rewrite, at.field('rewrite', hostRewrite.rewrite))
  else if (hostRewrite.kind === 'format') checkText(hostRewrite.value, at.field('value'))
  else if (hostRewrite.kind === 'header') checkHeaderName(hostRewrite.name, at.field('name'))
  else if (hostRewrite.kind === 'literal' && /[\s\0]/.test(hostRewrite.value)) {
    at.field('value').error(`"${hostRewrite.value}" is not a host`)
  }
}

function checkPathRewrite(rewrite: PathRewriteConfig, spot: Spot, path: PathMatchConfig): void {
  switch (rewrite.kind) {
    case 'regex':
      checkRegexRewrite(rewrite.rewrite, spot.field('rewrite', rewrite.rewrite))
      break
    case 'template':
      if (path.kind !== 'template') spot.error('a template rewrite needs a route that matches by a path template')
      else spot.field('value').attempt(() => compileTemplateRewrite(path.value, rewrite.value))
      break
    case 'format':
      checkText(rewrite.value, spot.field('value'))
      break
  }
}

function checkChoice(choice: ClusterChoiceConfig, spot: Spot, around: Surroundings): void {
  if (choice.kind === 'cluster') checkCluster(choice.name, spot.field('name'), around)
  else if (choice.kind === 'header') checkHeaderName(choice.name, spot.field('name'))
  else checkWeighted(choice, spot, around)
}

function checkWeighted(
  choice: Extract<ClusterChoiceConfig, { kind: 'weighted' }>,
  spot: Spot,
  around: Surroundings,
): void {
  if (choice.randomHeader !== undefined) checkHeaderName(choice.randomHeader, spot.field('randomHeader'))
  let sum = 0
  spot.each('clusters', choice.clusters, (cluster, at) => {
    sum += cluster.weight
    if ((cluster.name === undefined) === (cluster.clusterHeader === undefined)) {
      at.error('exactly one of name and clusterHeader must be set')
    }
    if (cluster.name !== undefined) checkCluster(cluster.name, at.field('name'), around)
    if (cluster.clusterHeader !== undefined) checkHeaderName(cluster.clusterHeader, at.field('clusterHeader'))
    checkLevel(cluster, at, around)
  })
  if (sum < 1 || sum > MAX_WEIGHT_SUM) spot.error(`the weights must add up to 1…${MAX_WEIGHT_SUM}, they are ${sum}`)
}

function checkMirror(mirror: MirrorConfig, spot: Spot, around: Surroundings): void {
  if ((mirror.cluster === undefined) === (mirror.clusterHeader === undefined)) {
    spot.error('exactly one of cluster and clusterHeader must be set')
  }
  if (mirror.cluster !== undefined) checkCluster(mirror.cluster, spot.field('cluster'), around)
  if (mirror.clusterHeader !== undefined) checkHeaderName(mirror.clusterHeader, spot.field('clusterHeader'))
  checkFraction(mirror.fraction, spot.field('fraction', mirror.fraction))
}

function checkCluster(name: string, spot: Spot, { table, virtualHost, route }: Surroundings): void {
  const { clusters } = spot.context
  if (name === '') spot.error('must not be empty')
  if (name === '' || !table.validateClusters || clusters === undefined || clusters.has(name)) return
  const host = virtualHost === '' ? 'the route table' : `virtual host "${virtualHost}"`
  const where = route === '' ? host : `route "${route}"`
  spot.error(`unknown cluster "${name}" in ${where}${didYouMean(name, clusters)}`)
}

/** What route table, virtual host, route and weighted cluster have in common. */
function checkLevel(
  level: Pick<VirtualHostConfig, 'requestHeaders' | 'responseHeaders' | 'filterConfigs' | 'mirrors'>,
  spot: Spot,
  around: Surroundings,
): void {
  checkHeaderEdits(level.requestHeaders, spot.field('requestHeaders', level.requestHeaders))
  checkHeaderEdits(level.responseHeaders, spot.field('responseHeaders', level.responseHeaders))
  checkOverrides(level.filterConfigs, spot, around)
  spot.each('mirrors', level.mirrors, (mirror, at) => checkMirror(mirror, at, around))
}

/** Names that the chain does not have are without effect, as in Envoy; a dialect may refuse them. */
function checkOverrides(configs: FilterConfigs | undefined, spot: Spot, { terminals }: Surroundings): void {
  if (configs === undefined) return
  const at = spot.field('filterConfigs', configs)
  for (const [name, override] of Object.entries(configs)) {
    if (override.disabled !== true || !terminals.has(name)) continue
    at.entry(name).error(`"${name}" ends the filter chain and cannot be disabled`)
  }
}

/** Upgrades of a connection manager or a route: each type once; only a route's CONNECT can end here. */
export function checkUpgrades(upgrades: RouteActionConfig['upgrades'], spot: Spot, route = false): void {
  const seen = new Set<string>()
  spot.each('upgrades', upgrades, ({ type, connect }, at) => {
    if (seen.has(type)) at.field('type').error(`"${type}" is listed twice`)
    seen.add(type)
    if (connect === undefined) return
    if (!route) at.field('connect').error('belongs to routes')
    else if (type !== 'connect') at.field('connect').error(`belongs to the upgrade "connect", this one is "${type}"`)
  })
}
