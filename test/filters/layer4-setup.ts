import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import { cluster, type Fields } from '../end-to-end/bootstrap.ts'
import { settle } from '../support/clock.ts'
import { type GatewayOptions, TestGateway } from '../support/gateway.ts'
import { type Wire, WireClient, type WireOptions } from '../support/wire.ts'

const TYPE = 'type.googleapis.com/envoy.extensions'

/** A network filter by the last part of its type: `filter('tcp_proxy', 'TcpProxy', {...})`. */
export function filter(name: string, message: string, fields: Fields = {}): Fields {
  return {
    name: `envoy.filters.network.${name}`,
    typed_config: { '@type': `${TYPE}.filters.network.${name}.v3.${message}`, ...fields },
  }
}

export function tcpProxy(fields: Fields = {}): Fields {
  return filter('tcp_proxy', 'TcpProxy', { stat_prefix: 'l4', cluster: 'origin', ...fields })
}

/** An access log with this format. */
export function textLog(path: string, format: string): Fields {
  return {
    name: 'file',
    typed_config: {
      '@type': `${TYPE}.access_loggers.file.v3.FileAccessLog`,
      path,
      log_format: { text_format_source: { inline_string: `${format}\n` } },
    },
  }
}

/** A server of raw bytes: hands out what it has accepted, in order. */
export class RawOrigin {
  readonly #server: Server
  readonly #wires = new WireClient()
  readonly #accepted: Wire[] = []
  /** Connections in all. */
  total = 0

  private constructor() {
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      this.total++
      this.#accepted.push(this.#wires.adopt(socket))
    })
  }

  static async start(): Promise<RawOrigin> {
    const origin = new RawOrigin()
    origin.#server.listen(0, '127.0.0.1')
    await once(origin.#server, 'listening')
    return origin
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port
  }

  /** The next connection that nobody has taken. */
  async accept(): Promise<Wire> {
    const endMs = performance.now() + 5_000
    for (;;) {
      const wire = this.#accepted.shift()
      if (wire !== undefined) return wire
      if (performance.now() > endMs) throw new Error('the origin: no connection within 5 s')
      await settle()
    }
  }

  async close(): Promise<void> {
    this.#server.close()
    await this.#wires.closeAll()
  }
}

export interface Layer4Spec {
  /** Network filters of the one chain; default: tcp_proxy to `origin`. */
  readonly filters?: readonly Fields[] | ((log: (format: string) => Fields) => readonly Fields[])
  /** Fields of the listener. */
  readonly listener?: Fields
  /** Fields of the filter chain. */
  readonly chain?: Fields
  readonly cluster?: Fields
  readonly clusters?: readonly Fields[]
  /** Beside the one. */
  readonly listeners?: readonly Fields[]
  readonly gateway?: GatewayOptions
  /** Format of the listener's own access log. */
  readonly listenerLog?: string
}

export interface Layer4 {
  readonly gateway: TestGateway
  readonly origin: RawOrigin
  readonly client: WireClient
  connect(options?: WireOptions): Promise<Wire>
  /** Ends everything and answers the access log. */
  finish(): Promise<string[]>
}

/** One raw origin, one gateway with one listener of layer 4, one client; torn down with the test. */
export async function layer4(t: Test, spec: Layer4Spec = {}): Promise<Layer4> {
  const logPath = join(t.testdir(), 'access.log')
  const origin = await RawOrigin.start()
  const client = new WireClient()
  let started: TestGateway | undefined
  t.teardown(async () => {
    await client.closeAll()
    await started?.close()
    await origin.close()
  })
  const { filters = [tcpProxy()], listenerLog } = spec
  const list = typeof filters === 'function' ? filters((format) => textLog(logPath, format)) : filters
  const gateway = await TestGateway.start(
    {
      static_resources: {
        listeners: [
          {
            name: 'main',
            address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
            ...(listenerLog !== undefined && { access_log: [textLog(logPath, listenerLog)] }),
            ...spec.listener,
            filter_chains: [{ filters: list, ...spec.chain }],
          },
          ...(spec.listeners ?? []),
        ],
        clusters: [cluster('origin', origin.port, spec.cluster), ...(spec.clusters ?? [])],
      },
    },
    { ...spec.gateway, logPath },
  )
  started = gateway
  return {
    gateway,
    origin,
    client,
    connect: (options) => client.connect(gateway.port(), { halfOpen: true, ...options }),
    async finish() {
      await client.closeAll()
      await gateway.close()
      return existsSync(logPath) ? gateway.lines() : []
    },
  }
}
