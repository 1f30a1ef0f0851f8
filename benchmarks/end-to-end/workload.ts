import type { OriginAnswers } from '../load/http2/origin.ts'
import { type Http2Origin, startHttp2Origin } from '../load/http2/origin.ts'
import { type Bar, type Column, figure, type Table } from '../report.ts'
import { HEADGATE } from './headgate.ts'
import { CPU_COLUMNS, perRequest } from './requests.ts'
import { type Probe, startProxy } from './running-proxy.ts'
import {
  type LoadedUse,
  type LoadShape,
  measureLoaded,
  measureRounds,
  SMALL_GET,
  type SuiteContext,
  speaking,
  type Unit,
} from './suite.ts'
import { PLAIN_HTTP1, type Traffic, type Variant } from './variant.ts'
import { BASE } from './variants.ts'

/** Requests of one kind, through proxies that speak one pair of protocols. */
export interface Workload {
  readonly name: string
  readonly traffic: Traffic
  readonly shape: LoadShape
  /** What the origin answers where it speaks HTTP/2; default: small. */
  readonly answers?: OriginAnswers
  readonly probe?: Probe
}

/** 16 connections with 32 requests at once each. */
export const HTTP2_GET: LoadShape = { connections: 16, streams: 32, requests: [{ method: 'GET', path: '/' }] }

const BODY_BYTES = 1024 * 1024
const BODY_SHAPE = { connections: 16, streams: 4 }

/** A gRPC message of 16 bytes in its framing. */
const GRPC_MESSAGE = Buffer.concat([Buffer.from([0, 0, 0, 0, 16]), Buffer.alloc(16, 'm')])
const GRPC_HEADERS = [
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
] as const

/** A unary call that must be echoed and end with status 0: headers, content and trailers all pass. */
export const GRPC_PROBE: Probe = {
  request: { method: 'POST', path: '/bench.Echo/Unary', headers: GRPC_HEADERS, content: GRPC_MESSAGE },
  check(answer) {
    if (answer.trailers['grpc-status'] !== '0') throw new Error('the trailer grpc-status did not arrive')
    if (!answer.bytes.equals(GRPC_MESSAGE)) throw new Error('the message that came back is not the one that was sent')
  },
}

const GRPC_UNARY: LoadShape = {
  connections: 16,
  streams: 32,
  requests: [{ method: 'POST', path: '/bench.Echo/Unary' }],
  headers: GRPC_HEADERS,
  content: GRPC_MESSAGE,
}

const H2_H1: Traffic = { client: 'http2', upstream: 'http1' }
const H2_H2: Traffic = { client: 'http2', upstream: 'http2' }

/** Content from the HTTP/1 origin, which is told its size by the path; the HTTP/2 one sends 1 MiB for every path. */
const DOWNLOAD: LoadShape = { ...BODY_SHAPE, requests: [{ method: 'GET', path: `/_/bytes/${BODY_BYTES}` }] }
const UPLOAD: LoadShape = { ...BODY_SHAPE, requests: [{ method: 'POST', path: '/' }], bodyBytes: BODY_BYTES }

/** The same for HTTP/1, or for proxies that only pass it on. */
const HTTP1_DOWNLOAD: LoadShape = { connections: 16, requests: DOWNLOAD.requests }
const HTTP1_UPLOAD: LoadShape = { connections: 16, requests: [{ method: 'PUT', path: '/' }], bodyBytes: BODY_BYTES }

const TCP: Traffic = { ...PLAIN_HTTP1, layer4: 'tcp' }
const TCP_TLS: Traffic = { ...TCP, tls: true }
const TCP_TWICE: Traffic = { ...TCP, layer4: 'tcp twice' }
const HBONE: Traffic = { ...TCP, layer4: 'hbone' }

