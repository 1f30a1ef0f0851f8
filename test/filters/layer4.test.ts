import { once } from 'node:events'
import {
  type ConnectionOptions,
  connect as connectTls,
  createServer as createTlsServer,
  type TLSSocket,
} from 'node:tls'
import t from 'tap'
import { parseConnectionLimit } from '../../filters/connection-limit/config.ts'
import { parseDirectResponse } from '../../filters/direct-response/config.ts'
import { parseNetworkRateLimit } from '../../filters/network-local-ratelimit/config.ts'
import { parseSetFilterState } from '../../filters/set-filter-state/config.ts'
import { parseSniForwardProxy } from '../../filters/sni-dynamic-forward-proxy/config.ts'
import { parseTcpProxy } from '../../filters/tcp-proxy/config.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { cluster } from '../end-to-end/bootstrap.ts'
import { Authority } from '../support/certificates.ts'
import { parseJson } from '../support/chain-driver.ts'
import { settle, TestClock } from '../support/clock.ts'
import { startDnsServer } from '../support/dns-server.ts'
import { clientHello, sni } from '../tls/hellos.ts'
import { filter, layer4, RawOrigin, tcpProxy } from './layer4-setup.ts'

t.test('echo sends back what it reads', async (t) => {
  const l4 = await layer4(t, { filters: [filter('echo', 'Echo')] })
  const client = await l4.connect()
  const big = Buffer.alloc(3 * 1024 * 1024, 'e')
  const sent = client.write(big)
  t.ok((await client.readBytes(big.length)).equals(big))
  await sent
  client.end()
  t.equal(await client.expectEnd(), 'fin')
})

t.test('direct_response sends its bytes and closes', async (t) => {
  const l4 = await layer4(t, {
    filters: [filter('direct_response', 'Config', { response: { inline_string: 'go away\n' } })],
    listenerLog: '%BYTES_RECEIVED% %BYTES_SENT% %CONNECTION_TERMINATION_DETAILS%',
  })
  const client = await l4.connect()
  const { bytes, ending } = await client.readToEnd()
  t.equal(bytes.toString(), 'go away\n')
  t.equal(ending, 'fin')
  t.same(await l4.finish(), ['0 8 direct_response'])
})

t.test('connection_limit lets so many in, and the next when one has gone', async (t) => {
  const l4 = await layer4(t, {
    filters: [
      filter('connection_limit', 'ConnectionLimit', { stat_prefix: 'c', max_connections: 2 }),
      filter('echo', 'Echo'),
    ],
  })
  const [first, second] = [await l4.connect(), await l4.connect()]
  for (const wire of [first, second]) {
    wire.write('x')
    await wire.readBytes(1)
  }
  t.equal(l4.gateway.stat('connection_limit.c.active_connections'), 2)
  const third = await l4.connect()
  t.equal(await third.expectEnd(), 'fin')
  t.equal(l4.gateway.stat('connection_limit.c.limited_connections'), 1)
  first.end()
  await first.expectEnd()
  await l4.gateway.until(() => l4.gateway.stat('connection_limit.c.active_connections') === 1, 'room')
  const fourth = await l4.connect()
  fourth.write('y')
  t.equal((await fourth.readBytes(1)).toString(), 'y')
})

t.test('connection_limit holds refused connections for its delay, unread', async (t) => {
  const clock = new TestClock()
  const l4 = await layer4(t, {
    filters: [
      filter('connection_limit', 'ConnectionLimit', { stat_prefix: 'c', max_connections: 1, delay: '3s' }),
      filter('echo', 'Echo'),
    ],
    gateway: { clock },
  })
  const first = await l4.connect()
  first.write('x')
  await first.readBytes(1)
  const second = await l4.connect()
  second.write('y')
  await l4.gateway.until(() => l4.gateway.stat('connection_limit.c.limited_connections') === 1, 'refusal')
  await clock.advanceAsync(2_900)
  t.equal(second.stream.ending, 'open')
  t.equal(second.stream.received, 0)
  await clock.advanceAsync(200)
  t.equal(await second.expectEnd(), 'fin')
  await l4.finish()
})

