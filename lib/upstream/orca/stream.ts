import type { Counter, Gauge } from '../../core/metrics.ts'
import { Timed, type TimerWheel } from '../../core/timer-wheel.ts'
import type { GrpcCall, GrpcHandlers } from '../../grpc/call-contract.ts'
import type { GrpcClient } from '../../grpc/client.ts'
import type { GrpcMethod } from '../../grpc/method.ts'
import { GrpcCode, type GrpcStatus } from '../../grpc/status.ts'
import { readBinary } from './binary.ts'
import type { LoadReport } from './report.ts'

/** Between attempts, growing by chance from one to the other (Envoy's). */
const BASE_MS = 1_000
const MAX_MS = 30_000
/** So many periods without a report, and the stream is dead. */
const SILENT_PERIODS = 3

/** `xds.service.orca.v3.OpenRcaService`: how often, and what comes back. */
const STREAM: GrpcMethod<number, LoadReport> = Object.freeze({
  path: '/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics',
  encode: encodeRequest,
  decode(bytes: Uint8Array): LoadReport {
    const report = readBinary(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
    if (report === undefined) throw new Error('not an OrcaLoadReport')
    return report
  },
})

/** `OrcaLoadReportRequest` with a `report_interval` alone. */
function encodeRequest(periodMs: number): Uint8Array {
  const seconds = Math.floor(periodMs / 1000)
  const nanos = Math.round(periodMs % 1000) * 1_000_000
  const duration = [...(seconds > 0 ? [0x08, ...varint(seconds)] : []), ...(nanos > 0 ? [0x10, ...varint(nanos)] : [])]
  return Buffer.from([0x0a, duration.length, ...duration])
}

function varint(value: number): number[] {
  const bytes: number[] = []
  let left = value
  for (; left > 0x7f; left = Math.floor(left / 128)) bytes.push((left % 128) | 0x80)
  bytes.push(left)
  return bytes
}

/** What streams count (Envoy's `lb_orca_oob.*`). */
export interface ReportStats {
  readonly reports: Counter
  /** Of them, those that no weight follows from. */
  readonly errors: Counter
  readonly failures: Counter
  readonly terminated: Counter
  readonly active: Gauge
}

export interface ReportStreamParts {
  readonly periodMs: number
  readonly wheel: TimerWheel
  readonly random: () => number
  readonly stats: ReportStats
  readonly client: GrpcClient
  /** Before each attempt. */
  refresh(): void
  /** False: nothing follows from it. */
  onReport(report: LoadReport): boolean
}

/**
 * Load reports of one host, for as long as it has any to give.
 *
 * ```
 * waits (by chance, up to a period) ─▶ streams ──ends, or is silent for 3 periods──▶ waits (1 s … 30 s) ─▶ ...
 *                                         └── UNIMPLEMENTED ──▶ over
 * ```
 */
export class ReportStream extends Timed implements GrpcHandlers<LoadReport>, Disposable {
  readonly #parts: ReportStreamParts
  #call: GrpcCall<number> | undefined = undefined
  /** Attempts that have brought nothing. */
  #vain = 0
  #over = false

  constructor(parts: ReportStreamParts) {
    super()
    this.#parts = parts
    parts.stats.active.v++
    parts.wheel.arm(this, parts.random() * parts.periodMs)
  }

  override onDue(): void {
    if (this.#over) return
    if (this.#call === undefined) this.#start()
    else this.#fail()
  }

  #start(): void {
    const { client, periodMs, wheel, refresh } = this.#parts
    refresh()
    this.#call = client.stream(STREAM, this)
    this.#call.write(periodMs, true)
    wheel.arm(this, SILENT_PERIODS * periodMs)
  }

  onMessage(report: LoadReport): void {
    const { stats, wheel, periodMs, onReport } = this.#parts
    stats.reports.v++
    this.#vain = 0
    wheel.arm(this, SILENT_PERIODS * periodMs)
    if (!onReport(report)) stats.errors.v++
  }

  onEnd(status: GrpcStatus): void {
    this.#call = undefined
    if (status.code !== GrpcCode.UNIMPLEMENTED) {
      this.#fail()
      return
    }
    this.#parts.stats.terminated.v++
    this[Symbol.dispose]()
  }

  #fail(): void {
    const { stats, wheel, random } = this.#parts
    stats.failures.v++
    this.#end()
    const most = Math.min(MAX_MS, BASE_MS * (2 ** Math.min(++this.#vain, 16) - 1))
    // Never at once: a host that ends every stream would be asked without pause.
    wheel.arm(this, most * Math.max(0.1, random()))
  }

  #end(): void {
    const call = this.#call
    this.#call = undefined
    call?.cancel()
  }

  /** Idempotent. */
  [Symbol.dispose](): void {
    if (this.#over) return
    this.#over = true
    this.#parts.stats.active.v--
    this.#end()
    this.#parts.wheel.disarm(this)
  }
}
