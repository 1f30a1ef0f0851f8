import { create, type DescMessage, type Message } from '@bufbuild/protobuf'
import type { HostLoad } from '../../lib/core/status.ts'
import type { ProtoRegistry } from '../../lib/proto/registry.ts'
import type { ClusterFigures, HostFigures } from './figures.ts'

const STATS = 'envoy.config.endpoint.v3.ClusterStats'
const LOCALITY = 'envoy.config.endpoint.v3.UpstreamLocalityStats'
const REQUEST = 'envoy.service.load_stats.v3.LoadStatsRequest'

/** What a report says of a cluster besides its figures. */
export interface ReportedCluster {
  readonly name: string
  /** What its endpoints are asked for by; '' where that is its name, or nobody asks. */
  readonly serviceName: string
}

/** Writes load reports; takes what it writes out of the figures. */
export class ReportWriter {
  readonly #request: DescMessage
  readonly #stats: DescMessage
  readonly #locality: DescMessage

  constructor(registry: ProtoRegistry) {
    this.#request = registry.expect(REQUEST)
    this.#stats = registry.expect(STATS)
    this.#locality = registry.expect(LOCALITY)
  }

  /** The first message of a stream. */
  first(node: Message): Message {
    return create(this.#request, { node })
  }

  report(clusterStats: readonly Message[]): Message {
    return create(this.#request, { clusterStats })
  }

  /** One cluster of a report. `byEndpoint`: of every endpoint that has counted something, too. */
  cluster(
    { name, serviceName }: ReportedCluster,
    figures: ClusterFigures,
    { nowMs, byEndpoint }: { readonly nowMs: number; readonly byEndpoint: boolean },
  ): Message {
    const { localities, dropped, drops, elapsedMs } = figures.take(nowMs)
    return create(this.#stats, {
      clusterName: name,
      clusterServiceName: serviceName,
      upstreamLocalityStats: localities.filter(isWorthTelling).map((hosts) => this.#localityStats(hosts, byEndpoint)),
      totalDroppedRequests: BigInt(dropped),
      droppedRequests: [...drops].map(([category, count]) => ({ category, droppedCount: BigInt(count) })),
      loadReportInterval: duration(elapsedMs),
    })
  }

  #localityStats(hosts: readonly HostFigures[], byEndpoint: boolean): Message {
    const { region, zone, subZone, priority } = hosts[0].host
    return create(this.#locality, {
      locality: { region, zone, subZone },
      priority,
      ...counts({
        success: sum(hosts, 'success'),
        error: sum(hosts, 'error'),
        issued: sum(hosts, 'issued'),
        active: sum(hosts, 'active'),
      }),
      ...(byEndpoint && {
        upstreamEndpointStats: hosts.map((figures) => ({ address: address(figures.host), ...counts(figures) })),
      }),
    })
  }
}

interface Counts {
  readonly success: number
  readonly error: number
  readonly issued: number
  readonly active: number
}

function counts({ success, error, issued, active }: Counts): object {
  return {
    totalSuccessfulRequests: BigInt(success),
    totalErrorRequests: BigInt(error),
    totalIssuedRequests: BigInt(issued),
    totalRequestsInProgress: BigInt(active),
  }
}

function isWorthTelling(hosts: readonly HostFigures[]): boolean {
  return hosts.some(({ issued, success, error, active }) => issued + success + error + active > 0)
}

function sum(hosts: readonly HostFigures[], field: keyof Counts): number {
  let total = 0
  for (const host of hosts) total += host[field]
  return total
}

/** `envoy.config.core.v3.Address`, from `ip:port` or the path of a pipe. */
function address({ address: text }: HostLoad): object {
  const colon = text.lastIndexOf(':')
  const port = Number(text.slice(colon + 1))
  if (colon <= 0 || !Number.isInteger(port)) return { address: { case: 'pipe', value: { path: text } } }
  const host = text.slice(0, colon).replace(/^\[|\]$/g, '')
  const portSpecifier = { case: 'portValue', value: port }
  return { address: { case: 'socketAddress', value: { address: host, portSpecifier } } }
}

function duration(ms: number): object {
  const seconds = Math.floor(ms / 1000)
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) }
}
