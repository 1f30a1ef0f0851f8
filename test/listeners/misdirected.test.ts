import { once } from 'node:events'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:tls'
import t from 'tap'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import { type ChainDirectory, isMisdirected, misdirectedBetween } from '../../listeners/http/misdirected.ts'
import { bootstrap, type Fields } from '../end-to-end/bootstrap.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { httpOf, withChains } from '../support/chains.ts'
import { TestGateway } from '../support/gateway.ts'
import { connection, tlsInfo } from '../support/peers.ts'

const TLS = {} as NonNullable<ChainDirectory['chains'][number]['config']['tls']>

/** Chains for a.example, *.b.example, plain.example (in plaintext), and everything else. */
class Directory implements ChainDirectory {
  readonly chains = [{ config: { tls: TLS } }, { config: { tls: TLS } }, { config: {} }, { config: { tls: TLS } }]
  /** Names that were looked up. */
  readonly asked: (string | undefined)[] = []
  otherwise = 3

  readonly choose = ({ serverName }: ConnectionInfo): number => {
    this.asked.push(serverName)
    if (serverName === 'a.example') return 0
    if (serverName?.endsWith('.b.example')) return 1
    return serverName === 'plain.example' ? 2 : this.otherwise
  }
}

const over = (serverName: string | undefined, known: Partial<ConnectionInfo> = {}): ConnectionInfo =>
  connection({ serverName, tls: tlsInfo({ serverName }), ...known })

t.test('a request is misdirected where its name would have led to another chain with TLS', async (t) => {
  const directory = new Directory()
  const check = misdirectedBetween(() => directory)
  for (const [sni, authority, expected] of [
    ['a.example', 'a.example', false],
    ['a.example', 'A.example', false],
    ['a.example', 'a.example:8443', false],
    ['a.example', 'a.example.', false],
    ['a.example', 'a.example.:443', false],
    ['a.example', 'x.b.example', true],
    ['x.b.example.', 'x.b.example.', true],
    ['x.b.example.', 'x.b.example', true],
    ['other.example.', 'other.example.', false],
    ['a.example', 'X.B.EXAMPLE:443', true],
    ['a.example', 'unknown.example', true],
    ['a.example', 'plain.example', false],
    ['a.example', '[::1]:443', true],
    ['a.example', '', false],
    ['x.b.example', 'y.b.example', false],
    ['x.b.example', 'a.example', true],
    ['unknown.example', 'other.example', false],
    ['unknown.example', 'a.example', true],
  ] as const) {
    t.equal(isMisdirected(authority, over(sni), check), expected, `${authority} on a connection for ${sni}`)
  }
  directory.otherwise = -1
  t.equal(isMisdirected('unknown.example', over('a.example'), check), false, 'nobody else has it: the routes say 404')
})

t.test('connections without a server name, and plaintext, are asked nothing', async (t) => {
  const directory = new Directory()
  const check = misdirectedBetween(() => directory)
  t.equal(isMisdirected('x.b.example', over(undefined), check), false)
  t.equal(isMisdirected('x.b.example', over('a.example', { tls: undefined }), check), false)
  t.equal(isMisdirected('a.example', over('a.example'), check), false)
  t.equal(isMisdirected('a.example:443', over('a.example'), check), false)
  t.same(directory.asked, [], 'the usual request costs no choice between chains')
})

t.test('both names are judged by the chains of one snapshot', async (t) => {
  const before = new Directory()
  const after = new Directory()
  let current: ChainDirectory = before
  const check = misdirectedBetween(() => current)
  t.equal(isMisdirected('x.b.example', over('a.example'), check), true)
  t.same(before.asked, ['x.b.example', 'a.example'])
  // From now on one chain has both names.
  current = { chains: after.chains, choose: () => 1 }
  t.equal(isMisdirected('x.b.example', over('a.example'), check), false)
})

const TYPE = 'type.googleapis.com/envoy.extensions'

