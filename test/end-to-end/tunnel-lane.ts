import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import type { Test } from 'tap'
import { type GatewayOptions, TestGateway } from '../support/gateway.ts'
import { bootstrap, cluster, type Fields, type LogLine, upstreamOptions } from './bootstrap.ts'
import { type Asked, type Asking, type Kind, TunnelClient, TunnelUpstream, type Wish } from './tunnel-peers.ts'

/** Tunnels through a whole gateway, by every pair of protocols. */

const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'
export const TO_HTTP2: Fields = {
  typed_extension_protocol_options: {
    [HTTP_OPTIONS]: {
      '@type': `type.googleapis.com/${HTTP_OPTIONS}`,
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
}

/** Of client and upstream. */
export const PAIRS: readonly (readonly [client: Kind, upstream: Kind])[] = [
  ['http1', 'http1'],
  ['http2', 'http1'],
  ['http1', 'http2'],
  ['http2', 'http2'],
]
export const WISHES: readonly Wish[] = ['websocket', 'connect']

/** One gateway between one client and one upstream. */
export interface Lane {
  readonly gateway: TestGateway
  readonly upstream: TunnelUpstream
  readonly client: TunnelClient
  /** Asks, is granted, and answers both ends. */
  open(wish?: Wish): Promise<{ asking: Asking; asked: Asked; near: Duplex; far: Duplex }>
  /** Ends everything; answers the access log. */
  finish(): Promise<LogLine[]>
}

export interface LaneSpec {
  readonly hcm?: Fields
  readonly cluster?: Fields
  readonly route?: Fields
  readonly gateway?: GatewayOptions
}

export async function lane(t: Test, [from, to]: readonly [Kind, Kind], spec: LaneSpec = {}): Promise<Lane> {
  const logPath = join(t.testdir(), 'access.log')
  const upstream = await TunnelUpstream.start(to)
  const base = to === 'http2' ? TO_HTTP2 : upstreamOptions({})
  const connects = { ...spec.route, cluster: 'origin', upgrade_configs: [{ upgrade_type: 'CONNECT' }] }
  const gateway = await TestGateway.start(
    bootstrap({
      log: logPath,
      hcm: {
        codec_type: 'AUTO',
        upgrade_configs: [{ upgrade_type: 'websocket' }],
        http2_protocol_options: { allow_connect: true },
        ...spec.hcm,
      },
      routes: [
        { match: { connect_matcher: {} }, route: connects },
        { match: { prefix: '/' }, route: { cluster: 'origin', ...spec.route } },
      ],
      clusters: [cluster('origin', upstream.port, { ...base, ...spec.cluster })],
    }),
    { ...spec.gateway, logPath },
  )
  const client = new TunnelClient(from, gateway.port())
  const end = async (): Promise<void> => {
    client.close()
    await gateway.close()
    upstream.close()
  }
  t.teardown(end)
  return {
    gateway,
    upstream,
    client,
    async open(wish = 'websocket') {
      const asking = await client.ask(wish)
      const asked = await upstream.next()
      const far = asked.grant()
      await asking.answer
      return { asking, asked, near: asking.stream, far }
    },
    async finish() {
      await gateway.until(() => gateway.stat('http.test.downstream_rq_active') === 0, 'end of the exchange')
      await end()
      return gateway.lines().map((line) => JSON.parse(line) as LogLine)
    },
  }
}

export function activeRequests(gateway: TestGateway): number {
  return gateway.stat('cluster.origin.upstream_rq_active')
}
