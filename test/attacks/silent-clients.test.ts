import t, { type Test } from 'tap'
import type { Fields } from '../end-to-end/bootstrap.ts'
import { Authority } from '../support/certificates.ts'
import { PREFACE } from '../support/http2-wire.ts'
import { Lab } from './lab.ts'
import {
  afterBytes,
  afterHandshake,
  HTTP2_GREETING,
  type SilentClient,
  SilentTunnels,
  silence,
} from './silent-clients.ts'

/**
 * Clients that stop talking, at every stage of a connection: each is ended at that stage's deadline, and the victims
 * beside notice nothing. `HEADGATE_ATTACK_CLIENTS=1000` for the long form, stage after stage.
 */
const CLIENTS = Number(process.env['HEADGATE_ATTACK_CLIENTS'] ?? 50)
const SHORT = CLIENTS <= 100
t.setTimeout(SHORT ? 60_000 : 600_000)

const DEADLINE_S = 2
const DEADLINE = `${DEADLINE_S}s`
const TOLERANCE_S = 1
/** A TLS connection that is read by nobody, with its streams and what it has of V8's heap; MiB. */
const MIB_PER_CLIENT = 0.25

const TYPE = 'type.googleapis.com/envoy.extensions'

/** A ClientHello as far as its random. */
const BEGUN_HELLO = Buffer.concat([
  Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
  Buffer.alloc(32, 'headgate random '),
])

interface Stage {
  readonly name: string
  readonly listener: string
  readonly client: SilentClient
  /** What the gateway says before the end. */
  readonly says?: RegExp
  /** Counts each of them. */
  readonly counter: string
}

function stages(tunnels: SilentTunnels): Stage[] {
  const at = (listener: string, name: string, client: SilentClient, counter: string, says?: RegExp): Stage => {
    return { name, listener, client, counter, says }
  }
  const handshake = 'downstream_cx_transport_socket_connect_timeout'
  const head = 'http.test.downstream_rq_header_timeout'
  const idle = 'http.test.downstream_cx_idle_timeout'
  const inspected = 'downstream_pre_cx_timeout'
  return [
    at('tls', 'TLS, nothing sent', afterBytes(Buffer.alloc(0)), handshake),
    at('tls', 'TLS, a ClientHello begun', afterBytes(BEGUN_HELLO), handshake),
    at('inspected', 'inspected, nothing sent', afterBytes(Buffer.alloc(0)), inspected),
    at('inspected', 'inspected, a ClientHello begun', afterBytes(BEGUN_HELLO), inspected),
    at('proxied', 'a PROXY header begun', afterBytes(Buffer.from('PROXY TCP4 192.0.2.1 19')), inspected),
    at(
      'proxied',
      'a binary PROXY header begun',
      afterBytes(Buffer.from('0d0a0d0a000d0a515549540a2111', 'hex')),
      inspected,
    ),
    at('tls', 'TLS done, no request', afterHandshake('http/1.1'), idle),
    at('tls', 'TLS done, a request begun', afterHandshake('http/1.1', Buffer.from('GET / HT')), head, / 408 /),
    at('tls', 'TLS done, HTTP/2 without requests', afterHandshake('h2', HTTP2_GREETING), idle),
    at('plain', 'connected, no request', afterBytes(Buffer.alloc(0)), idle),
    at('plain', 'an HTTP/2 preface begun', afterBytes(PREFACE.subarray(0, 10)), head),
    at('plain', 'an HTTP/2 preface alone', afterBytes(PREFACE), idle),
    at('bytes', 'layer 4, nothing sent', afterBytes(Buffer.alloc(0)), 'tcp.bytes.idle_timeout'),
    at('bytes', 'layer 4, silent behind a few bytes', afterBytes(Buffer.from('GET / HT')), 'tcp.bytes.idle_timeout'),
    at('tunnels', 'HBONE, a CONNECT and silence', tunnels.client, 'http.test.downstream_rq_idle_timeout'),
  ]
}

const LIMITS: Fields = {
  common_http_protocol_options: { idle_timeout: DEADLINE },
  request_headers_timeout: DEADLINE,
  stream_idle_timeout: DEADLINE,
  delayed_close_timeout: '0.2s',
  drain_timeout: '0.2s',
}