/** A chain for these server names (none: the default chain), which answers with its own name. */
function chainFor(name: string, serverNames: readonly string[], certificate: Issued): Fields {
  const answer = { match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: name } } }
  const { static_resources } = bootstrap({ routes: [answer], clusters: [] }) as {
    static_resources: { listeners: { filter_chains: [{ filters: object[] }] }[] }
  }
  return {
    name,
    filters: static_resources.listeners[0].filter_chains[0].filters,
    ...(serverNames.length > 0 && { filter_chain_match: { server_names: serverNames } }),
    transport_socket: {
      name: 'tls',
      typed_config: {
        '@type': `${TYPE}.transport_sockets.tls.v3.DownstreamTlsContext`,
        common_tls_context: {
          alpn_protocols: ['h2', 'http/1.1'],
          tls_certificates: [
            {
              certificate_chain: { inline_string: certificate.chain },
              private_key: { inline_string: certificate.key },
            },
          ],
        },
      },
    },
  }
}

function listenerOf(certificate: Issued): Fields {
  return {
    static_resources: {
      listeners: [
        {
          name: 'main',
          address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
          listener_filters: [
            { name: 'i', typed_config: { '@type': `${TYPE}.filters.listener.tls_inspector.v3.TlsInspector` } },
          ],
          filter_chains: [
            chainFor('one', ['a.example'], certificate),
            chainFor('many', ['*.b.example', 'c.example'], certificate),
          ],
        },
      ],
    },
  }
}

const refusing = (config: GatewayConfig): GatewayConfig =>
  withChains(config, (chain) => ({ ...chain, http: { ...httpOf(chain), misdirected: 'refuse' } }))

/** The status and body that this authority gets. */
async function over2(session: ClientHttp2Session, authority: string): Promise<string> {
  const stream = session.request({ ':path': '/', ':authority': authority })
  let status = 0
  stream.on('response', (headers) => {
    status = headers[':status'] ?? 0
  })
  let body = ''
  for await (const chunk of stream) body += chunk
  return `${status} ${body}`
}

async function over1(port: number, servername: string, host: string, line = 'GET /'): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', servername, rejectUnauthorized: false })
  socket.write(`${line} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)
  let text = ''
  for await (const chunk of socket) text += chunk
  return `${text.slice(9, 12)} ${text.slice(text.indexOf('\r\n\r\n') + 4)}`
}

t.test('over HTTP/2 and HTTP/1, names of another chain are answered 421 where that is asked for', async (t) => {
  const authority = await Authority.create()
  const certificate = await authority.issue({ dns: ['a.example', '*.b.example', 'c.example'] })
  const gateway = await TestGateway.start(listenerOf(certificate), { adjust: refusing })
  t.teardown(() => gateway.close())
  const port = gateway.port()
  const session = connectHttp2(`https://127.0.0.1:${port}`, { servername: 'x.b.example', rejectUnauthorized: false })
  await once(session, 'connect')
  t.equal(await over2(session, 'x.b.example'), '200 many')
  t.equal(await over2(session, `x.b.example:${port}`), '200 many')
  t.equal(await over2(session, 'y.b.example'), '200 many', 'the same chain would have been chosen')
  t.equal(await over2(session, 'c.example'), '200 many')
  t.equal(await over2(session, 'a.example'), '421 ')
  t.equal(await over2(session, 'x.b.example'), '200 many', 'the connection is as good as before')
  t.equal(await over2(session, 'unknown.example'), '200 many', 'no chain has it: the routes decide')
  session.close()
  t.equal(await over1(port, 'a.example', 'a.example'), '200 one')
  t.equal(await over1(port, 'a.example', 'A.EXAMPLE:443'), '200 one')
  t.equal(await over1(port, 'a.example', 'z.b.example'), '421 ')
  const tunnel = await over1(port, 'a.example', 'z.b.example:443', 'CONNECT z.b.example:443')
  t.not(tunnel.slice(0, 3), '421', 'where a tunnel should go to is no name of this server')
  t.equal(gateway.stat('http.test.downstream_rq_misdirected'), 2)
})

t.test('an Envoy configuration is served as Envoy serves it', async (t) => {
  const authority = await Authority.create()
  const gateway = await TestGateway.start(listenerOf(await authority.issue({ dns: ['a.example'] })))
  t.teardown(() => gateway.close())
  t.equal(await over1(gateway.port(), 'a.example', 'c.example'), '200 one')
  t.equal(gateway.stat('http.test.downstream_rq_misdirected'), 0)
})
