import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'
import { proxyProtocol } from '../../lib/cli/library.ts'
import { ENDS4, ENDS6, line, proxy2, tlv } from '../filters/proxy-headers.ts'
import { Authority } from '../support/certificates.ts'
import { TestClock } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import * as http2 from '../support/http2-wire.ts'
import { socketPath } from '../support/socket-path.ts'
import { WireClient } from '../support/wire.ts'
import { bootstrap, type Fields } from './bootstrap.ts'
import { get, setup } from './setup.ts'

const LISTENER = 'type.googleapis.com/envoy.extensions.filters.listener'
const PROXY = `${LISTENER}.proxy_protocol.v3.ProxyProtocol`
const TLS_INSPECTOR = { name: 'tls', typed_config: { '@type': `${LISTENER}.tls_inspector.v3.TlsInspector` } }
const HTTP_INSPECTOR = { name: 'http', typed_config: { '@type': `${LISTENER}.http_inspector.v3.HttpInspector` } }

const proxy = (fields: Fields = {}): Fields => ({ name: 'proxy', typed_config: { '@type': PROXY, ...fields } })
const header = (key: string, value: string): Fields => ({ header: { key, value } })

/** Answers by itself; the response says who is thought to be the client. */
const answers = (word: string, more: readonly Fields[] = []): Fields => ({
  match: { prefix: '/' },
  direct_response: { status: 200, body: { inline_string: word } },
  response_headers_to_add: [
    header('x-client', '%DOWNSTREAM_REMOTE_ADDRESS%'),
    header('x-direct', '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%'),
    header('x-local', '%DOWNSTREAM_LOCAL_ADDRESS%'),
    ...more,
  ],
})

interface Lab {
  readonly gateway: TestGateway
  readonly client: WireClient
  /** What the answer to these bytes says; 'closed' where there is none. */
  ask(bytes: Buffer | string): Promise<unknown>
}

async function lab(
  t: Test,
  spec: {
    readonly filters: readonly Fields[]
    readonly listener?: Fields
    readonly chain?: Fields
    readonly routes?: readonly Fields[]
    readonly clock?: TestClock
    readonly log?: Fields
  },
): Promise<Lab> {
  const client = new WireClient()
  const logPath = join(t.testdir(), 'access.log')
  const source = bootstrap({
    clusters: [],
    fields: { listener_filters: spec.filters, ...spec.listener },
    routes: spec.routes ?? [answers('hello')],
    hcm: {
      access_log: [
        {
          name: 'file',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
            path: logPath,
            log_format: {
              text_format_source: {
                inline_string:
                  '%REQ(:PATH)% %DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS%\n',
              },
            },
          },
        },
      ],
    },
    ...(spec.chain && { chain: spec.chain }),
  })
  const gateway = await TestGateway.start(source, { logPath, ...(spec.clock && { clock: spec.clock }) })
  t.teardown(async () => {
    await client.closeAll()
    await gateway.close()
  })
  const ask = async (bytes: Buffer | string): Promise<unknown> => {
    try {
      const wire = await client.connect(gateway.port())
      const response = await wire.exchange(bytes)
      await wire.close()
      return [response.status, response.get('x-client'), response.get('x-direct'), response.get('x-local')]
    } catch {
      return 'closed'
    }
  }
  return { gateway, client, ask }
}

const CLIENT = [200, '203.0.113.9:51000', '127.0.0.1', '198.51.100.2:443']

t.test('a PROXY header before HTTP/1 changes the client, not the peer', async (t) => {
  const { gateway, client, ask } = await lab(t, { filters: [proxy()] })
  for (const head of [line(ENDS4), proxy2()]) t.same(await ask(Buffer.concat([head, Buffer.from(get())])), CLIENT)
  t.same(await ask(Buffer.concat([proxy2(ENDS6), Buffer.from(get('/six'))])), [
    200,
    '[2001:db8::9]:51000',
    '127.0.0.1',
    '[2001:db8::2]:443',
  ])
  t.equal(await ask(get()), 'closed')
  await client.closeAll()
  await gateway.close()
  t.ok(gateway.lines().includes('/six [2001:db8::9]:51000 127.0.0.1 [2001:db8::2]:443'))
  t.equal(gateway.stat('proxy_proto.versions.v1.found'), 1)
  t.equal(gateway.stat('proxy_proto.versions.v2.found'), 2)
  t.equal(gateway.stat('proxy_proto.not_found_disallowed'), 1)
})

