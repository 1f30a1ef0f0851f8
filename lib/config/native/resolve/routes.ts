import type { Json } from '../../../core/errors.ts'
import { indexPath, namePath } from '../../../proto/path.ts'
import type {
  AppendAction,
  ClusterChoiceConfig,
  ConnectConfig,
  HeaderEditsConfig,
  HeaderValueConfig,
  HostRewriteConfig,
  MirrorConfig,
  PathRewriteConfig,
  RouteActionConfig,
  RouteConfig,
  RouteTableConfig,
  UpgradeConfig,
  VirtualHostConfig,
} from '../../../router/config.ts'
import type { NativeHttp } from '../http.ts'
import type { NativeMetadata } from '../matches.ts'
import type {
  NativeAction,
  NativeClusterChoice,
  NativeConnect,
  NativeForward,
  NativeHeaderEdits,
  NativeHostRewrite,
  NativeMirror,
  NativePathRewrite,
  NativeRoute,
  NativeUpgrade,
  NativeVirtualHost,
  NativeWeightedCluster,
} from '../routes.ts'
import { type ChainFilter, readOverrides } from './filters.ts'
import { readHashPolicy } from './hash-policy.ts'
import { readFormat } from './logs.ts'
import { mapTree, readFraction, readRouteMatch } from './matches.ts'
import { readRateLimits } from './rate-limits.ts'
import { defined, type Reading } from './reading.ts'
import { readFollowRedirects } from './redirects.ts'
import { readRetry } from './retries.ts'

const TIMEOUT_MS = 15_000
const MAX_DIRECT_BODY_BYTES = 4096

/** Routes are read against the chain that their per-route settings speak of. */
export type RouteReading = Reading & { readonly chain: ReadonlyMap<string, ChainFilter> }

/** The route table of a connection manager; `path` is the connection manager's. */
export function readRouteTable(http: NativeHttp, path: string, reading: RouteReading): RouteTableConfig {
  const table = http.routeTable ?? {}
  const at = `${path}.routeTable`
  const virtualHosts = http.virtualHosts?.map((host, i) =>
    readVirtualHost(host, indexPath(`${path}.virtualHosts`, i), reading),
  ) ?? [
    // The author's `routes` stand where the fields of this virtual host would.
    readVirtualHost({ name: 'all', domains: ['*'], routes: http.routes ?? [] }, path, reading),
  ]
  return reading.origins.at(at, {
    name: table.name ?? '',
    virtualHosts,
    ...readLevel(table, at, reading),
    ...(table.internalOnlyHeaders && { internalOnlyHeaders: table.internalOnlyHeaders.map(lower) }),
    ignorePortInHostMatching: table.ignorePortInHostMatching ?? false,
    mostSpecificHeaderMutationsWins: table.mostSpecificHeaderMutationsWins ?? false,
    validateClusters: table.validateClusters ?? true,
    maxDirectResponseBodyBytes: table.maxDirectResponseBodyBytes ?? MAX_DIRECT_BODY_BYTES,
    ...(table.virtualHostHeader !== undefined && { virtualHostHeader: lower(table.virtualHostHeader) }),
  })
}

function readVirtualHost(host: NativeVirtualHost, path: string, reading: RouteReading): VirtualHostConfig {
  const { matcher } = host
  return reading.origins.at(path, {
    name: host.name,
    domains: host.domains.map(lower),
    routes: (host.routes ?? []).map((route, i) => readRoute(route, indexPath(`${path}.routes`, i), reading)),
    ...(matcher && { matcher: mapTree(matcher, `${path}.matcher`, (route, at) => readRoute(route, at, reading)) }),
    requireTls: host.requireTls ?? 'none',
    ...readLevel(host, path, reading),
    ...readRetries(host, path, reading),
    ...(host.rateLimits && { rateLimits: readRateLimits(host.rateLimits) }),
    ...(host.includeTimeoutRetry === true && { includeTimeoutRetry: true }),
    ...(host.includeAttemptCount === true && { includeAttemptCount: true }),
    ...(host.includeAttemptCountInResponse === true && { includeAttemptCountInResponse: true }),
  })
}

function readRoute(route: NativeRoute, path: string, reading: RouteReading): RouteConfig {
  return reading.origins.at(path, {
    name: route.name ?? '',
    match: readRouteMatch(route.match, `${path}.match`, reading),
    action: readAction(route.action, `${path}.action`, reading),
    ...readLevel(route, path, reading),
    ...(route.statPrefix !== undefined && { statPrefix: route.statPrefix }),
  })
}

/** What route table, virtual host, route and weighted cluster have in common. */
interface Level {
  readonly requestHeaders?: NativeHeaderEdits
  readonly responseHeaders?: NativeHeaderEdits
  readonly filterConfigs?: NativeVirtualHost['filterConfigs']
  readonly mirrors?: readonly NativeMirror[]
  readonly metadata?: NativeMetadata
}

