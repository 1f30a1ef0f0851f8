import { isDeepStrictEqual } from 'node:util'
import type { JsonObject } from '../core/errors.ts'
import type { Counter, Metrics } from '../core/metrics.ts'
import { tlsStats } from '../tls/stats.ts'
import type { ClusterConfig, TransportConfig } from './config.ts'
import { type ConnectorParts, Connectors } from './connect.ts'
import type { HboneTunnels } from './hbone/tunnels.ts'
import type { Host } from './host.ts'

/** Where endpoints and localities have the labels that choose their transport. */
const NAMESPACE = 'envoy.transport_socket_match'

/** One transport that hosts may have. */
interface Choice {
  /** Undefined for the cluster's own, which is for all others. */
  readonly labels: JsonObject | undefined
  readonly connectors: Connectors
  readonly matched: Counter
}

/** The transports of one cluster, and which of its hosts has which (Envoy's `transport_socket_matches`). */
export class Transports {
  readonly #matches: readonly Choice[]
  readonly #own: Choice
  /** There is nothing to choose. */
  readonly #single: boolean

  constructor(config: ClusterConfig, metrics: Metrics, shared: Omit<ConnectorParts, 'stats'>) {
    const matches = config.transportMatches ?? []
    const prefix = `cluster.${config.statName}.`
    const secure = config.tls !== undefined || matches.some(({ transport }) => transport.tls !== undefined)
    const parts = { ...shared, stats: secure ? tlsStats(metrics, prefix) : undefined }
    const choice = (name: string, labels: JsonObject | undefined, transport: TransportConfig): Choice => ({
      labels,
      connectors: new Connectors(config, transport, parts),
      matched:
        matches.length > 0 ? metrics.counter(`${prefix}transport_socket_match.${name}.total_match_count`) : { v: 0 },
    })
    this.#matches = matches.map(({ name, labels, transport }) => choice(name, labels, transport))
    this.#own = choice('default', undefined, config)
    this.#single = matches.length === 0
  }

  /** The transport of a host, which its labels may change; counted. */
  of(host: Host): Connectors {
    const choice = this.#choose(host)
    choice.matched.v++
    return choice.connectors
  }

  /** As `of`, where nothing is about to be connected. */
  peek(host: Host): Connectors {
    return this.#choose(host).connectors
  }

  /** The labels of the endpoint come first; those of its locality are asked where it matches nothing. */
  #choose(host: Host): Choice {
    if (this.#single) return this.#own
    return (
      this.#matches.find(({ labels }) => hasLabels(host.metadata, labels)) ??
      this.#matches.find(({ labels }) => hasLabels(host.localityMetadata, labels)) ??
      this.#own
    )
  }

  /** Tunnels that connections of this cluster go through. */
  get tunnels(): readonly HboneTunnels[] {
    const all = [this.#own, ...this.#matches].map(({ connectors }) => connectors.tunnels)
    return all.filter((tunnels) => tunnels !== undefined)
  }

  /** The same transports with other certificates, authorities or revocation lists: for connections to come. */
  renew(config: ClusterConfig): void {
    this.#own.connectors.renew(config)
    for (const [i, { connectors }] of this.#matches.entries()) {
      const transport = config.transportMatches?.[i]?.transport
      if (transport !== undefined) connectors.renew(transport)
    }
  }
}

function hasLabels(metadata: JsonObject | undefined, labels: JsonObject | undefined): boolean {
  const wanted = Object.entries(labels ?? {})
  const found = metadata?.[NAMESPACE]
  if (typeof found !== 'object' || found === null || Array.isArray(found)) return wanted.length === 0
  return wanted.every(([key, value]) => Object.hasOwn(found, key) && isDeepStrictEqual(found[key], value))
}
