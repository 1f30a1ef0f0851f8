import type { Clock } from '../core/clock.ts'
import type { Log } from '../core/metrics.ts'
import { TimerWheel } from '../core/timer-wheel.ts'
import type { HostJudge, JudgeSite } from '../runtime/control-parts.ts'
import type { MetricsSnapshot } from '../runtime/engine.ts'
import { MetricsStore } from '../telemetry/metrics.ts'
import { AccessLogSinks } from '../telemetry/sinks/registry.ts'
import { DnsResolvers } from '../upstream/discovery/dns/resolver.ts'
import { HostHealthService } from '../upstream/health/service.ts'

export interface HostJudgingOptions {
  readonly clock: Clock
  readonly log: Log
  /** In [0, 1). */
  readonly random: () => number
}

/** What judging the hosts of all workers takes in a control process: timers, cells and event logs of its own. */
export class HostJudging {
  readonly #options: HostJudgingOptions
  readonly #metrics = new MetricsStore()
  readonly #sinks: AccessLogSinks

  constructor(options: HostJudgingOptions) {
    this.#options = options
    const { clock, log } = options
    // Workers have refused a log that they could not open; where only this process cannot, hosts must be judged all the same.
    this.#sinks = new AccessLogSinks({ clock, metrics: this.#metrics, log, goOnWithout: true })
  }

  /** Lives as long as the process. */
  begin(site: JudgeSite): HostJudge {
    const { clock, log, random } = this.#options
    let connectionId = 0
    return new HostHealthService(
      {
        metrics: this.#metrics,
        wheel: new TimerWheel(clock),
        random,
        log,
        dns: new DnsResolvers({ clock }),
        nextConnectionId: () => ++connectionId,
        sinks: this.#sinks,
        runtime: {
          get: (key) => {
            const values = site.runtime()
            return Object.hasOwn(values, key) ? values[key] : undefined
          },
        },
      },
      site,
    )
  }

  /** `cluster.<name>.health_check.*` and `.outlier_detection.*`, beside what else the process counts. */
  metrics(beside: MetricsSnapshot | undefined): MetricsSnapshot {
    const own = this.#metrics.snapshot()
    if (beside === undefined) return own
    return {
      counters: [...own.counters, ...beside.counters],
      gauges: [...own.gauges, ...beside.gauges],
      histograms: [...own.histograms, ...beside.histograms],
      ...(beside.texts && { texts: beside.texts }),
    }
  }

  reopenLogs(): void {
    this.#sinks.reopen()
  }
}