t.test('local_ratelimit closes connections that find no token', async (t) => {
  const clock = new TestClock()
  const l4 = await layer4(t, {
    filters: [
      filter('local_ratelimit', 'LocalRateLimit', {
        stat_prefix: 'r',
        token_bucket: { max_tokens: 1, tokens_per_fill: 1, fill_interval: '10s' },
      }),
      filter('echo', 'Echo'),
    ],
    gateway: { clock },
  })
  const first = await l4.connect()
  first.write('x')
  await first.readBytes(1)
  t.equal(await (await l4.connect()).expectEnd(), 'fin')
  t.equal(l4.gateway.stat('local_rate_limit.r.rate_limited'), 1)
  await clock.advanceAsync(10_000)
  const third = await l4.connect()
  third.write('z')
  t.equal((await third.readBytes(1)).toString(), 'z')
  await l4.finish()
})

t.test('network filters in front of HTTP see its connection come and go', async (t) => {
  const hcm = {
    name: 'hcm',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
      stat_prefix: 'h',
      route_config: {
        virtual_hosts: [
          {
            name: 'all',
            domains: ['*'],
            routes: [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'ok' } } }],
          },
        ],
      },
      http_filters: [
        {
          name: 'router',
          typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
        },
      ],
    },
  }
  const state = { object_key: 'k', format_string: { text_format: 'v' } }
  for (const looks of [false, true]) {
    const l4 = await layer4(t, {
      filters: [
        filter('connection_limit', 'ConnectionLimit', { stat_prefix: 'c', max_connections: 5 }),
        ...(looks ? [filter('set_filter_state', 'Config', { on_downstream_data: [state] })] : []),
        hcm,
      ],
      listenerLog: '%ACCESS_LOG_TYPE% %CONNECTION_ID%',
    })
    const client = await l4.connect()
    for (let i = 0; i < 3; i++) {
      const response = await client.exchange('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
      t.equal(response.status, 200)
      t.equal(response.text(), 'ok')
    }
    t.equal(l4.gateway.stat('connection_limit.c.active_connections'), 1)
    t.equal(l4.gateway.stat('http.h.downstream_cx_active'), 1)
    client.end()
    await client.stream.untilEnd()
    await l4.gateway.until(() => l4.gateway.stat('connection_limit.c.active_connections') === 0, 'end')
    t.same(await l4.finish(), ['NotSet 1'])
  }
})

const authority = await Authority.create('CN=Layer 4 Root')

/** A TLS server that says who it is. */
async function tlsOrigin(t: { teardown(run: () => unknown): void }, name: string): Promise<number> {
  const issued = await authority.issue({ dns: [name] })
  const sockets = new Set<TLSSocket>()
  const server = createTlsServer({ cert: issued.chain, key: issued.key }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.end(`this is ${name}`)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as { port: number }).port
}

async function askTls(port: number, servername: string): Promise<string> {
  const socket = connectTls({ port, host: '127.0.0.1', servername, ca: authority.pem })
  let text = ''
  socket.on('data', (chunk: Buffer) => (text += chunk))
  socket.on('error', (error: NodeJS.ErrnoException) => (text += error.code))
  await new Promise((resolve) => socket.on('close', resolve))
  return text
}

const INSPECTOR = {
  name: 'envoy.filters.listener.tls_inspector',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector',
  },
}

t.test('sni_cluster passes TLS through to the cluster that the SNI names', async (t) => {
  const one = await tlsOrigin(t, 'one.example')
  const two = await tlsOrigin(t, 'two.example')
  const l4 = await layer4(t, {
    listener: { listener_filters: [INSPECTOR] },
    filters: (log) => [
      filter('sni_cluster', 'SniCluster'),
      tcpProxy({ access_log: [log('%REQUESTED_SERVER_NAME% %UPSTREAM_CLUSTER% %RESPONSE_FLAGS%')] }),
    ],
    clusters: [cluster('one.example', one), cluster('two.example', two)],
  })
  t.equal(await askTls(l4.gateway.port(), 'one.example'), 'this is one.example')
  t.equal(await askTls(l4.gateway.port(), 'two.example'), 'this is two.example')
  t.equal(await askTls(l4.gateway.port(), 'three.example'), 'ECONNRESET')
  const lines = await l4.finish()
  t.same(lines.slice(0, 2), ['one.example one.example -', 'two.example two.example -'])
  t.equal(lines[2], 'three.example - NC')
})

