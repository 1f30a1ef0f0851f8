import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import type { Test } from 'tap'
import type { JsonObject } from '../../lib/core/errors.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { GatewayProcess } from '../attacks/gateway-process.ts'
import { Authority } from '../support/certificates.ts'
import { ControlPlane } from '../support/control-plane.ts'
import { Ledger, ledgerScript } from '../support/ledger.ts'
import { Origin } from '../support/origin.ts'
import { WireClient } from '../support/wire.ts'
import { gatewayState, planeState } from './xds-dump.ts'
import { ConstantLoad, sleep } from './xds-load.ts'
import { dynamicBootstrap, type Fixed, KINDS, type Kind, resources, typeOf, wrong } from './xds-resources.ts'

/** `npm run test:faults` runs these tests as long as they should be run before a release. */
export const LONG: boolean = process.env.HEADGATE_FAULTS === 'long'

export interface LabOptions {
  readonly api?: 'GRPC' | 'DELTA_GRPC'
  readonly pings?: boolean
  /** More of the command `run`. */
  readonly flags?: readonly string[]
  /** False: requests are not expected in an access log (what a killed process had not written yet is lost). */
  readonly logged?: boolean
  readonly certificates?: number
  /** Its processes tell what they have in use (`xds-heap-watch.ts`). */
  readonly watched?: boolean
}

/** A push that was wrong, and what the gateway must have said of it. */
interface Wrong {
  readonly kind: Kind
  readonly place: RegExp
  readonly from: number
}

/**
 * The reference binary with two workers, driven by the fake control plane over the real wire: everything that it has comes
 * from there. Two origins, and the ledger of the requests that are sent all the time.
 */
export class XdsLab {
  readonly plane: ControlPlane
  readonly ledger: Ledger = new Ledger()
  readonly fixed: Fixed
  readonly authority: Authority
  readonly folder: string
  gateway: GatewayProcess
  readonly #origins: readonly Origin[]
  readonly #logged: boolean
  readonly #generations = new Map<Kind, number>()
  readonly #wrong: Wrong[] = []
  readonly #options: LabOptions
  #load: ConstantLoad | undefined = undefined
  #generation = 0

  private constructor(parts: {
    readonly plane: ControlPlane
    readonly fixed: Fixed
    readonly authority: Authority
    readonly folder: string
    readonly origins: readonly Origin[]
    readonly options: LabOptions
  }) {
    this.plane = parts.plane
    this.fixed = parts.fixed
    this.authority = parts.authority
    this.folder = parts.folder
    this.#origins = parts.origins
    this.#logged = parts.options.logged ?? true
    this.#options = parts.options
    // Of the first one; it is given right after this.
    this.gateway = undefined as unknown as GatewayProcess
    const serve = ledgerScript(this.ledger)
    for (const origin of parts.origins) origin.script = serve
  }