async function startLab(t: Test): Promise<{ lab: Lab; tunnels: SilentTunnels }> {
  const authority = await Authority.create()
  const server = await authority.issue({ dns: ['gateway.example'], uri: ['spiffe://cluster.local/ns/a/sa/gateway'] })
  const client = await authority.issue({ uri: ['spiffe://cluster.local/ns/a/sa/client'] })
  const tls = (more: Fields = {}, alpn = ['h2', 'http/1.1']): Fields => ({
    transport_socket_connect_timeout: DEADLINE,
    transport_socket: {
      name: 'tls',
      typed_config: {
        '@type': `${TYPE}.transport_sockets.tls.v3.DownstreamTlsContext`,
        require_client_certificate: 'validation_context' in more,
        common_tls_context: {
          alpn_protocols: alpn,
          tls_certificates: [
            { certificate_chain: { inline_string: server.chain }, private_key: { inline_string: server.key } },
          ],
          ...more,
        },
      },
    },
  })
  const filter = (name: string, message: string): Fields => ({
    listener_filters: [{ name, typed_config: { '@type': `${TYPE}.filters.listener.${message}` } }],
    listener_filters_timeout: DEADLINE,
  })
  const tcpProxy = {
    '@type': `${TYPE}.filters.network.tcp_proxy.v3.TcpProxy`,
    stat_prefix: 'bytes',
    cluster: 'target',
    idle_timeout: DEADLINE,
  }
  const upgrade = [{ upgrade_type: 'CONNECT', connect_config: {} }]
  const lab = await Lab.start(t, {
    listeners: [
      { name: 'tls', hcm: LIMITS, chain: tls() },
      {
        name: 'inspected',
        hcm: LIMITS,
        chain: tls(),
        fields: filter('tls_inspector', 'tls_inspector.v3.TlsInspector'),
      },
      { name: 'proxied', hcm: LIMITS, fields: filter('proxy_protocol', 'proxy_protocol.v3.ProxyProtocol') },
      { name: 'plain', hcm: LIMITS },
      { name: 'bytes', chain: { filters: [{ name: 'tcp_proxy', typed_config: tcpProxy }] } },
      {
        name: 'tunnels',
        hcm: { ...LIMITS, codec_type: 'HTTP2', upgrade_configs: [{ upgrade_type: 'CONNECT' }] },
        chain: tls({ validation_context: { trusted_ca: { inline_string: authority.pem } } }, ['h2']),
        routes: [
          { match: { connect_matcher: {} }, route: { cluster: 'target', timeout: '0s', upgrade_configs: upgrade } },
        ],
      },
    ],
  })
  return { lab, tunnels: new SilentTunnels({ key: client.key, cert: client.chain }) }
}

t.test(`${CLIENTS} silent clients at every stage: each is ended at its deadline`, async (t) => {
  const { lab, tunnels } = await startLab(t)
  const all = stages(tunnels)
  const one = async (stage: Stage): Promise<void> => {
    const silences = await silence(stage.client, await lab.gateway.port(stage.listener), CLIENTS)
    const seconds = silences.map(({ forMs }) => forMs / 1000).sort((a, b) => a - b)
    const [least, most] = [seconds[0], seconds[seconds.length - 1]]
    t.comment(`${stage.name}: ended after ${least.toFixed(2)} to ${most.toFixed(2)} s`)
    t.ok(least > DEADLINE_S - TOLERANCE_S, `${stage.name}: not before its time (${least.toFixed(2)} s)`)
    t.ok(most < DEADLINE_S + TOLERANCE_S, `${stage.name}: not after its time (${most.toFixed(2)} s)`)
    const { says } = stage
    if (says !== undefined)
      t.ok(
        silences.every(({ got }) => says.test(got.toString('latin1'))),
        `${stage.name}: told so`,
      )
  }
  const limitMib = 30 + MIB_PER_CLIENT * CLIENTS * (SHORT ? all.length : 1)
  const groups = SHORT ? [all] : all.map((stage) => [stage])
  const changes = new Map<string, number>()
  for (const group of groups) {
    const name = group.length === 1 ? group[0].name : 'silence at every stage'
    const run = async (): Promise<void> => void (await Promise.all(group.map(one)))
    const seen = await lab.under(t, { name, attackers: 1, limitMib, run, forMs: 0 })
    for (const { counter } of group) {
      const names = Object.keys(seen.after.nonzero(/./)).filter((each) => each.endsWith(counter))
      const count = names.reduce((sum, each) => sum + seen.of(each), 0)
      changes.set(counter, SHORT ? count : (changes.get(counter) ?? 0) + count)
    }
  }
  for (const [counter, count] of changes) {
    const expected = all.filter((stage) => stage.counter === counter).length * CLIENTS
    t.ok(count >= expected, `${counter} counted ${count} of ${expected}`)
  }
  tunnels.close()
  await lab.calm(t)
})
