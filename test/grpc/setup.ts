import type { Log } from '../../lib/core/metrics.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import type { GrpcCall, GrpcHandlers } from '../../lib/grpc/call-contract.ts'
import { GrpcClient, type GrpcClientOptions } from '../../lib/grpc/client.ts'
import type { GrpcMethod } from '../../lib/grpc/method.ts'
import type { GrpcCallOptions } from '../../lib/grpc/request.ts'
import type { GrpcStatus } from '../../lib/grpc/status.ts'
import { TestClock } from '../support/clock.ts'
import { FakeCluster } from './fake-cluster.ts'

/** Messages are UTF-8 text. `poison` cannot be encoded or decoded. */
export const ECHO: GrpcMethod<string, string> = {
  path: '/test.Echo/Call',
  encode(message) {
    if (message === 'poison') throw new Error('cannot be encoded')
    return Buffer.from(message, 'utf8')
  },
  decode(bytes) {
    const text = Buffer.from(bytes).toString('utf8')
    if (text === 'poison') throw new Error('cannot be decoded')
    return text
  },
}

export function frame(payload: string | Buffer, flag = 0): Buffer {
  const body = Buffer.from(payload as string)
  const prefix = Buffer.alloc(5)
  prefix[0] = flag
  prefix.writeUInt32BE(body.length, 1)
  return Buffer.concat([prefix, body])
}

/** Log that keeps what it is told. */
export function recordingLog(): Log & { readonly errors: string[] } {
  const errors: string[] = []
  return {
    errors,
    debug: () => undefined,
    info: () => undefined,
    warn: () => undefined,
    error: (message, fields) => errors.push(`${message}: ${String(fields?.error).split('\n')[0]}`),
  }
}

export interface Bench {
  readonly clock: TestClock
  readonly wheel: TimerWheel
  readonly cluster: FakeCluster
  readonly client: GrpcClient
  readonly log: ReturnType<typeof recordingLog>
}

export function bench(options: Partial<GrpcClientOptions> = {}): Bench {
  const clock = new TestClock()
  const wheel = new TimerWheel(clock)
  const cluster = new FakeCluster()
  const log = recordingLog()
  const client = new GrpcClient({ cluster: () => cluster, authority: 'echo', wheel, log, ...options })
  return { clock, wheel, cluster, client, log }
}

/** Keeps what a call tells, in order, and insists that nothing follows the end. */
export class Recorder implements GrpcHandlers<string> {
  readonly events: string[] = []
  readonly messages: string[] = []
  status: GrpcStatus | undefined = undefined
  call: GrpcCall<string> | undefined = undefined
  onEach: ((message: string) => void) | undefined = undefined

  onHeaders(): void {
    this.#tell('headers')
  }

  onMessage(message: string): void {
    this.#tell(message)
    this.messages.push(message)
    this.onEach?.(message)
  }

  onDrain(): void {
    this.#tell('drain')
  }

  onEnd(status: GrpcStatus): void {
    this.#tell(`end ${status.code}`)
    this.status = status
  }

  #tell(event: string): void {
    if (this.status !== undefined) throw new Error(`${event} after the end`)
    this.events.push(event)
  }
}

export function startStream(b: Bench, options?: GrpcCallOptions): Recorder & { readonly call: GrpcCall<string> } {
  const recorder = new Recorder()
  recorder.call = b.client.stream(ECHO, recorder, options)
  return recorder as Recorder & { readonly call: GrpcCall<string> }
}
