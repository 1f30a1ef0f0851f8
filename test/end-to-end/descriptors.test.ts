import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { GatewayProcess } from '../attacks/gateway-process.ts'
import { Origin } from '../support/origin.ts'
import { WireClient } from '../support/wire.ts'
import { bootstrap, cluster } from './bootstrap.ts'
import { get } from './setup.ts'
import { sleep } from './xds-load.ts'

/** F11: more connections than a worker may have files. Linux only, by prlimit of util-linux. */

const FILES = 256
const CONNECTIONS = 1_000
const TICKS_PER_SECOND = 100

const skip = spawnSync('prlimit', ['--version']).status === 0 ? false : 'prlimit is not here'

/** Seconds of CPU that a process has had. */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

t.test(
  `${CONNECTIONS} connections to a worker that may have ${FILES} files: served before and after`,
  { skip, timeout: 60_000 },
  async (t) => {
    const origin = await Origin.start(async (request, reply) => {
      await request.body
      await reply.send({ body: 'fine' })
    })
    t.teardown(() => origin.close())
    const gateway = await GatewayProcess.start(t, bootstrap({ clusters: [cluster('origin', origin.port)] }))
    const port = await gateway.port('main')
    const pid = gateway.workerPid
    t.equal(spawnSync('prlimit', ['--pid', String(pid), `--nofile=${FILES}:${FILES}`]).status, 0)
    const client = new WireClient()
    t.teardown(() => client.closeAll())
    const before = await client.connect(port)
    t.equal((await before.exchange(get('/'))).text(), 'fine')

    const sockets: Socket[] = []
    let ended = 0
    for (let i = 0; i < CONNECTIONS; i++) {
      const socket = connect(port, '127.0.0.1')
      socket.on('error', () => {})
      socket.on('close', () => ended++)
      sockets.push(socket)
    }
    await Promise.all(
      sockets.map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')]).catch(() => {})),
    )
    await sleep(300)
    const files = readdirSync(`/proc/${pid}/fd`).length
    t.ok(files <= FILES, `${files} files`)
    t.ok(files > FILES - 10, 'as many as there may be')
    t.equal((await before.exchange(get('/'))).text(), 'fine', 'whoever had a connection is served')
    const begin = cpuOf(pid)
    await sleep(1_000)
    const used = cpuOf(pid) - begin
    t.ok(used < 0.5, `${used} s of CPU in a second of waiting`)
    t.equal((await before.exchange(get('/'))).text(), 'fine')

    const refused = ended
    for (const socket of sockets) socket.destroy()
    // As soon as there are files again, everybody is served, on new connections and to upstream.
    await gateway.until((stats) => stats.get('http.test.downstream_cx_active') <= 1, 'end of the connections')
    for (let i = 0; i < 20; i++) {
      const wire = await client.connect(port)
      t.equal((await wire.exchange(get('/'))).text(), 'fine')
      await wire.close()
    }
    t.ok(gateway.untouched, 'the worker is the same, and has not complained')
    t.comment(
      `${refused} of ${CONNECTIONS} connections were closed for want of a file, ${used.toFixed(2)} s of CPU meanwhile`,
    )
  },
)