t.test('sni_dynamic_forward_proxy looks the SNI up and connects there', async (t) => {
  const dns = await startDnsServer()
  t.teardown(() => dns.close())
  dns.set('A', 'where.example', { addresses: ['127.0.0.1'] })
  dns.set('A', 'nowhere.example', 'NXDOMAIN')
  const [, dnsPort] = dns.address.split(':')
  const port = await tlsOrigin(t, 'where.example')
  const cache = { name: 'cache', dns_lookup_family: 'V4_ONLY' }
  const l4 = await layer4(t, {
    listener: { listener_filters: [INSPECTOR] },
    filters: (log) => [
      filter('sni_dynamic_forward_proxy', 'FilterConfig', { port_value: port, dns_cache_config: cache }),
      tcpProxy({ cluster: 'forward', access_log: [log('%RESPONSE_FLAGS% %UPSTREAM_HOST% %UPSTREAM_HOST_NAME%')] }),
    ],
    clusters: [
      {
        name: 'forward',
        lb_policy: 'CLUSTER_PROVIDED',
        cluster_type: {
          name: 'envoy.clusters.dynamic_forward_proxy',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig',
            dns_cache_config: {
              ...cache,
              max_hosts: 2,
              typed_dns_resolver_config: {
                name: 'cares',
                typed_config: {
                  '@type': 'type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig',
                  resolvers: [{ socket_address: { address: '127.0.0.1', port_value: Number(dnsPort) } }],
                },
              },
            },
          },
        },
      },
    ],
  })
  t.equal(await askTls(l4.gateway.port(), 'where.example'), 'this is where.example')
  t.equal(await askTls(l4.gateway.port(), 'where.example'), 'this is where.example')
  t.equal(await askTls(l4.gateway.port(), 'nowhere.example'), 'ECONNRESET')
  const client = await l4.connect()
  client.write(clientHello({ extensions: [sni('127.0.0.1')] }))
  t.equal(await client.expectEnd(), 'fin', 'an address is no name')
  t.equal(await askTls(l4.gateway.port(), 'toomany.example'), 'ECONNRESET', 'two names are what the cache holds')
  const lines = await l4.finish()
  const host = `127.0.0.1:${port}`
  t.same(lines, [`- ${host} where.example`, `- ${host} where.example`, 'DF - -', 'UH - -', 'UO - -'])
})

t.test('TLS ends here and goes on as TCP', async (t) => {
  const issued = await authority.issue({ dns: ['term.example'] })
  const origin = await RawOrigin.start()
  t.teardown(() => origin.close())
  const l4 = await layer4(t, {
    filters: (log) => [
      tcpProxy({
        cluster: 'plain',
        access_log: [log('%REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION% %BYTES_RECEIVED% %BYTES_SENT%')],
      }),
    ],
    chain: {
      transport_socket: {
        name: 'tls',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
          common_tls_context: {
            tls_certificates: [
              { certificate_chain: { inline_string: issued.chain }, private_key: { inline_string: issued.key } },
            ],
          },
        },
      },
    },
    clusters: [cluster('plain', origin.port)],
  })
  const socket = connectTls({
    port: l4.gateway.port(),
    host: '127.0.0.1',
    servername: 'term.example',
    ca: authority.pem,
    allowHalfOpen: true,
  } as ConnectionOptions)
  const client = l4.client.adopt(socket)
  client.write('secret')
  const upstream = await origin.accept()
  t.equal((await upstream.readBytes(6)).toString(), 'secret')
  client.end()
  t.equal(await upstream.expectEnd(), 'fin', 'close_notify is a half-close')
  upstream.write('answer')
  upstream.end()
  const { bytes, ending } = await client.readToEnd()
  t.equal(bytes.toString(), 'answer')
  t.equal(ending, 'fin')
  t.same(await l4.finish(), ['term.example TLSv1.3 6 6'])
})