t.test('a header in pieces, byte by byte', async (t) => {
  const { gateway, client } = await lab(t, { filters: [proxy()] })
  const wire = await client.connect(gateway.port())
  const bytes = Buffer.concat([line(ENDS4), Buffer.from(get())])
  await wire.writeSplit(
    bytes,
    Array.from(bytes, (_, i) => i),
  )
  t.equal((await wire.readResponse()).get('x-client'), '203.0.113.9:51000')
  await wire.close()
})

t.test('the second of two headers is payload', async (t) => {
  const { gateway, client } = await lab(t, { filters: [proxy()] })
  const wire = await client.connect(gateway.port())
  const response = await wire.exchange(Buffer.concat([line(ENDS4), line(ENDS4), Buffer.from(get())]))
  t.equal(response.status, 400)
  await wire.close()
})

t.test('optional headers, and the rest of the bytes', async (t) => {
  const { ask } = await lab(t, { filters: [proxy({ allow_requests_without_proxy_protocol: true })] })
  const [status, , direct] = (await ask(get())) as string[]
  t.same([status, direct], [200, '127.0.0.1'])
  t.same(await ask(Buffer.concat([proxy2(), Buffer.from(get())])), CLIENT)
  t.equal(await ask(`PROXY nonsense\r\n${get()}`), 'closed')
})

t.test('a header before the preface of HTTP/2', async (t) => {
  const { gateway } = await lab(t, { filters: [proxy(), HTTP_INSPECTOR] })
  const socket = connectTcp(gateway.port(), '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.on('error', () => undefined)
  socket.write(Buffer.concat([proxy2(), http2.PREFACE, http2.settings(), http2.headers(1, http2.get('/two'), true)]))
  await gateway.until(() => gateway.stat('http_inspector.http2_found') === 1, 'preface')
  await gateway.until(() => gateway.stat('http.test.downstream_rq_2xx') === 1, 'answer')
  socket.destroy()
  await once(socket, 'close')
  await gateway.close()
  t.same(gateway.lines(), ['/two 203.0.113.9:51000 127.0.0.1 198.51.100.2:443'])
})

t.test('a header glued to a ClientHello', async (t) => {
  const authority = await Authority.create()
  const leaf = await authority.issue({ dns: ['a.example'] })
  const transport = {
    name: 'tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
      common_tls_context: {
        tls_certificates: [
          { certificate_chain: { inline_string: leaf.chain }, private_key: { inline_string: leaf.key } },
        ],
      },
    },
  }
  const { gateway } = await lab(t, { filters: [proxy(), TLS_INSPECTOR], chain: { transport_socket: transport } })
  const raw = connectTcp(gateway.port(), '127.0.0.1')
  raw.on('error', () => undefined)
  await once(raw, 'connect')
  raw.cork()
  raw.write(line(ENDS4))
  const tls = connectTls({ socket: raw, ca: authority.pem, servername: 'a.example' })
  t.teardown(() => raw.destroy())
  process.nextTick(() => raw.uncork())
  await once(tls, 'secureConnect')
  tls.write(get('/tls', 'connection: close'))
  let text = ''
  tls.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
  })
  await once(tls, 'end')
  t.match(text, /^HTTP\/1\.1 200 OK\r\n/)
  t.match(text, /\r\nx-client: 203\.0\.113\.9:51000\r\n/)
  tls.destroy()
  await gateway.close()
  t.equal(gateway.stat('tls_inspector.sni_found'), 1)
  t.same(gateway.lines(), ['/tls 203.0.113.9:51000 127.0.0.1 198.51.100.2:443'])
})

t.test('TLVs reach formats as metadata of the connection', async (t) => {
  const rule = { tlv_type: 0xea, on_tlv_present: { key: 'vpce' } }
  const told = header('x-vpce', '%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:vpce)%')
  const { gateway, client } = await lab(t, { filters: [proxy({ rules: [rule] })], routes: [answers('hello', [told])] })
  const wire = await client.connect(gateway.port())
  const response = await wire.exchange(Buffer.concat([proxy2(ENDS4, tlv(0xea, 'vpce-1')), Buffer.from(get())]))
  t.equal(response.get('x-vpce'), 'vpce-1')
  await wire.close()
})

t.test('sources that are not trusted', async (t) => {
  const { config } = proxyProtocol({ trustedSources: ['10.0.0.0/8'], optional: true })
  const type = 'type.googleapis.com/headgate.filters.listener.proxy_protocol.v1.TrustedProxyProtocol'
  const { gateway, ask } = await lab(t, { filters: [{ name: 'proxy', typed_config: { '@type': type, ...config } }] })
  t.equal(await ask(Buffer.concat([line(ENDS4), Buffer.from(get())])), 'closed')
  t.equal(((await ask(get())) as unknown[])[0], 200)
  t.equal(gateway.stat('proxy_proto.untrusted_source'), 1)
})