/** Every workload by its name, for suites and for profile.ts and compare.ts. */
export const WORKLOADS = Object.freeze({
  requests: { name: 'requests', traffic: PLAIN_HTTP1, shape: SMALL_GET },
  download: { name: 'download', traffic: PLAIN_HTTP1, shape: HTTP1_DOWNLOAD },
  upload: { name: 'upload', traffic: PLAIN_HTTP1, shape: HTTP1_UPLOAD },
  http2: { name: 'http2', traffic: H2_H1, shape: HTTP2_GET },
  'http2-upstream': { name: 'http2-upstream', traffic: H2_H2, shape: HTTP2_GET, answers: 'small' },
  grpc: { name: 'grpc', traffic: H2_H2, shape: GRPC_UNARY, answers: 'echo', probe: GRPC_PROBE },
  'http2-download': { name: 'http2-download', traffic: H2_H1, shape: DOWNLOAD },
  'http2-upload': { name: 'http2-upload', traffic: H2_H1, shape: UPLOAD },
  'http2-upstream-download': { name: 'http2-upstream-download', traffic: H2_H2, shape: DOWNLOAD, answers: 'bytes' },
  'http2-upstream-upload': { name: 'http2-upstream-upload', traffic: H2_H2, shape: UPLOAD, answers: 'small' },
  'tls-http1': { name: 'tls-http1', traffic: { ...PLAIN_HTTP1, tls: true }, shape: SMALL_GET },
  'tls-http2': { name: 'tls-http2', traffic: { ...H2_H1, tls: true }, shape: HTTP2_GET },
  'tcp-download': { name: 'tcp-download', traffic: TCP, shape: HTTP1_DOWNLOAD },
  'tcp-upload': { name: 'tcp-upload', traffic: TCP, shape: HTTP1_UPLOAD },
  'tcp-tls-download': { name: 'tcp-tls-download', traffic: TCP_TLS, shape: HTTP1_DOWNLOAD },
  'tcp-tls-upload': { name: 'tcp-tls-upload', traffic: TCP_TLS, shape: HTTP1_UPLOAD },
  'tcp-twice-download': { name: 'tcp-twice-download', traffic: TCP_TWICE, shape: HTTP1_DOWNLOAD },
  'tcp-twice-upload': { name: 'tcp-twice-upload', traffic: TCP_TWICE, shape: HTTP1_UPLOAD },
  'hbone-download': { name: 'hbone-download', traffic: HBONE, shape: HTTP1_DOWNLOAD },
  'hbone-upload': { name: 'hbone-upload', traffic: HBONE, shape: HTTP1_UPLOAD },
} satisfies Record<string, Workload>)

/** Columns without the percentile, which h2load does not tell. */
export const HTTP2_COLUMNS: readonly Column[] = CPU_COLUMNS.filter((column) => column.key !== 'p99')

/** Runs `work` with an HTTP/2 origin in place of the context's own, if `answers` says what it is to answer. */
export async function withOrigin<T>(
  answers: OriginAnswers | undefined,
  context: SuiteContext,
  work: (context: SuiteContext) => Promise<T>,
): Promise<T> {
  if (answers === undefined) return work(context)
  const { machine, folder } = context.bench
  const origin: Http2Origin = await startHttp2Origin(machine, folder, answers)
  const bench = { ...context.bench, originPort: origin.port, seenHeaders: () => origin.headers() }
  try {
    return await work({ ...context, bench, origin })
  } finally {
    await origin.stop()
  }
}

/** One round: a fresh proxy, warmed up, measured, ended. The context's origin must be the workload's. */
export async function measureWorkload(
  workload: Workload,
  variant: Variant,
  context: SuiteContext,
  log = false,
): Promise<LoadedUse> {
  const { traffic, probe } = workload
  const proxy = await startProxy(variant, context.bench, { log, traffic, probe })
  try {
    return await measureLoaded(proxy, workload.shape, context)
  } finally {
    await proxy.stop()
  }
}

const LOGGED = ' +log'

/** CPU per request of every variant that speaks the workload's protocols; with `logs`, a second table with access logs. */
export async function cpuTables(
  workload: Workload,
  titles: { readonly plain: string; readonly logged?: string },
  outer: SuiteContext,
): Promise<Table[]> {
  return withOrigin(workload.answers, speaking(workload.traffic, outer), async (context) => {
    const unitOf = (variant: Variant, log: boolean): Unit => ({
      name: log ? variant.name + LOGGED : variant.name,
      measure: async () => perRequest(await measureWorkload(workload, variant, context, log)),
    })
    const units = context.variants.flatMap((one) =>
      titles.logged === undefined ? [unitOf(one, false)] : [unitOf(one, false), unitOf(one, true)],
    )
    const rows = await measureRounds(units, context)
    const columns = workload.traffic.client === 'http2' ? HTTP2_COLUMNS : CPU_COLUMNS
    const tableOf = (title: string, log: boolean): Table => ({
      title,
      base: BASE,
      columns,
      rows: rows
        .filter((row) => row.variant.endsWith(LOGGED) === log)
        .map((row) => ({ ...row, variant: row.variant.replace(LOGGED, '') })),
    })
    const tables = [tableOf(titles.plain, false)]
    if (titles.logged !== undefined) tables.push(tableOf(titles.logged, true))
    return tables
  })
}

/** Limits of a figure of headgate as a multiple of the base's; none where either is missing. */
export function ratioBars(
  table: Table,
  key: string,
  limits: readonly { readonly what: string; readonly limit: number; readonly atLeast?: boolean }[],
): Bar[] {
  const value = figure(table, HEADGATE, key)
  const base = figure(table, BASE, key)
  if (value === undefined || base === undefined) return []
  return limits.map(({ what, limit, atLeast }) => ({
    what: `${HEADGATE}, ${table.title}${what === '' ? '' : `: ${what}`}`,
    value: value / base,
    limit,
    atLeast,
    unit: `× ${BASE}`,
  }))
}
