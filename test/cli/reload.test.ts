import { once } from 'node:events'
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { createGateway, type Gateway, type Log, loadEnvoyConfig, type NativeConfig } from '../../lib/cli/library.ts'
import { FileWatch } from '../../lib/runtime/file-watch.ts'
import { FileRecorder } from '../../lib/runtime/recorded-files.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { settle, TestClock } from '../support/clock.ts'
import { within } from '../tls/rig.ts'

const POLL_MS = 30_000
const authority = await Authority.create()
const old = await authority.issue({ subject: 'CN=old', dns: ['a.example'] })
const fresh = await authority.issue({ subject: 'CN=fresh', dns: ['a.example'] })

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'headgate-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function put(dir: string, { chain, key }: Pick<Issued, 'chain' | 'key'>): void {
  writeFileSync(join(dir, 'tls.crt'), chain)
  writeFileSync(join(dir, 'tls.key'), key)
}

/** A Kubernetes volume: files are links through `..data`, which is exchanged as a whole. */
class Volume {
  readonly #dir: string
  #version = 0

  constructor(dir: string, issued: Issued) {
    this.#dir = dir
    this.exchange(issued)
    for (const name of ['tls.crt', 'tls.key']) symlinkSync(join('..data', name), join(dir, name))
  }

  exchange(issued: Issued): void {
    const name = `..version-${++this.#version}`
    mkdirSync(join(this.#dir, name))
    put(join(this.#dir, name), issued)
    symlinkSync(name, join(this.#dir, '..next'))
    renameSync(join(this.#dir, '..next'), join(this.#dir, '..data'))
  }
}

function native(dir: string): NativeConfig {
  const certificate = { certificateChain: { file: join(dir, 'tls.crt') }, privateKey: { file: join(dir, 'tls.key') } }
  const routes = [{ match: {}, action: { kind: 'direct' as const, status: 200, body: 'hello' } }]
  return {
    listeners: [{ name: 'main', address: '127.0.0.1:0', tls: { certificates: [certificate] }, http: { routes } }],
  }
}

function envoy(dir: string): ReturnType<typeof loadEnvoyConfig> {
  const type = 'type.googleapis.com/envoy.extensions.'
  const route = { match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'hello' } } }
  const router = { '@type': `${type}filters.http.router.v3.Router` }
  const hcm = {
    '@type': `${type}filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: 'main',
    route_config: { virtual_hosts: [{ name: 'all', domains: ['*'], routes: [route] }] },
    http_filters: [{ name: 'router', typed_config: router }],
  }
  const certificate = {
    certificate_chain: { filename: join(dir, 'tls.crt') },
    private_key: { filename: join(dir, 'tls.key') },
  }
  const tls = {
    '@type': `${type}transport_sockets.tls.v3.DownstreamTlsContext`,
    common_tls_context: { tls_certificates: [certificate] },
  }
  const chain = { filters: [{ name: 'hcm', typed_config: hcm }], transport_socket: { name: 'tls', typed_config: tls } }
  const address = { socket_address: { address: '127.0.0.1', port_value: 0 } }
  return loadEnvoyConfig({ static_resources: { listeners: [{ name: 'main', address, filter_chains: [chain] }] } })
}

class Client {
  readonly socket: TLSSocket

  private constructor(socket: TLSSocket) {
    this.socket = socket
  }

  static async open(gateway: Gateway, session?: Buffer): Promise<Client> {
    const [address] = gateway.addresses.main
    if (address.kind !== 'ip') throw new Error('not an IP address')
    const options = { host: '127.0.0.1', port: address.port, rejectUnauthorized: false, servername: 'a.example' }
    const socket = connect({ ...options, ...(session && { session }) })
    socket.on('error', () => undefined)
    await within(once(socket, 'secureConnect'), 'a handshake')
    return new Client(socket)
  }

  get shown(): string | undefined {
    return this.socket.getPeerX509Certificate()?.subject
  }

  async ask(): Promise<string> {
    this.socket.write('GET / HTTP/1.1\r\nhost: a.example\r\n\r\n')
    let text = ''
    while (!text.endsWith('hello')) text += String((await within(once(this.socket, 'data'), 'an answer'))[0])
    return text
  }
}

async function counted(gateway: Gateway, name: string, value: number): Promise<void> {
  const now = (): number | undefined => new Map(gateway.stats().counters).get(`server.file_reload_${name}`)
  for (let i = 0; i < 2000 && now() !== value; i++) await settle(1)
  if (now() !== value) throw new Error(`${name} is ${now()}`)
}

for (const [dialect, configOf] of [
  ['native', native],
  ['Envoy', envoy],
] as const) {
  t.test(`${dialect}: certificates that are exchanged are used by new connections, and touch no other`, async (t) => {
    const dir = folder(t)
    const volume = new Volume(dir, old)
    const clock = new TestClock()
    const errors: string[] = []
    const log: Log = {
      debug() {},
      info() {},
      warn() {},
      error: (message, fields) => errors.push(`${message} ${JSON.stringify(fields)}`),
    }
    const gateway = createGateway(configOf(dir), { clock, log })
    await gateway.start()
    t.teardown(() => gateway.close({ drainMs: 0 }))
    const first = await Client.open(gateway)
    t.equal(first.shown, 'CN=old')
    const session = once(first.socket, 'session').then(([got]) => got as Buffer)
    t.match(await first.ask(), /^HTTP\/1\.1 200 /)
    volume.exchange(fresh)
    clock.advance(POLL_MS)
    await counted(gateway, 'success', 1)
    const second = await Client.open(gateway)
    t.equal(second.shown, 'CN=fresh')
    t.notMatch(await first.ask(), /connection: close/i, 'the first connection goes on')
    const again = await Client.open(gateway, await session)
    t.equal(again.socket.isSessionReused(), true, 'tickets are still good')
    t.notMatch(await again.ask(), /connection: close/i)
    // A key that belongs to another certificate.
    volume.exchange({ ...fresh, key: old.key })
    clock.advance(POLL_MS)
    await counted(gateway, 'rejected', 1)
    t.equal((await Client.open(gateway)).shown, 'CN=fresh')
    t.equal(errors.length, 1)
    t.match(errors[0], /private_?key: does not belong to the first certificate of the chain/i)
    // Nothing new is no news.
    await first.ask()
    clock.advance(POLL_MS)
    await first.ask()
    clock.advance(POLL_MS)
    await settle(20)
    await counted(gateway, 'rejected', 1)
    await first.ask()
    volume.exchange(old)
    clock.advance(POLL_MS)
    await counted(gateway, 'success', 2)
    t.equal((await Client.open(gateway)).shown, 'CN=old')
    t.notMatch(await first.ask(), /connection: close/i, 'and on')
    for (const client of [first, second, again]) client.socket.destroy()
    await gateway.close({ drainMs: 0 })
    t.equal(clock.pending, 0, 'no timer is left')
  })
}

t.test(
  'a file that appears, changes or goes is noticed; one that is touched too late is looked at again',
  async (t) => {
    const dir = folder(t)
    const clock = new TestClock()
    let changes = 0
    const watch = new FileWatch({ clock, changed: () => changes++ })
    t.teardown(() => watch.close())
    const files = new FileRecorder()
    const path = join(dir, 'file')
    t.throws(() => files.readFile(path), { code: 'ENOENT' })
    watch.update(files)
    clock.advance(POLL_MS)
    t.equal(changes, 0)
    const steps: readonly (() => void)[] = [
      () => writeFileSync(path, 'a'),
      () => writeFileSync(path, 'b'),
      () => utimesSync(path, 1, 1),
      () => {
        writeFileSync(`${path}.new`, 'b')
        renameSync(`${path}.new`, path)
      },
      () => rmSync(path),
    ]
    for (const [i, step] of steps.entries()) {
      step()
      clock.advance(POLL_MS)
      t.equal(changes, i + 1)
      clock.advance(POLL_MS)
      t.equal(changes, i + 1, 'once')
    }
    // What changes between reading and watching is told soon.
    writeFileSync(path, 'c')
    const later = new FileRecorder()
    later.readFile(path)
    writeFileSync(path, 'cc')
    watch.update(later)
    clock.advance(1000)
    t.equal(changes, steps.length + 1)
    watch.close()
    t.equal(clock.pending, 0)
  },
)

t.test('a directory announces what happens to files in it and behind its links', async (t) => {
  const dir = folder(t)
  const elsewhere = folder(t)
  const volume = new Volume(dir, old)
  const clock = new TestClock()
  const changed: (() => void)[] = []
  let changes = 0
  const watch = new FileWatch({
    clock,
    changed: () => {
      changes++
      changed.shift()?.()
    },
  })
  t.teardown(() => watch.close())
  const files = new FileRecorder()
  files.readFile(join(dir, 'tls.crt'))
  files.watchDirectory(elsewhere)
  watch.update(files)
  const next = async (step: () => void): Promise<void> => {
    const told = new Promise<void>((resolve) => changed.push(resolve))
    step()
    // The event comes when the system sends it; the clock is pushed until then, never as far as the poll.
    for (let i = 0, seen = changes; changes === seen && i < 5000; i++) {
      await settle(1)
      if (clock.pending > 1) clock.advance(250)
    }
    await within(told, 'the news')
  }
  await next(() => volume.exchange(fresh))
  await next(() => volume.exchange(old))
  t.equal(changes, 2)
})

t.test('a directory that is removed and made anew is watched again', async (t) => {
  const dir = join(folder(t), 'certs')
  const path = join(dir, 'file')
  mkdirSync(dir)
  writeFileSync(path, 'a')
  const clock = new TestClock()
  let changes = 0
  const watch = new FileWatch({ clock, changed: () => changes++ })
  t.teardown(() => watch.close())
  const files = new FileRecorder()
  files.readFile(path)
  watch.update(files)
  // As far as half a second, never as far as the poll; a change is announced by the system when it likes.
  const noticed = async (step: () => void): Promise<boolean> => {
    const before = changes
    step()
    for (let i = 0; changes === before && i < 400; i++) {
      await settle(1)
      if (clock.pending > 1) clock.advance(250)
    }
    return changes > before
  }
  t.ok(await noticed(() => rmSync(dir, { recursive: true })))
  mkdirSync(dir)
  writeFileSync(path, 'b')
  clock.advance(POLL_MS)
  t.equal(changes, 2, 'the poll finds it')
  t.ok(await noticed(() => writeFileSync(path, 'cc')), 'and from then on the directory tells')
  const anew = (): void => {
    rmSync(dir, { recursive: true })
    mkdirSync(dir)
    writeFileSync(path, 'd')
  }
  t.ok(await noticed(anew))
  t.ok(await noticed(() => writeFileSync(path, 'ee')), 'also where it was never seen to be missing')
})

t.test('a link to a directory that comes to lead elsewhere is noticed', async (t) => {
  const dir = folder(t)
  for (const name of ['one', 'two']) {
    mkdirSync(join(dir, name))
    writeFileSync(join(dir, name, 'file'), name)
  }
  const link = join(folder(t), 'current')
  symlinkSync(join(dir, 'one'), link)
  const clock = new TestClock()
  let changes = 0
  const watch = new FileWatch({ clock, changed: () => changes++ })
  t.teardown(() => watch.close())
  const files = new FileRecorder()
  files.readFile(join(link, 'file'))
  watch.update(files)
  for (const name of ['two', 'one']) {
    const before = changes
    symlinkSync(join(dir, name), `${link}.new`)
    renameSync(`${link}.new`, link)
    for (let i = 0; changes === before && i < 400; i++) {
      await settle(1)
      if (clock.pending > 1) clock.advance(250)
    }
    t.equal(changes, before + 1)
  }
})
