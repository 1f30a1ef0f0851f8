import type { HealthLink } from '../../core/host-health.ts'
import type { Log, Metrics } from '../../core/metrics.ts'
import { GrpcClient } from '../../grpc/client.ts'
import type { OnLoad, ReportSource } from '../balance/policy.ts'
import type { ClusterConfig, OutOfBandConfig } from '../config.ts'
import { CheckConnections, CheckTarget } from '../health/target.ts'
import { Host } from '../host.ts'
import type { PoolParts } from '../pool.ts'
import type { Transports } from '../transports.ts'
import { RemoteReports } from './remote-reports.ts'
import { askingIn } from './shared-reports.ts'
import { ReportStream } from './stream.ts'

/** Of one message (Envoy's limit). */
const MAX_BYTES = 64 * 1024

export interface ReportingParts {
  readonly deps: Pick<PoolParts, 'wheel' | 'random' | 'nextConnectionId'> & {
    readonly log: Log
    /** Whoever asks for the whole gateway. */
    readonly health?: HealthLink | undefined
  }
  /** Of the cluster. */
  readonly metrics: Metrics
  connections(): { readonly transports: Transports; ownTransports(config: ClusterConfig): Transports }
}

/** Streams of load reports from the hosts of one cluster, over connections of their own. */
export class Reporting implements ReportSource {
  #config: ClusterConfig
  readonly #parts: ReportingParts
  #connections: CheckConnections | undefined = undefined

  constructor(config: ClusterConfig, parts: ReportingParts) {
    this.#config = config
    this.#parts = parts
  }

  /** Undefined where nobody wants them. */
  static of(config: ClusterConfig, parts: ReportingParts): Reporting | RemoteReports | undefined {
    if (askingIn(config.balancer) === undefined) return undefined
    const { health: link, wheel } = parts.deps
    if (link === undefined) return new Reporting(config, parts)
    return new RemoteReports(config, { link, wheel, local: () => new Reporting(config, parts) })
  }

  follow(host: Host, config: OutOfBandConfig, onReport: OnLoad): () => void {
    const { metrics, deps } = this.#parts
    const { wheel, random, log } = deps
    const prefix = `cluster.${this.#config.statName}.lb_orca_oob.`
    this.#connections ??= this.#connect(config)
    const connections = this.#connections
    let target = new CheckTarget(reportingHost(host, config), connections)
    const authority = [config.authority, host.hostname, host.addressText].find(isAuthority) ?? 'localhost'
    const client = new GrpcClient({ cluster: () => target, authority, wheel, log, maxReceiveBytes: MAX_BYTES })
    const stream = new ReportStream({
      periodMs: config.periodMs,
      wheel,
      random,
      stats: {
        reports: metrics.counter(`${prefix}reports_received`),
        errors: metrics.counter(`${prefix}report_errors`),
        failures: metrics.counter(`${prefix}stream_failures`),
        terminated: metrics.counter(`${prefix}stream_terminated`),
        active: metrics.gauge(`${prefix}active_sessions`),
      },
      client,
      refresh() {
        target.close()
        // An update may have changed the host since.
        target = new CheckTarget(reportingHost(host, config), connections)
      },
      onReport,
    })
    return () => {
      stream[Symbol.dispose]()
      target.close()
    }
  }

  /** Other certificates for connections to come. */
  renew(config: ClusterConfig): void {
    this.#config = config
    this.#connections?.renew(config)
  }

  #connect(config: OutOfBandConfig): CheckConnections {
    const { deps, connections } = this.#parts
    const own = connections()
    const check = {
      probe: { kind: 'grpc', service: '', authority: '', metadata: [] },
      alpn: ['h2'],
      reuseConnection: true,
      ...(config.labels && { transportLabels: config.labels }),
    } as const
    return new CheckConnections(this.#config, check, {
      parts: deps,
      transports: own.transports,
      own: (other) => own.ownTransports(other),
    })
  }
}

/** Visible ASCII: names and paths of sockets may be anything. */
function isAuthority(text: string | undefined): text is string {
  return text !== undefined && /^[\x21-\x7e]+$/.test(text) && !text.includes('/')
}

/** As it is for requests, at another port where that is configured. */
function reportingHost(host: Host, { port, authority = '' }: OutOfBandConfig): Host {
  const { address, hostname, metadata, proxyAddress, addedTlvs, additionalAddresses } = host
  const check = port === undefined ? undefined : { port, hostname: authority, disabled: false }
  const own = new Host(
    {
      address,
      hostname,
      weight: 1,
      health: 'healthy',
      additionalAddresses,
      ...(metadata && { metadata }),
      ...(proxyAddress && { proxyAddress }),
      ...(addedTlvs && { addedTlvs }),
      ...(check && { check }),
    },
    host.priority,
    host.locality,
  )
  own.localityMetadata = host.localityMetadata
  return own
}
