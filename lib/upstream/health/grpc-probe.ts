import { Headers } from '../../core/headers.ts'
import type { Log } from '../../core/metrics.ts'
import type { TimerWheel } from '../../core/timer-wheel.ts'
import { GrpcClient } from '../../grpc/client.ts'
import type { GrpcMethod } from '../../grpc/method.ts'
import { GrpcCode } from '../../grpc/status.ts'
import type { Host } from '../host.ts'
import type { GrpcProbeConfig } from './config.ts'
import { type CheckResult, PASSED, type Probe, type ProbeOwner, UNREACHABLE, WRONG } from './probe.ts'
import type { CheckTarget } from './target.ts'

/** `grpc.health.v1.HealthCheckResponse.ServingStatus`. */
const SERVING = 1

/** `grpc.health.v1.Health/Check`: a string there, an enum back; two fields are quicker written than described. */
const CHECK: GrpcMethod<string, number> = Object.freeze({
  path: '/grpc.health.v1.Health/Check',
  encode(service: string): Uint8Array {
    const text = Buffer.from(service, 'utf8')
    return text.length === 0 ? text : Buffer.concat([Buffer.from([0x0a, ...varint(text.length)]), text])
  },
  decode: servingStatus,
})

function varint(value: number): number[] {
  const bytes: number[] = []
  let left = value
  for (; left > 0x7f; left >>>= 7) bytes.push((left & 0x7f) | 0x80)
  bytes.push(left)
  return bytes
}

/** The last value of field 1; other fields are none that this message has. 0 (UNKNOWN) where there is none. */
function servingStatus(bytes: Uint8Array): number {
  let status = 0
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at++] !== 0x08) throw new Error('not a HealthCheckResponse')
    let value = 0
    for (let shift = 0; ; shift += 7) {
      if (at >= bytes.length || shift > 63) throw new Error('not a HealthCheckResponse')
      const byte = bytes[at++]
      if (shift < 28) value |= (byte & 0x7f) << shift
      if (byte < 0x80) break
    }
    status = value
  }
  return status
}

/** Asks the health service of gRPC (Envoy's `grpc_health_check`): SERVING, or not. */
export class GrpcProbe implements Probe {
  readonly #config: GrpcProbeConfig
  readonly #client: GrpcClient
  readonly #target: CheckTarget
  readonly #host: Host
  readonly #name: string
  #call: AbortController | undefined = undefined

  constructor(
    config: GrpcProbeConfig,
    host: Host,
    from: { readonly target: CheckTarget; readonly wheel: TimerWheel; readonly log: Log },
  ) {
    const { target, wheel, log } = from
    this.#config = config
    this.#target = target
    this.#host = host
    this.#name = target.name
    this.#client = new GrpcClient({
      cluster: () => target,
      authority: this.#authority(),
      wheel,
      log,
      initialMetadata: new Headers([...config.metadata]),
    })
  }

  #authority(): string {
    return this.#host.check?.hostname || this.#config.authority || this.#name
  }

  start(owner: ProbeOwner): void {
    const call = new AbortController()
    this.#call = call
    this.#target.refresh()
    const options = { signal: call.signal, authority: this.#authority() }
    void this.#client.unary(CHECK, this.#config.service, options).then((result) => {
      if (this.#call !== call) return
      this.#call = undefined
      if (result.ok) owner.checked(result.message === SERVING ? PASSED : WRONG)
      else owner.checked(meaning(result.status.code, result.status.failure !== undefined))
    })
  }

  cancel(): void {
    const call = this.#call
    this.#call = undefined
    call?.abort()
  }

  close(): void {
    this.cancel()
    this.#target.close()
  }
}

/** Without a status of the host's own nothing is known of it. */
function meaning(code: number, failed: boolean): CheckResult {
  return failed || code === GrpcCode.CANCELLED ? UNREACHABLE : WRONG
}