t.test('on a Unix socket the client has an address all the same', async (t) => {
  const path = socketPath(t, 'gate')
  const { gateway, client } = await lab(t, { filters: [proxy()], listener: { address: { pipe: { path } } } })
  const wire = await client.connect({ path })
  const response = await wire.exchange(Buffer.concat([proxy2(), Buffer.from(get('/unix'))]))
  t.same([response.status, response.get('x-client')], [200, '203.0.113.9:51000'])
  await wire.close()
  await gateway.close()
  t.match(gateway.lines(), ['/unix 203.0.113.9:51000 - 198.51.100.2:443'])
})

t.test('silent clients are closed when the time of the listener filters is over', async (t) => {
  const clock = new TestClock()
  const { gateway, client } = await lab(t, {
    filters: [proxy()],
    listener: { listener_filters_timeout: '3s' },
    clock,
  })
  const silent = await client.connect(gateway.port())
  const half = await client.connect(gateway.port())
  half.write('PROXY TCP4 203.0')
  await gateway.until(() => gateway.stat('listener.127.0.0.1_0.downstream_pre_cx_active') === 2, 'connections')
  await clock.advanceAsync(2_000)
  t.equal(gateway.stat('listener.127.0.0.1_0.downstream_pre_cx_active'), 2)
  await clock.advanceAsync(2_000)
  await gateway.until(() => gateway.stat('listener.127.0.0.1_0.downstream_pre_cx_active') === 0, 'end')
  t.equal(gateway.stat('listener.127.0.0.1_0.downstream_pre_cx_timeout'), 2)
  await silent.close()
  await half.close()
})

t.test('connections faster than the bucket are closed', async (t) => {
  const clock = new TestClock()
  const limit = {
    name: 'limit',
    typed_config: {
      '@type': `${LISTENER}.local_ratelimit.v3.LocalRateLimit`,
      stat_prefix: 'edge',
      token_bucket: { max_tokens: 2, fill_interval: '1s' },
    },
  }
  const { gateway, ask } = await lab(t, { filters: [limit], clock })
  const statuses = async (): Promise<unknown[]> => {
    const all: unknown[] = []
    for (let i = 0; i < 3; i++) {
      const answer = await ask(get())
      all.push(Array.isArray(answer) ? answer[0] : answer)
    }
    return all
  }
  t.same(await statuses(), [200, 200, 'closed'])
  clock.advance(1_000)
  t.same(await statuses(), [200, 'closed', 'closed'])
  t.equal(gateway.stat('listener_local_ratelimit.edge.rate_limited'), 3)
})

t.test('original destinations are refused by name', async (t) => {
  const filter = { name: 'dst', typed_config: { '@type': `${LISTENER}.original_dst.v3.OriginalDst` } }
  await t.rejects(lab(t, { filters: [filter] }), {
    message: /original destinations are not available: .*SO_ORIGINAL_DST/,
  })
})

t.test('an internal listener restores the destination that its metadata names', async (t) => {
  const TYPE = 'type.googleapis.com/envoy.extensions.transport_sockets'
  const { gateway, connect } = await setup(t, {
    listeners: [
      { name: 'outer', routes: [{ match: { prefix: '/' }, route: { cluster: 'inner' } }] },
      {
        name: 'inside',
        fields: {
          address: undefined,
          internal_listener: {},
          listener_filters: [{ name: 'dst', typed_config: { '@type': `${LISTENER}.original_dst.v3.OriginalDst` } }],
        },
        routes: [answers('inside')],
      },
    ],
    clusters: [
      {
        name: 'inner',
        type: 'STATIC',
        load_assignment: {
          cluster_name: 'inner',
          endpoints: [
            {
              lb_endpoints: [
                {
                  endpoint: { address: { envoy_internal_address: { server_listener_name: 'inside' } } },
                  metadata: {
                    filter_metadata: { 'envoy.filters.listener.original_dst': { local: '198.51.100.9:8080' } },
                  },
                },
              ],
            },
          ],
        },
        transport_socket: {
          name: 'internal',
          typed_config: {
            '@type': `${TYPE}.internal_upstream.v3.InternalUpstreamTransport`,
            passthrough_metadata: [{ kind: { host: {} }, name: 'envoy.filters.listener.original_dst' }],
            transport_socket: { name: 'raw', typed_config: { '@type': `${TYPE}.raw_buffer.v3.RawBuffer` } },
          },
        },
      },
    ],
  })
  const response = await (await connect()).exchange(get('/'))
  t.equal(response.text(), 'inside')
  t.match(response.get('x-local'), /^198\.51\.100\.9(:8080)?$/)
  t.match(response.get('x-client'), /^127\.0\.0\.1/)
  await gateway.close()
})
