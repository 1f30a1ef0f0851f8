import { indexPath } from '../../../proto/path.ts'
import type {
  ClientCertificateActionConfig,
  HttpConnectionManagerConfig,
  OriginalIpDetectionConfig,
} from '../../listener.ts'
import type {
  NativeClientCertificate,
  NativeHeaderMutation,
  NativeHttp,
  NativeLocalReplyMapper,
  NativeOriginalIpDetection,
} from '../http.ts'
import { readCidr } from './addresses.ts'
import { readFilters } from './filters.ts'
import { readHttp2 } from './http2.ts'
import { readAccessLog, readFormat, readLogFilter } from './logs.ts'
import { mapTree, readStringMatch } from './matches.ts'
import type { Reading } from './reading.ts'
import { readRouteTable, readUpgrades } from './routes.ts'

/** Limits and timeouts that hold without being asked for: safe at the edge of a network. */
const LIMITS = {
  idleTimeoutMs: 75_000,
  requestTimeoutMs: 300_000,
  requestHeadersTimeoutMs: 10_000,
  streamIdleTimeoutMs: 300_000,
  maxStreamDurationMs: 0,
  maxConnectionDurationMs: 0,
  drainTimeoutMs: 5_000,
  delayedCloseTimeoutMs: 1_000,
  maxRequestsPerConnection: 1_000,
  maxRequestHeaderBytes: 60 * 1024,
  maxRequestHeaders: 100,
  maxRequestLineBytes: 8 * 1024,
} as const

type Limits = { readonly [K in keyof typeof LIMITS]: number }

/** Reads HTTP on a listener; `name` is the listener's. */
export function readHttp(
  http: NativeHttp,
  name: string,
  { path, reading }: { readonly path: string; readonly reading: Reading },
): HttpConnectionManagerConfig {
  const filters = readFilters(http.filters ?? [], `${path}.filters`, reading)
  const chain = new Map(filters.map((filter) => [filter.config.name, filter]))
  return reading.origins.at(path, {
    statPrefix: http.statPrefix ?? name,
    codec: http.codec ?? 'auto',
    routes: readRouteTable(http, path, { ...reading, chain }),
    filters: filters.map(({ config }) => config),
    ...readIdentity(http),
    ...readClient(http, path, reading),
    ...readPaths(http),
    ...readLimits(http),
    earlyHeaderMutations: (http.earlyHeaderMutations ?? []).map((mutation, i) =>
      readMutation(mutation, indexPath(`${path}.earlyHeaderMutations`, i), reading),
    ),
    ...(http.schemeOverwrite && { schemeOverwrite: http.schemeOverwrite }),
    proxy100Continue: http.proxy100Continue ?? false,
    http1: {
      acceptHttp10: http.http1?.acceptHttp10 ?? false,
      defaultHostForHttp10: http.http1?.defaultHostForHttp10 ?? '',
      enableTrailers: http.http1?.enableTrailers ?? false,
      headerCase: http.http1?.headerCase ?? 'lower',
      allowAbsoluteUrl: http.http1?.allowAbsoluteUrl ?? true,
    },
    http2: readHttp2(http.http2),
    localReply: readLocalReply(http.localReply ?? {}, `${path}.localReply`, reading),
    accessLogs: (http.accessLogs ?? []).map((log, i) =>
      readAccessLog(log, indexPath(`${path}.accessLogs`, i), reading),
    ),
    upgrades: readUpgrades(http.upgrades ?? [], `${path}.upgrades`, reading),
  })
}

function readLimits(http: NativeHttp): Limits {
  const limits: { -readonly [K in keyof Limits]: number } = { ...LIMITS }
  for (const name of Object.keys(LIMITS) as (keyof typeof LIMITS)[]) limits[name] = http[name] ?? LIMITS[name]
  return limits
}

function readIdentity(
  http: NativeHttp,
): Pick<
  HttpConnectionManagerConfig,
  | 'serverName'
  | 'serverHeader'
  | 'via'
  | 'addUserAgent'
  | 'generateRequestId'
  | 'preserveExternalRequestId'
  | 'requestIdInResponse'
> {
  return {
    serverName: http.serverName ?? 'headgate',
    serverHeader: http.serverHeader ?? 'overwrite',
    via: http.via ?? '',
    addUserAgent: http.addUserAgent ?? false,
    generateRequestId: http.generateRequestId ?? true,
    preserveExternalRequestId: http.preserveExternalRequestId ?? false,
    requestIdInResponse: http.requestIdInResponse ?? false,
  }
}

function readClient(
  http: NativeHttp,
  path: string,
  reading: Reading,
): Pick<
  HttpConnectionManagerConfig,
  | 'useRemoteAddress'
  | 'xffTrustedHops'
  | 'skipXffAppend'
  | 'appendXForwardedPort'
  | 'originalIpDetection'
  | 'internalCidrs'
  | 'internalUnixSockets'
  | 'clientCertificateHeader'
  | 'misdirected'
