import type { HttpStream } from '../chain/filter.ts'
import type { JsonObject } from '../core/errors.ts'
import { compileFraction } from '../match/fraction.ts'
import { ProxyHeaderWriter } from '../upstream/proxy-protocol.ts'
import { clusterFromHeader } from './cluster-choice.ts'
import type {
  DirectResponseConfig,
  MirrorConfig,
  RouteActionConfig,
  RouteConfig,
  UpgradeConfig,
  WeightedClusterConfig,
} from './config.ts'
import { HashPolicies } from './hash-policy.ts'
import { HboneTargets } from './hbone-targets.ts'
import { compileRedirect } from './redirect.ts'
import type { RetryPolicy } from './retry/policy.ts'
import { compileHostRewrite, compilePathRewrite, type HostRewrite } from './rewrite.ts'
import type {
  CompiledAction,
  CompiledMirror,
  ConnectAction,
  DirectAction,
  ForwardAction,
  RouteTableDeps,
} from './route.ts'

/** What holds for a route, of whichever level says it: the most specific one that says anything. */
export interface ActionLevels {
  readonly mirrors: readonly MirrorConfig[]
  readonly retry: RetryPolicy | undefined
  readonly hedge: boolean
}

type Deps = Pick<RouteTableDeps<unknown>, 'runtime' | 'compileFormat' | 'compileBody'>

/**
 * Compiles what a route does.
 *
 * @throws Error for a bad regex, template or format.
 */
export function compileAction(route: RouteConfig, levels: ActionLevels, deps: Deps): CompiledAction {
  const { action, match } = route
  switch (action.kind) {
    case 'redirect':
      return {
        kind: 'redirect',
        status: action.status,
        location: compileRedirect(action, match, deps.compileFormat),
      }
    case 'direct':
      return compileDirect(action, deps)
    case 'none':
      return { kind: 'none' }
    case 'route':
      return compileForward(route, action, levels, deps)
  }
}

function compileForward(
  route: RouteConfig,
  action: RouteActionConfig,
  { mirrors, retry, hedge }: ActionLevels,
  deps: Deps,
): ForwardAction {
  const { pathRewrite, hostRewrite } = action
  return {
    kind: 'route',
    clusterNotFoundStatus: action.clusterNotFoundStatus,
    timeoutMs: action.timeoutMs,
    idleTimeoutMs: action.idleTimeoutMs,
    maxStreamDurationMs: action.maxStreamDurationMs,
    grpcTimeoutMaxMs: action.grpcTimeoutMaxMs,
    grpcTimeoutOffsetMs: action.grpcTimeoutOffsetMs,
    streamTimeouts: action.streamTimeouts === true,
    priority: action.priority,
    upgrades: action.upgrades,
    connect: compileConnect(action.upgrades),
    mirrors: mirrors.map((m) => compileMirror(m, deps)),
    rewritePath: pathRewrite && compilePathRewrite(pathRewrite, route.match.path, deps.compileFormat),
    rewriteHost: hostRewrite && compileHostRewrite(hostRewrite, deps.compileFormat),
    autoHostRewrite: hostRewrite?.kind === 'auto',
    appendXForwardedHost: action.appendXForwardedHost === true,
    metadataMatch: action.metadataMatch,
    hashPolicies: action.hashPolicies && new HashPolicies(action.hashPolicies),
    bodyBufferLimitBytes: action.bodyBufferLimitBytes,
    retry,
    hedge,
    internalRedirect: action.internalRedirect,
  }
}

function compileConnect(upgrades: readonly UpgradeConfig[] | undefined): ConnectAction | undefined {
  const connect = upgrades?.find((upgrade) => upgrade.type === 'connect' && upgrade.enabled)?.connect
  if (connect === undefined) return undefined
  const { allowPost, proxyProtocol } = connect
  const targets = connect.targets && new HboneTargets(connect.targets)
  if (proxyProtocol === undefined) return { allowPost, header: undefined, targets }
  const writer = new ProxyHeaderWriter(proxyProtocol)
  return { allowPost, header: (connection) => writer.header(connection), targets }
}

/** The action of one weighted cluster: the route's, with the host rewrite and the metadata match of its own. */
export function forWeighted(action: ForwardAction, weighted: WeightedClusterConfig): ForwardAction {
  const { hostRewrite, metadataMatch } = weighted
  if (hostRewrite === undefined && metadataMatch === undefined) return action
  const rewriteHost: HostRewrite | undefined = hostRewrite === undefined ? action.rewriteHost : () => hostRewrite
  return {
    ...action,
    rewriteHost,
    autoHostRewrite: action.autoHostRewrite && hostRewrite === undefined,
    metadataMatch: merged(action.metadataMatch, metadataMatch),
  }
}

function merged(base: JsonObject | undefined, over: JsonObject | undefined): JsonObject | undefined {
  if (base === undefined || over === undefined) return over ?? base
  return { ...base, ...over }
}

function compileMirror(mirror: MirrorConfig, deps: Deps): CompiledMirror {
  return {
    cluster: mirrorCluster(mirror),
    sampled: mirror.fraction && compileFraction(mirror.fraction, deps.runtime),
    appendShadow: mirror.appendShadow,
    hostRewrite: mirror.hostRewrite,
  }
}

function mirrorCluster(mirror: MirrorConfig): (stream: HttpStream) => string | undefined {
  const { cluster, clusterHeader } = mirror
  if (cluster !== undefined && cluster !== '') return () => cluster
  if (clusterHeader === undefined) return () => undefined
  const read = clusterFromHeader(clusterHeader)
  return (stream) => read(stream.request, stream.head)
}

function compileDirect(action: DirectResponseConfig, deps: Deps): DirectAction {
  const { bodyFormat, bodyBase64 } = action
  const kind = 'direct'
  const bytes = bodyBase64 === undefined ? undefined : Buffer.from(bodyBase64, 'base64')
  const body = bytes === undefined ? action.body : bytes.toString('utf8')
  if (bodyFormat !== undefined) {
    const contentType = bodyFormat.contentType ?? (bodyFormat.kind === 'json' ? 'application/json' : undefined)
    return { kind, status: action.status, body: deps.compileBody(bodyFormat, body ?? ''), contentType }
  }
  const content = bytes ?? body
  const constant = content === undefined || content.length === 0 ? undefined : () => content
  return { kind, status: action.status, body: constant, contentType: undefined }
}
