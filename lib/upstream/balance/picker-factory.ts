import { noRuntime } from '../../core/metrics.ts'
import { runtimeNumber } from '../../core/runtime-value.ts'
import type { LeastRequestConfig, ListBalancerConfig, MaglevConfig, RingHashConfig } from '../config.ts'
import type { Host } from '../host.ts'
import { ClientWeights } from './client-weights.ts'
import { fullScan, leastRequest } from './least-request.ts'
import { LatencyTable } from './peak-ewma.ts'
import type { HostPicker } from './picker.ts'
import type { BalancerOptions } from './policy.ts'
import { randomPicker } from './random.ts'
import { roundRobin } from './round-robin.ts'
import { SlowStart } from './slow-start.ts'

/** Makes the pickers of one policy, for any number of lists. */
export interface PickerFactory extends Disposable {
  /** For a list that is not empty. */
  picker(hosts: readonly Host[]): HostPicker
  /** Lets go of what it knows of other hosts than these. */
  keep?(hosts: readonly Host[]): void
  /** As `Balancer.retire`. */
  retire?(): void
}

type Plain = Exclude<ListBalancerConfig, RingHashConfig | MaglevConfig>

export function pickerFactory(config: Plain, options: BalancerOptions): PickerFactory {
  const { random, now = standstill } = options
  switch (config.kind) {
    case 'round-robin': {
      const slowStart = SlowStart.of(config.slowStart, options)
      return plain((hosts) => roundRobin(hosts, random, slowStart))
    }
    case 'random':
      return plain((hosts) => randomPicker(hosts, random))
    case 'least-request':
      return plain(leastRequestFactory(config, options))
    case 'peak-ewma':
      return new LatencyTable({ random, now, decayMs: config.decayMs })
    case 'client-weighted':
      return new ClientWeights(config, options)
  }
}

function plain(picker: (hosts: readonly Host[]) => HostPicker): PickerFactory {
  return { picker, [Symbol.dispose]: () => {} }
}

function leastRequestFactory(
  config: LeastRequestConfig,
  options: BalancerOptions,
): (hosts: readonly Host[]) => HostPicker {
  const { random, runtime = noRuntime } = options
  const { choiceCount, activeRequestBias, activeRequestBiasKey: key } = config
  if (config.fullScan) return (hosts) => fullScan(hosts, random)
  const slowStart = SlowStart.of(config.slowStart, options)
  if (key === undefined) return (hosts) => leastRequest(hosts, { choiceCount, activeRequestBias, random, slowStart })
  const liveBias = (): number => {
    const bias = runtimeNumber(runtime, key) ?? activeRequestBias
    // As Envoy: one that makes no sense is as if there were none.
    return bias < 0 ? activeRequestBias : bias
  }
  return (hosts) => leastRequest(hosts, { choiceCount, activeRequestBias: liveBias, random, slowStart })
}

function standstill(): number {
  return 0
}