> {
  const detection = http.originalIpDetection ?? []
  const { clientCertificateHeader: certificate, misdirected = 'refuse' } = http
  return {
    useRemoteAddress: http.useRemoteAddress ?? detection.length === 0,
    xffTrustedHops: http.xffTrustedHops ?? 0,
    skipXffAppend: http.skipXffAppend ?? false,
    appendXForwardedPort: http.appendXForwardedPort ?? false,
    originalIpDetection: detection.map((entry, i) =>
      readDetection(entry, indexPath(`${path}.originalIpDetection`, i), reading),
    ),
    internalCidrs: (http.internalCidrs ?? []).map((cidr, i) =>
      readCidr(cidr, indexPath(`${path}.internalCidrs`, i), reading),
    ),
    internalUnixSockets: http.internalUnixSockets ?? false,
    ...(certificate && {
      clientCertificateHeader: {
        ...readClientCertificate(certificate),
        ...(certificate.byRequest && { byRequest: mapTree(certificate.byRequest, path, readClientCertificate) }),
      },
    }),
    ...(misdirected === 'refuse' && { misdirected }),
  }
}

function readPaths(
  http: NativeHttp,
): Pick<
  HttpConnectionManagerConfig,
  'normalizePath' | 'mergeSlashes' | 'escapedSlashes' | 'stripPort' | 'stripTrailingHostDot' | 'underscores'
> {
  return {
    normalizePath: http.normalizePath ?? true,
    mergeSlashes: http.mergeSlashes ?? true,
    escapedSlashes: http.escapedSlashes ?? 'redirect',
    stripPort: http.stripPort ?? 'none',
    stripTrailingHostDot: http.stripTrailingHostDot ?? false,
    underscores: http.underscores ?? 'reject',
  }
}

function readDetection(entry: NativeOriginalIpDetection, path: string, reading: Reading): OriginalIpDetectionConfig {
  if (entry.kind === 'custom-header') {
    const { header, trusted = false, rejectStatus } = entry
    return reading.origins.at(path, {
      kind: 'custom-header',
      header: header.toLowerCase(),
      trusted,
      ...(rejectStatus !== undefined && { rejectStatus }),
    })
  }
  const { trustedCidrs } = entry
  return reading.origins.at(path, {
    kind: 'xff',
    trustedHops: entry.trustedHops ?? 0,
    ...(trustedCidrs && {
      trustedCidrs: trustedCidrs.map((cidr, i) => readCidr(cidr, indexPath(`${path}.trustedCidrs`, i), reading)),
    }),
    skipAppend: entry.skipAppend ?? true,
  })
}

function readMutation(
  mutation: NativeHeaderMutation,
  path: string,
  reading: Reading,
): HttpConnectionManagerConfig['earlyHeaderMutations'][number] {
  const { remove, append, removeOnMatch } = mutation
  return reading.origins.at(path, {
    ...(remove !== undefined && { remove: remove.toLowerCase() }),
    ...(append && { append: { ...append, name: append.name.toLowerCase() } }),
    ...(removeOnMatch !== undefined && {
      removeOnMatch: readStringMatch(removeOnMatch, `${path}.removeOnMatch`, reading),
    }),
  })
}

function readLocalReply(
  reply: NonNullable<NativeHttp['localReply']>,
  path: string,
  reading: Reading,
): HttpConnectionManagerConfig['localReply'] {
  const { bodyFormat } = reply
  return reading.origins.at(path, {
    mappers: (reply.mappers ?? []).map((mapper, i) => readMapper(mapper, indexPath(`${path}.mappers`, i), reading)),
    ...(bodyFormat !== undefined && { bodyFormat: readFormat(bodyFormat, `${path}.bodyFormat`, reading) }),
  })
}

function readMapper(
  mapper: NativeLocalReplyMapper,
  path: string,
  reading: Reading,
): HttpConnectionManagerConfig['localReply']['mappers'][number] {
  const { status, body, bodyFormat, headers = [] } = mapper
  return reading.origins.at(path, {
    filter: readLogFilter(mapper.filter, `${path}.filter`, reading),
    ...(status !== undefined && { status }),
    ...(body !== undefined && { body }),
    ...(bodyFormat !== undefined && { bodyFormat: readFormat(bodyFormat, `${path}.bodyFormat`, reading) }),
    headers: headers.map((header) => ({ ...header, name: header.name.toLowerCase() })),
  })
}

function readClientCertificate(value: NativeClientCertificate): ClientCertificateActionConfig {
  const { mode, fields = ['subject', 'uri', 'dns'], format } = value
  return { mode, fields, ...(format === 'json' && { format }) }
}
