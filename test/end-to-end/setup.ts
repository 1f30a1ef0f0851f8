import { join } from 'node:path'
import type { Test } from 'tap'
import { type GatewayOptions, TestGateway } from '../support/gateway.ts'
import { Origin, type OriginOptions, type OriginScript } from '../support/origin.ts'
import { type Wire, WireClient, type WireOptions } from '../support/wire.ts'
import { type BootstrapSpec, bootstrap, cluster, type Fields, type LogLine } from './bootstrap.ts'

export interface SetupSpec extends Omit<BootstrapSpec, 'clusters' | 'log'> {
  readonly origin?: OriginOptions | OriginScript
  /** Fields of the cluster `origin`. */
  readonly cluster?: Fields
  /** Beside `origin`. */
  readonly clusters?: readonly Fields[]
  readonly gateway?: GatewayOptions
}

export interface Setup {
  readonly gateway: TestGateway
  readonly origin: Origin
  readonly client: WireClient
  /** A connection to the gateway. */
  connect(options?: WireOptions): Promise<Wire>
  /** Ends everything and answers the access log. */
  finish(): Promise<LogLine[]>
}

/** One origin, one gateway that sends everything to it unless told otherwise, one client; torn down with the test. */
export async function setup(t: Test, spec: SetupSpec = {}): Promise<Setup> {
  const logPath = join(t.testdir(), 'access.log')
  const origin = await Origin.start(spec.origin ?? {})
  const client = new WireClient()
  let started: TestGateway | undefined
  t.teardown(async () => {
    await client.closeAll()
    await started?.close()
    await origin.close()
  })
  const clusters = [cluster('origin', origin.port, spec.cluster), ...(spec.clusters ?? [])]
  const gateway = await TestGateway.start(bootstrap({ ...spec, log: logPath, clusters }), { ...spec.gateway, logPath })
  started = gateway
  const finish = async (): Promise<LogLine[]> => {
    await client.closeAll()
    await gateway.close()
    await origin.close()
    if (origin.violations.length > 0) throw new Error(`the origin complains: ${origin.violations.join('; ')}`)
    return gateway.lines().map((line) => JSON.parse(line) as LogLine)
  }
  return { gateway, origin, client, connect: (options) => client.connect(gateway.port(), options), finish }
}

/** A request without a body. */
export function get(target = '/', ...lines: readonly string[]): string {
  return ['GET ' + target + ' HTTP/1.1', 'host: a.example', ...lines, '', ''].join('\r\n')
}

export function post(body: string, ...lines: readonly string[]): string {
  const head = ['POST / HTTP/1.1', 'host: a.example', `content-length: ${Buffer.byteLength(body)}`, ...lines]
  return [...head, '', body].join('\r\n')
}
