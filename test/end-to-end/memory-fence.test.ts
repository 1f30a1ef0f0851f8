import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { GatewayProcess } from '../attacks/gateway-process.ts'
import { Origin } from '../support/origin.ts'
import { WireClient } from '../support/wire.ts'
import { bootstrap, cluster, type Fields } from './bootstrap.ts'
import { get } from './setup.ts'

/** A limit of memory under an attack that would take several times as much (F9 and F12 of the faults to survive). */

const MIB = 1 << 20
const UPLOAD_BYTES = 4 * MIB
/** What the gateway may take beyond what it takes when it rests. */
const ROOM_MIB = 120
const ATTACKERS = 150

const FIXED_HEAP = 'type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig'
const BUFFER = 'type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer'
const HEAP = 'envoy.resource_monitors.fixed_heap'

const at = (value: number): Fields[] => [{ name: HEAP, threshold: { value } }]
const between = (from: number, to: number): Fields[] => [
  { name: HEAP, scaled: { scaling_threshold: from, saturation_threshold: to } },
]
const act = (name: string, triggers: Fields[], more: Fields = {}): Fields => ({
  name: `envoy.overload_actions.${name}`,
  triggers,
  ...more,
})

function overload(limitMib: number): Fields {
  return {
    refresh_interval: '0.1s',
    buffer_factory_config: { minimum_account_to_track_power_of_two: 16 },
    resource_monitors: [{ name: HEAP, typed_config: { '@type': FIXED_HEAP, max_heap_size_bytes: limitMib * MIB } }],
    actions: [
      act('disable_http_keepalive', at(0.9)),
      act('shrink_heap', at(0.85), {
        typed_config: {
          '@type': 'type.googleapis.com/envoy.config.overload.v3.ShrinkHeapConfig',
          timer_interval: '1s',
          max_unfreed_memory_bytes: 10 * MIB,
        },
      }),
      act('reset_high_memory_stream', between(0.85, 0.95)),
      act('stop_accepting_requests', at(0.95)),
      act('reject_incoming_connections', at(0.98)),
    ],
  }
}

/** What all processes of a gateway take, as its monitor counts it, MiB. */
function memoryMib(gateway: GatewayProcess): number {
  const kib = (pid: number, name: string): number => {
    const text = readFileSync(`/proc/${pid}/status`, 'utf8')
    return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0)
  }
  const pids = [gateway.supervisorPid, ...gateway.processes().values()]
  const own = pids.map((pid) => kib(pid, 'RssAnon') + kib(pid, 'RssShmem'))
  return (own.reduce((sum, one) => sum + one, 0) + Math.max(...pids.map((pid) => kib(pid, 'RssFile')))) / 1024
}

/** Sends nearly all of what it has announced, and holds on to the rest. */
function hoard(port: number): Socket {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(`POST /held HTTP/1.1\r\nhost: a\r\ncontent-length: ${UPLOAD_BYTES}\r\n\r\n`)
  socket.write(Buffer.alloc(UPLOAD_BYTES - 1))
  socket.resume()
  return socket
}

t.setTimeout(120_000)
t.test('a limit of memory holds while attackers upload, and victims are served or told', async (t) => {
  const origin = await Origin.start()
  const client = new WireClient()
  const filters = [{ name: 'buffer', typed_config: { '@type': BUFFER, max_request_bytes: 2 * UPLOAD_BYTES } }]
  const start = (limitMib: number): Promise<GatewayProcess> =>
    GatewayProcess.start(
      t,
      bootstrap({ overload: overload(limitMib), filters, clusters: [cluster('origin', origin.port)] }),
    )
  const sockets: Socket[] = []
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    await client.closeAll()
    await origin.close()
  })
  const resting = await start(100_000)
  const restMib = Math.ceil(memoryMib(resting))
  const limitMib = restMib + ROOM_MIB
  await resting.terminate()

  const gateway = await start(limitMib)
  const port = await gateway.port('main')
  const ask = async (): Promise<number> => {
    try {
      return (await (await client.connect(port)).exchange(get())).status
    } catch {
      return 0
    }
  }
  t.equal(await ask(), 200)
  const statuses = new Map<number, number>()
  let mostMib = 0
  for (let round = 0; round < 50; round++) {
    while (sockets.length < ((round + 1) * ATTACKERS) / 40 && sockets.length < ATTACKERS) sockets.push(hoard(port))
    const status = await ask()
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
    mostMib = Math.max(mostMib, memoryMib(gateway))
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  const stats = await gateway.stats()
  const shed = stats.nonzero(/overload/)
  t.comment(JSON.stringify({ limitMib, mostMib: Math.round(mostMib), statuses: [...statuses], shed }))
  t.ok(mostMib < limitMib * 1.25, `${Math.round(mostMib)} MiB of ${limitMib}`)
  t.ok(stats.orZero('envoy.overload_actions.reset_high_memory_stream.count') > 0, 'attackers have lost their streams')
  t.ok((statuses.get(200) ?? 0) > 0, 'some victims are served')
  for (const status of statuses.keys()) t.ok([200, 503, 0].includes(status), `${status}: served, told, or turned away`)
  t.ok(gateway.untouched, 'nobody has died')
  for (const socket of sockets) socket.destroy()
  const calm = performance.now() + 30_000
  while ((await ask()) !== 200 && performance.now() < calm) await new Promise((resolve) => setTimeout(resolve, 100))
  t.equal(await ask(), 200, 'and all is as before')
  const endMib = memoryMib(gateway)
  t.ok(endMib < restMib * 1.3, `${Math.round(endMib)} MiB, ${restMib} before: memory has gone back to the system`)
})