function readLevel(
  level: Level,
  path: string,
  reading: RouteReading,
): Pick<VirtualHostConfig, 'requestHeaders' | 'responseHeaders' | 'filterConfigs' | 'mirrors' | 'metadata'> {
  const { requestHeaders, responseHeaders, mirrors, metadata } = level
  const filterConfigs = readOverrides(level.filterConfigs, `${path}.filterConfigs`, reading)
  return {
    ...(requestHeaders && { requestHeaders: readHeaderEdits(requestHeaders, `${path}.requestHeaders`, reading) }),
    ...(responseHeaders && { responseHeaders: readHeaderEdits(responseHeaders, `${path}.responseHeaders`, reading) }),
    ...(filterConfigs && { filterConfigs }),
    ...(mirrors && {
      mirrors: mirrors.map((mirror, i) => readMirror(mirror, indexPath(`${path}.mirrors`, i), reading)),
    }),
    ...(metadata && { metadata: structuredClone(metadata) as { [namespace: string]: Json } }),
  }
}

const WRITES: readonly { readonly field: 'set' | 'append' | 'addIfAbsent'; readonly action: AppendAction }[] = [
  { field: 'set', action: 'overwrite-or-add' },
  { field: 'append', action: 'append' },
  { field: 'addIfAbsent', action: 'add-if-absent' },
]

function readHeaderEdits(edits: NativeHeaderEdits, path: string, { origins }: Reading): HeaderEditsConfig {
  // The long form first, so that its items keep their places.
  const add: HeaderValueConfig[] = (edits.add ?? []).map((value, i) =>
    origins.at(indexPath(`${path}.add`, i), { ...value, name: lower(value.name) }),
  )
  for (const { field, action } of WRITES) {
    for (const [name, value] of Object.entries(edits[field] ?? {})) {
      add.push(origins.whole(namePath(`${path}.${field}`, name), { name: lower(name), value, action }))
    }
  }
  return origins.at(path, { remove: (edits.remove ?? []).map(lower), add })
}

function readMirror(value: NativeMirror, path: string, { origins }: Reading): MirrorConfig {
  if (typeof value === 'string') return origins.whole(path, { cluster: value, appendShadow: true })
  return origins.at(path, {
    ...(value.cluster !== undefined && { cluster: value.cluster }),
    ...(value.clusterHeader !== undefined && { clusterHeader: lower(value.clusterHeader) }),
    ...(value.fraction && { fraction: readFraction(value.fraction) }),
    appendShadow: value.appendShadow ?? true,
    ...(value.hostRewrite !== undefined && { hostRewrite: value.hostRewrite }),
  })
}

/** `path` is the list's. */
export function readUpgrades(upgrades: readonly NativeUpgrade[], path: string, { origins }: Reading): UpgradeConfig[] {
  return upgrades.map((value, i) => {
    const at = indexPath(path, i)
    if (typeof value === 'string') return origins.whole(at, { type: lower(value), enabled: true })
    const connect = value.connect && readConnect(value.connect)
    return origins.at(at, { type: lower(value.type), enabled: value.enabled, ...(connect && { connect }) })
  })
}

function readConnect({ allowPost, proxyProtocol: version }: NativeConnect): ConnectConfig {
  return {
    allowPost: allowPost ?? false,
    ...(version && { proxyProtocol: { kind: 'proxy-protocol', version, passTlvs: 'none', addedTlvs: [] } }),
  }
}

function readAction(action: NativeAction, path: string, reading: RouteReading): RouteConfig['action'] {
  switch (action.kind) {
    case 'route':
      return readForward(action, path, reading)
    case 'redirect':
      return reading.origins.at(path, {
        ...defined(action),
        status: action.status ?? 301,
        stripQuery: action.stripQuery ?? false,
        ...(action.scheme !== undefined && { scheme: lower(action.scheme) }),
      })
    case 'direct': {
      const { status, body, bodyFormat } = action
      return reading.origins.at(path, {
        kind: 'direct',
        status,
        ...(body !== undefined && { body }),
        ...(bodyFormat !== undefined && { bodyFormat: readFormat(bodyFormat, `${path}.bodyFormat`, reading) }),
      })
    }
    case 'none':
      return { kind: 'none' }
  }
}

