import { connect as connectTls } from 'node:tls'
import t from 'tap'
import { XDS } from '../support/control-plane.ts'
import { LONG, XdsLab } from './xds-lab.ts'
import { sleep } from './xds-load.ts'
import { secret } from './xds-resources.ts'

/** Certificates by SDS that are exchanged every second, under handshakes all the time. */

t.setTimeout(200_000)

const ROTATIONS = LONG ? 60 : 5
const PER_SECOND = LONG ? 200 : 50
/** An old certificate may be shown for so long. */
const GONE_MS = 2_000
/** Between two turns of the pacer. */
const TICK_MS = 20

interface Handshake {
  readonly beganMs: number
  readonly endedMs: number
  /** Of the certificate that was shown; otherwise why there was none. */
  readonly outcome: string
}

function shake(port: number, ca: string): Promise<Handshake> {
  const beganMs = performance.now()
  return new Promise((resolve) => {
    const end = (outcome: string): void => resolve({ beganMs, endedMs: performance.now(), outcome })
    const socket = connectTls({ port, host: '127.0.0.1', servername: 'web.test', ca }, () => {
      end(socket.getPeerCertificate().serialNumber)
      socket.destroy()
    })
    socket.on('error', (error) => end(`failed: ${error.message}`))
    socket.on('close', () => end('failed: closed before its end'))
  })
}

for (const api of LONG ? (['DELTA_GRPC', 'GRPC'] as const) : (['DELTA_GRPC'] as const)) {
  t.test(`${api}: ${ROTATIONS} rotations at ${PER_SECOND} handshakes a second: none fails`, async (t) => {
    const lab = await XdsLab.start(t, { api, certificates: ROTATIONS + 2 })
    const { plane, fixed, authority } = lab
    const { certificates, securePort } = fixed
    const serials = certificates.map(({ certificate }) => certificate.serialNumber.toUpperCase())
    // The first push had generation 5.
    const first = serials.indexOf(lab.serial)
    const order = [...serials.keys()].map((i) => (first + i) % serials.length)
    const pushedMs: number[] = [performance.now()]
    const shakes: Promise<Handshake>[] = []
    const begin = performance.now()
    for (let rotation = 1; rotation <= ROTATIONS; rotation++) {
      while (performance.now() < begin + rotation * 1000) {
        const due = ((performance.now() - begin) / 1000) * PER_SECOND
        while (shakes.length < due) shakes.push(shake(securePort, authority.pem))
        await sleep(TICK_MS)
      }
      pushedMs.push(performance.now())
      plane.set(XDS.secret, [secret(certificates[order[rotation]])])
    }
    await sleep(GONE_MS)
    for (let i = 0; i < 20; i++) shakes.push(shake(securePort, authority.pem))
    const done = await Promise.all(shakes)
    const age = new Map(order.map((index, rotation) => [serials[index], rotation]))
    t.same(
      done.filter(({ outcome }) => !age.has(outcome)).map(({ outcome }) => outcome),
      [],
      'no handshake fails',
    )
    const late = done.map(({ beganMs, outcome }) => {
      const successor = pushedMs[(age.get(outcome) ?? 0) + 1]
      return successor === undefined ? 0 : beganMs - successor
    })
    const latest = late.reduce((most, one) => Math.max(most, one), 0)
    t.comment(`${done.length} handshakes; an old certificate was shown for up to ${Math.round(latest)} ms`)
    t.ok(latest < GONE_MS, 'an old certificate is soon gone')
    t.ok(new Set(done.map(({ outcome }) => outcome)).size > ROTATIONS / 2, 'one after the other was shown')
    t.same(lab.unrefused(), [])
    await lab.balance(t)
  })
}
