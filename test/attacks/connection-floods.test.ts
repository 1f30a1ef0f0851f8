import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { GatewayConfig } from '../../lib/config/model.ts'
import { bootstrap, type ListenerSpec } from '../end-to-end/bootstrap.ts'
import { TestGateway } from '../support/gateway.ts'
import { type Wire, WireClient } from '../support/wire.ts'

/**
 * More connections than a limit allows: exactly so many are held, the others are turned away at once and counted, and
 * clients beside see nothing of it. `HEADGATE_ATTACK_CLIENTS=1000` for the long form.
 */
const FLOOD = Number(process.env['HEADGATE_ATTACK_CLIENTS'] ?? 200)
const LIMIT = 20
const ATTACKER = '127.0.0.2'
const GET = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n'

interface Case {
  readonly name: string
  readonly limit: (config: GatewayConfig) => GatewayConfig
  readonly counter: string
  /** Where the victims are. */
  readonly victims: 'attacked' | 'beside'
}

function limited(config: GatewayConfig, limits: Partial<GatewayConfig['listeners'][number]>): GatewayConfig {
  const listeners = config.listeners.map((one) => (one.name === 'attacked' ? { ...one, ...limits } : one))
  return { ...config, listeners }
}

const CASES: readonly Case[] = [
  {
    name: 'a listener',
    limit: (config) => limited(config, { maxConnections: LIMIT }),
    counter: 'downstream_cx_overflow',
    victims: 'beside',
  },
  {
    name: 'one source',
    limit: (config) => limited(config, { maxConnectionsPerSource: LIMIT }),
    counter: 'downstream_source_cx_overflow',
    victims: 'attacked',
  },
  {
    name: 'the gateway, and a listener that its limit is not for',
    limit: (config) => ({
      ...config,
      maxConnections: LIMIT,
      listeners: config.listeners.map((one) => ({ ...one, ignoreGlobalLimit: one.name === 'beside' })),
    }),
    counter: 'downstream_global_cx_overflow',
    victims: 'beside',
  },
]

/** Connections of one attacker that send nothing. */
class Flood {
  readonly #sockets = new Set<Socket>()

  get open(): number {
    return this.#sockets.size
  }

  async pour(port: number): Promise<void> {
    for (let made = 0; made < FLOOD; made += 50) {
      const batch = Array.from({ length: Math.min(50, FLOOD - made) }, () => this.#one(port))
      await Promise.all(batch)
    }
  }

  /** Resolves when the kernel has taken the connection, or it has been reset before that was known. */
  async #one(port: number): Promise<void> {
    const socket = connect({ port, host: '127.0.0.1', localAddress: ATTACKER })
    this.#sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => this.#sockets.delete(socket))
    socket.resume()
    await once(socket, 'connect').catch(() => undefined)
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
  }
}

async function start(t: Test, limit: Case['limit']): Promise<TestGateway> {
  const listener = (name: string): ListenerSpec => ({
    name,
    fields: { stat_prefix: name },
    routes: [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'served' } } }],
  })
  const listeners = [listener('attacked'), listener('beside')]
  const gateway = await TestGateway.start(bootstrap({ listeners, clusters: [] }), { adjust: limit })
  t.teardown(() => gateway.close())
  return gateway
}

/** A client that stays, and one after the other that come and go, without end until told. */
async function victims(client: WireClient, port: number): Promise<() => Promise<number>> {
  let served = 0
  let over = false
  const ask = async (wire: Wire): Promise<void> => {
    const response = await wire.exchange(GET)
    if (response.status !== 200) throw new Error(`a victim was answered with ${response.status}`)
    served++
  }
  const stays = await client.connect(port)
  await ask(stays)
  const asking = (async (): Promise<void> => {
    while (!over) {
      await ask(stays)
      const comes = await client.connect(port)
      await ask(comes)
      await comes.close()
    }
    await stays.close()
  })()
  return async () => {
    over = true
    await asking
    return served
  }
}

for (const { name, limit, counter, victims: where } of CASES) {
  t.test(`${FLOOD} connections against the limit of ${name}`, async (t) => {
    const gateway = await start(t, limit)
    const client = new WireClient()
    t.teardown(() => client.closeAll())
    const served = await victims(client, gateway.port(where))
    const stat = (cell: string): number => gateway.stat(`listener.attacked.${cell}`)
    const flood = new Flood()
    t.teardown(() => flood.close())
    await flood.pour(gateway.port('attacked'))
    await gateway.until(() => stat(counter) === FLOOD - LIMIT && flood.open === LIMIT, 'turning away')
    t.equal(stat(counter), FLOOD - LIMIT, 'counted by its name')
    t.ok((await served()) > 2, 'the victims were served')
    flood.close()
    await gateway.until(() => stat('downstream_cx_active') === 0, 'end of the flood')
    const again = await client.connect(
      { port: gateway.port('attacked'), host: '127.0.0.1' },
      { localAddress: ATTACKER },
    )
    t.equal((await again.exchange(GET)).status, 200, 'there is room again')
    t.equal(stat(counter), FLOOD - LIMIT)
    await client.closeAll()
    t.same(gateway.complaints, [])
  })
}