  /** Ends with the test. The gateway has everything of the first generation, and no load yet. */
  static async start(t: Test, options: LabOptions = {}): Promise<XdsLab> {
    const folder = mkdtempSync(join(tmpdir(), 'headgate-xds-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const authority = await Authority.create()
    const certificates = await Promise.all(
      Array.from({ length: options.certificates ?? 2 }, () => authority.issue({ dns: ['web.test'] })),
    )
    const [plainPort, securePort] = [await quietPort(), await quietPort()]
    const origins = [await Origin.start(), await Origin.start()]
    const plane = await ControlPlane.start({ registry: createProtoRegistry() })
    t.teardown(async () => {
      await Promise.all([plane.close(), ...origins.map((origin) => origin.close())])
    })
    const accessLog = options.logged === false ? '' : join(folder, 'access.log')
    const originPorts = origins.map((origin) => origin.port)
    const fixed: Fixed = { plainPort, securePort, accessLog, certificates, originPorts }
    const lab = new XdsLab({ plane, fixed, authority, folder, origins, options })
    t.teardown(() => lab.#load?.stop())
    for (const kind of KINDS) lab.push(kind)
    await lab.startGateway(t)
    await lab.settled(15_000)
    return lab
  }

  /** Another one in place of the last. */
  async startGateway(t: Test): Promise<void> {
    const { api, pings, flags = [], watched } = this.#options
    const bootstrap = dynamicBootstrap(this.plane.port, { adminPort: await quietPort(), api, pings })
    const watch = `--expose-gc --import=${join(import.meta.dirname, 'xds-heap-watch.ts')}`
    const environment = watched ? { NODE_OPTIONS: watch, HEADGATE_HEAP_WATCH: this.folder } : {}
    const all = ['--workers', '2', '--drain-time-s', '5', ...flags]
    this.gateway = await GatewayProcess.start(t, bootstrap, all, environment)
  }

  // --- traffic ------------------------------------------------------------------------------------------------------

  /** Requests from now on. */
  get load(): ConstantLoad {
    const { plainPort, securePort } = this.fixed
    this.#load ??= new ConstantLoad({ ledger: this.ledger, plainPort, securePort })
    return this.#load
  }

  /** Ends traffic and gateway, and closes the books: nothing lost, doubled, crossed, silent or cut. Answers the requests. */
  async balance(t: Test): Promise<number> {
    await this.#load?.stop()
    t.same(this.gateway.errors, [], 'no process has complained')
    t.equal(await this.gateway.terminate(), 0, 'and all end well')
    if (this.#logged) this.ledger.readAccessLog(readFileSync(this.fixed.accessLog, 'utf8'))
    else for (let seq = 1; seq <= this.ledger.size; seq++) this.ledger.logged(String(seq))
    t.doesNotThrow(() => this.ledger.assertClean())
    for (const origin of this.#origins) t.same(origin.violations, [])
    return this.ledger.size
  }

  // --- pushes -------------------------------------------------------------------------------------------------------

  /** A new generation of a type. */
  push(kind: Kind): void {
    const generation = ++this.#generation
    this.#generations.set(kind, generation)
    this.plane.set(typeOf(kind), resources(kind, generation, this.fixed))
  }

  /** The last good generation of a type once more. */
  pushAgain(kind: Kind): void {
    this.plane.set(typeOf(kind), resources(kind, this.#generations.get(kind) ?? 0, this.fixed))
  }

  /** One that must be refused. Until the next good one the last good one holds. */
  pushWrong(kind: Kind): void {
    const { all, place } = wrong(kind, ++this.#generation, this.fixed)
    this.#wrong.push({ kind, place, from: this.plane.requests.length })
    this.plane.set(typeOf(kind), all)
  }

  /** How many pushes were wrong. */
  get mistakes(): number {
    return this.#wrong.length
  }

  /**
   * What was wrong and not refused, or not with its place, and what was refused without being wrong. A wrong one that is sent
   * again, since more names of its type were asked for, is refused again.
   */
  unrefused(): string[] {
    const { requests } = this.plane
    const refused = requests.flatMap(({ typeName, error }, at) => (error ? [[at, { typeName, error }] as const] : []))
    const left = new Map(refused)
    const faults: string[] = []
    const isOf = ({ kind, place, from }: Wrong, at: number): boolean => {
      const { typeName, error } = requests[at]
      return at >= from && typeName === typeOf(kind) && place.test(error?.message ?? '')
    }
    for (const wrong of this.#wrong) {
      const at = [...left.keys()].find((candidate) => isOf(wrong, candidate))
      if (at === undefined) faults.push(`a wrong ${wrong.kind} was not refused with ${wrong.place}`)
      else left.delete(at)
    }
    for (const [at, { typeName, error }] of left) {
      if (!this.#wrong.some((wrong) => isOf(wrong, at))) faults.push(`${typeName} was refused: ${error.message}`)
    }
    return faults
  }

  // --- state --------------------------------------------------------------------------------------------------------

  /** What the gateway has is what the control plane has, in every worker. Throws with the differences after a while. */
  async settled(withinMs = 5_000): Promise<number> {
    const begin = performance.now()
    for (;;) {
      const differences = await this.differences()
      const tookMs = performance.now() - begin
      if (differences.length === 0) return tookMs
      if (tookMs > withinMs) throw new Error(`after ${withinMs} ms: ${differences.join('; ')}`)
      await sleep(25)
    }
  }

  async differences(): Promise<string[]> {
    const differences: string[] = []
    const compare = (what: string, got: unknown, expected: unknown): void => {
      const [a, b] = [JSON.stringify(got), JSON.stringify(expected)]
      if (a !== b) differences.push(`${what}: ${a} instead of ${b}`)
    }
    const wanted = planeState(this.plane, (this.#options.api ?? 'DELTA_GRPC') === 'DELTA_GRPC')
    const text = await this.gateway.ask('/config_dump?include_eds').catch((error: Error) => error)
    if (text instanceof Error) return [`no config dump: ${text.message}`]
    const dump = JSON.parse(text) as { configs: JsonObject[] }
    const got = gatewayState(dump)
    for (const [type, versions] of wanted) compare(type, got.get(type) ?? {}, versions)
    if (differences.length > 0) return differences
    // Which worker takes a connection is the kernel's choice.
    for (let i = 0; i < 6; i++) {
      const { version, switched, stamp } = await this.#probe()
      compare('routes', version, String(this.#generations.get('routes')))
      compare('runtime', switched, (this.#generations.get('runtime') ?? 0) % 2 === 0 ? 'off' : 'on')
      compare('extension', stamp, String(this.#generations.get('extension')))
      compare('secret', await serialOf(this.fixed.securePort, this.authority.pem), this.serial)
    }
    return differences
  }

  /** Of the certificate that was delivered last. */
  get serial(): string {
    const { certificates } = this.fixed
    const generation = this.#generations.get('secret') ?? 0
    return certificates[generation % certificates.length].certificate.serialNumber.toUpperCase()
  }

  async #probe(): Promise<{ readonly version: string; readonly switched: string; readonly stamp: string | undefined }> {
    const client = new WireClient()
    try {
      const wire = await client.connect(this.fixed.plainPort)
      const version = await wire.exchange('GET /version HTTP/1.1\r\nhost: a\r\n\r\n')
      const switched = await wire.exchange('GET /switch HTTP/1.1\r\nhost: a\r\n\r\n')
      return { version: version.text(), switched: switched.text(), stamp: version.get('x-stamp') }
    } catch (error) {
      return { version: String(error), switched: '', stamp: undefined }
    } finally {
      await client.closeAll()
    }
  }
}

/** A free port that the kernel gives no connection, so that it is still free when the gateway listens. */
async function quietPort(): Promise<number> {
  for (;;) {
    const port = randomInt(12_000, 32_000)
    const server = createServer()
    server.listen(port, '127.0.0.1')
    const free = await once(server, 'listening').then(
      () => true,
      () => false,
    )
    if (!free) continue
    server.close()
    await once(server, 'close')
    return port
  }
}

/** The serial number of the certificate that a handshake shows; why it failed otherwise. */
export function serialOf(port: number, ca: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connectTls({ port, host: '127.0.0.1', servername: 'web.test', ca }, () => {
      resolve(socket.getPeerCertificate().serialNumber)
      socket.end()
    })
    socket.on('error', (error) => resolve(String(error)))
    socket.on('close', () => resolve('closed before its end'))
    socket.resume()
  })
}
