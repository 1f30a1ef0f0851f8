import { readFileSync } from 'node:fs'
import t from 'tap'
import type { GatewayConfig } from '../../lib/config/model.ts'
import { DEFAULT_DNS } from '../../lib/upstream/discovery/discovery.ts'
import { startDnsServer } from '../support/dns-server.ts'
import { TestGateway } from '../support/gateway.ts'
import { Origin } from '../support/origin.ts'
import { WireClient } from '../support/wire.ts'

const FIXTURE = new URL('../fixtures/envoy/front-proxy.yaml', import.meta.url)

/** The machine's part of the fixture: free ports instead of fixed ones, and a name server that knows the two services. */
function onThisMachine(config: GatewayConfig, ports: Record<string, number>, resolver: string): GatewayConfig {
  return {
    ...config,
    listeners: config.listeners.map((listener) => ({
      ...listener,
      addresses: [{ kind: 'ip' as const, host: '127.0.0.1', port: 0 }],
    })),
    clusters: config.clusters.map((cluster) => ({
      ...cluster,
      dns: { ...(cluster.dns ?? DEFAULT_DNS), resolvers: [resolver] },
      localities: cluster.localities.map((locality) => ({
        ...locality,
        endpoints: locality.endpoints.map((endpoint) => ({
          ...endpoint,
          address:
            endpoint.address.kind === 'ip' ? { ...endpoint.address, port: ports[cluster.name] } : endpoint.address,
        })),
      })),
    })),
  }
}

t.test(
  'a front proxy bootstrap runs: two services by prefix, a second listener, an access log on stdout',
  async (t) => {
    await using dns = await startDnsServer()
    dns.set('A', 'service1', { addresses: ['127.0.0.1'], ttlS: 60 })
    dns.set('A', 'service2', { addresses: ['127.0.0.1'], ttlS: 60 })
    const one = await Origin.start(async (_, reply) => void (await reply.send({ body: 'one' })))
    const two = await Origin.start(async (_, reply) => void (await reply.send({ body: 'two' })))
    const ports = { service1: one.port, service2: two.port }
    const gateway = await TestGateway.start(readFileSync(FIXTURE, 'utf8'), {
      adjust: (config) => onThisMachine(config, ports, dns.address),
    })
    const client = new WireClient()
    t.teardown(async () => {
      await client.closeAll()
      await gateway.close()
      await one.close()
      await two.close()
    })
    const wire = await client.connect(gateway.port('ingress'))
    const ask = async (path: string, host = 'any.example'): Promise<string> =>
      (await wire.exchange(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`)).text()
    t.equal(await ask('/service/1/a?b=c'), 'one')
    t.equal(one.requests[0].target, '/service/1/a?b=c')
    t.equal(await ask('/service/2/x'), 'two')
    t.equal(two.requests[0].target, '//x', 'prefix_rewrite replaces what matched, as in Envoy')
    t.equal((await wire.exchange('GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n')).status, 404)

    const status = await client.connect(gateway.port('status'))
    const alive = await status.exchange('GET /alive HTTP/1.1\r\nHost: status.example:8081\r\n\r\n')
    t.equal(alive.text(), 'yes\n')
    const elsewhere = await status.exchange('GET /x HTTP/1.1\r\nHost: status.example\r\n\r\n')
    t.equal(elsewhere.status, 302)
    t.equal(elsewhere.get('location'), 'http://www.example/x')
    t.equal((await status.exchange('GET / HTTP/1.1\r\nHost: other\r\n\r\n')).status, 404)
    t.equal(gateway.stat('http.ingress_http.downstream_rq_2xx'), 2)
  },
)