function readForward(action: NativeForward, path: string, reading: RouteReading): RouteActionConfig {
  const { pathRewrite, hostRewrite, mirrors, upgrades, metadataMatch, hashPolicies } = action
  return reading.origins.at(path, {
    kind: 'route',
    cluster: readChoice(action.cluster, `${path}.cluster`, reading),
    clusterNotFoundStatus: action.clusterNotFoundStatus ?? 503,
    timeoutMs: action.timeoutMs ?? TIMEOUT_MS,
    ...defined({
      idleTimeoutMs: action.idleTimeoutMs,
      maxStreamDurationMs: action.maxStreamDurationMs,
      grpcTimeoutMaxMs: action.grpcTimeoutMaxMs,
      grpcTimeoutOffsetMs: action.grpcTimeoutOffsetMs,
      bodyBufferLimitBytes: action.bodyBufferLimitBytes,
    }),
    ...(pathRewrite && { pathRewrite: readPathRewrite(pathRewrite, `${path}.pathRewrite`, reading) }),
    ...(hostRewrite !== undefined && { hostRewrite: readHostRewrite(hostRewrite, `${path}.hostRewrite`, reading) }),
    ...(action.appendXForwardedHost === true && { appendXForwardedHost: true }),
    ...(mirrors && {
      mirrors: mirrors.map((mirror, i) => readMirror(mirror, indexPath(`${path}.mirrors`, i), reading)),
    }),
    priority: action.priority ?? 'default',
    ...(upgrades && { upgrades: readUpgrades(upgrades, `${path}.upgrades`, reading) }),
    ...(metadataMatch && { metadataMatch: structuredClone(metadataMatch) }),
    ...(action.rateLimits && { rateLimits: readRateLimits(action.rateLimits) }),
    ...(hashPolicies && { hashPolicies: hashPolicies.map(readHashPolicy) }),
    ...readRetries(action, path, reading),
    ...readFollowRedirects(action.followRedirects, `${path}.followRedirects`, reading),
  })
}

function readRetries(
  { retry, hedge }: Pick<NativeForward, 'retry' | 'hedge'>,
  path: string,
  reading: Reading,
): Pick<RouteActionConfig, 'retry' | 'hedge'> {
  return {
    ...(retry && { retry: readRetry(retry, `${path}.retry`, reading) }),
    ...(hedge !== undefined && { hedge: { onPerTryTimeout: hedge } }),
  }
}

function readChoice(value: NativeClusterChoice, path: string, reading: RouteReading): ClusterChoiceConfig {
  const { origins } = reading
  if (typeof value === 'string') return origins.whole(path, { kind: 'cluster', name: value })
  if ('kind' in value) return origins.at(path, value.kind === 'header' ? { ...value, name: lower(value.name) } : value)
  if ('header' in value) return origins.whole(`${path}.header`, { kind: 'header', name: lower(value.header) })
  const clusters = value.weighted.map((cluster, i) => {
    const at = indexPath(`${path}.weighted`, i)
    return origins.at(at, readWeighted(cluster, at, reading))
  })
  const { randomHeader } = value
  return origins.at(path, {
    kind: 'weighted',
    clusters,
    ...(randomHeader !== undefined && { randomHeader: lower(randomHeader) }),
  })
}

function readWeighted(
  cluster: NativeWeightedCluster,
  path: string,
  reading: RouteReading,
): Extract<ClusterChoiceConfig, { kind: 'weighted' }>['clusters'][number] {
  const { name, clusterHeader, weight, hostRewrite, metadataMatch } = cluster
  return {
    ...(name !== undefined && { name }),
    ...(clusterHeader !== undefined && { clusterHeader: lower(clusterHeader) }),
    weight,
    ...readLevel(cluster, path, reading),
    ...(hostRewrite !== undefined && { hostRewrite }),
    ...(metadataMatch && { metadataMatch: structuredClone(metadataMatch) }),
  }
}

function readPathRewrite(value: NativePathRewrite, path: string, { origins }: Reading): PathRewriteConfig {
  if ('kind' in value) return origins.at(path, value)
  if ('regex' in value) {
    const rewrite = origins.at(path, { regex: value.regex, substitution: value.substitution })
    return origins.at(path, { kind: 'regex', rewrite })
  }
  if ('template' in value) return origins.whole(`${path}.template`, { kind: 'template', value: value.template })
  if ('format' in value) return origins.whole(`${path}.format`, { kind: 'format', value: value.format })
  return origins.whole(`${path}.prefix`, { kind: 'prefix', value: value.prefix })
}

function readHostRewrite(value: NativeHostRewrite, path: string, { origins }: Reading): HostRewriteConfig {
  if (typeof value === 'string') return origins.whole(path, { kind: 'literal', value })
  if ('kind' in value) return origins.at(path, value.kind === 'header' ? { ...value, name: lower(value.name) } : value)
  if ('header' in value) return origins.whole(`${path}.header`, { kind: 'header', name: lower(value.header) })
  if ('format' in value) return origins.whole(`${path}.format`, { kind: 'format', value: value.format })
  if ('auto' in value) return { kind: 'auto' }
  const rewrite = origins.at(`${path}.pathRegex`, { ...value.pathRegex })
  return { kind: 'path-regex', rewrite }
}

function lower(text: string): string {
  return text.toLowerCase()
}