t.test('a reset upstream resets a TLS client, without close_notify', async (t) => {
  const issued = await authority.issue({ dns: ['term.example'] })
  const l4 = await layer4(t, {
    chain: {
      transport_socket: {
        name: 'tls',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
          common_tls_context: {
            tls_certificates: [
              { certificate_chain: { inline_string: issued.chain }, private_key: { inline_string: issued.key } },
            ],
          },
        },
      },
    },
  })
  const client = l4.client.adopt(
    connectTls({ port: l4.gateway.port(), host: '127.0.0.1', servername: 'term.example', ca: authority.pem }),
  )
  client.write('x')
  const upstream = await l4.origin.accept()
  await upstream.readBytes(1)
  upstream.reset()
  t.equal(await client.expectEnd(), 'reset')
  await settle()
})

t.test('configurations are refused by field and value', (t) => {
  const cases: readonly [parse: (fields: FieldReader) => unknown, config: JsonObject, errors: readonly RegExp[]][] = [
    [parseTcpProxy, {}, [/stat_prefix/, /one of cluster and weighted_clusters/]],
    [parseTcpProxy, { stat_prefix: 'a', cluster: 'c', weighted_clusters: { clusters: [] } }, [/exclude/, /empty/]],
    [parseTcpProxy, { stat_prefix: 'a', cluster: 'c', max_connect_attempts: 0 }, [/at least 1, is 0/]],
    [parseTcpProxy, { stat_prefix: 'a', cluster: 'c', on_demand: { odcds_config: { ads: {} } } }, [/odcds_config/]],
    [parseTcpProxy, { stat_prefix: 'a', cluster: 'c', on_demand: { timeout: '-1s' } }, [/negative/]],
    [parseTcpProxy, { stat_prefix: 'a', cluster: 'c', hash_policy: [{ filter_state: {} }] }, [/key/]],
    [parseTcpProxy, { stat_prefix: 'a', cluster: 'c', hash_policy: [{ other: {} }] }, [/other/]],
    [
      parseTcpProxy,
      { stat_prefix: 'a', cluster: 'c', upstream_connect_mode: 'ON_DOWNSTREAM_DATA' },
      [/max_early_data_bytes.*required with upstream_connect_mode ON_DOWNSTREAM_DATA/],
    ],
    [
      parseTcpProxy,
      {
        stat_prefix: 'a',
        cluster: 'c',
        proxy_protocol_tlvs: [
          { type: 256, value: 'YQ==' },
          { type: 1 },
          { type: 2, format_string: { text_format: '%NO_SUCH%' } },
          { type: 3, value: 'YQ==', format_string: { text_format: 'x' } },
        ],
      },
      [/less than 256, is 256/, /value or format_string is required/, /NO_SUCH/, /exclude each other/],
    ],
    [parseTcpProxy, { stat_prefix: 'a', cluster: 'c', idle_timeout: '-1s' }, [/negative/]],
    [
      parseTcpProxy,
      { stat_prefix: 'a', cluster: 'c', tunneling_config: { hostname: '%NO_SUCH%', post_path: '/' } },
      [/NO_SUCH/, /use_post/],
    ],
    [parseTcpProxy, { stat_prefix: 'a', cluster: 'c', backoff_options: { base_interval: '0s' } }, [/base_interval/]],
    [parseConnectionLimit, { stat_prefix: 'a' }, [/max_connections/]],
    [parseConnectionLimit, { stat_prefix: 'a', max_connections: 0 }, [/at least 1, is 0/]],
    [parseNetworkRateLimit, { stat_prefix: 'a', share_key: 'k' }, [/token_bucket/]],
    [parseDirectResponse, { response: { filename: '/etc/motd' } }, [/filename/]],
    [parseSetFilterState, { on_new_connection: [{}] }, [/object_key/, /format_string/]],
    [parseSniForwardProxy, { port_value: 70_000 }, [/dns_cache_config/, /70000 is not a port/]],
  ]
  for (const [parse, config, errors] of cases) {
    const result = parseJson(config, parse)
    const text = result.errors.map(String).join('\n')
    t.equal(result.errors.length, errors.length, `${JSON.stringify(config)}: ${text}`)
    for (const error of errors) t.match(text, error)
  }
  t.end()
})
