import type { EndpointAddress } from '../../core/address.ts'
import type { Clock } from '../../core/clock.ts'
import type { JsonObject } from '../../core/errors.ts'
import type { SinkLease } from '../../telemetry/sinks/registry.ts'
import type { Host } from '../host.ts'
import type { ProbeConfig } from './config.ts'

/** `HealthCheckFailureType` of Envoy's event. */
export type FailureType = 'ACTIVE' | 'PASSIVE' | 'NETWORK' | 'NETWORK_TIMEOUT'

/** Writes `envoy.data.core.v3.HealthCheckEvent`, a line of JSON each. */
export class HealthEventLog implements Disposable {
  readonly #type: string
  readonly #cluster: string
  readonly #clock: Clock
  readonly #sinks: readonly SinkLease[]

  constructor(
    cluster: string,
    probe: ProbeConfig['kind'],
    to: { readonly clock: Clock; readonly sinks: readonly SinkLease[] },
  ) {
    this.#type = probe.toUpperCase()
    this.#cluster = cluster
    this.#clock = to.clock
    this.#sinks = to.sinks
  }

  ejectUnhealthy(host: Host, failure_type: FailureType): void {
    this.#write(host, { eject_unhealthy_event: { failure_type } })
  }

  unhealthy(host: Host, failure_type: FailureType, first_check: boolean): void {
    this.#write(host, { health_check_failure_event: { failure_type, first_check } })
  }

  addHealthy(host: Host, first_check: boolean): void {
    this.#write(host, { add_healthy_event: { first_check } })
  }

  success(host: Host): void {
    this.#write(host, { successful_health_check_event: {} })
  }

  degraded(host: Host): void {
    this.#write(host, { degraded_healthy_host: {} })
  }

  noLongerDegraded(host: Host): void {
    this.#write(host, { no_longer_degraded_host: {} })
  }

  #write(host: Host, what: JsonObject): void {
    const event = {
      health_checker_type: this.#type,
      host: addressOf(host.address),
      cluster_name: this.#cluster,
      ...what,
      timestamp: new Date(this.#clock.wall()).toISOString(),
    }
    const line = `${JSON.stringify(event)}\n`
    for (const sink of this.#sinks) sink.write(line)
  }

  [Symbol.dispose](): void {
    for (const sink of this.#sinks) sink[Symbol.dispose]()
  }
}

function addressOf(address: EndpointAddress): JsonObject {
  switch (address.kind) {
    case 'ip':
      return { socket_address: { protocol: 'TCP', address: address.host, port_value: address.port } }
    case 'pipe':
      return { pipe: { path: address.path } }
    case 'internal':
      return { envoy_internal_address: { server_listener_name: address.listener } }
  }
}
