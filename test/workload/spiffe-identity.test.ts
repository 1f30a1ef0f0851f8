import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Metadata, Server, ServerCredentials, type ServerWritableStream, status } from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { readKept, writeCertificate } from '../../lib/workload/certificate-directory.ts'
import { createSpiffeIdentity, type SpiffeIdentityOptions } from '../../lib/workload/spiffe-identity.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { TestClock } from '../support/clock.ts'
import { until } from '../upstream/http2-lab.ts'

type Stream = ServerWritableStream<Buffer, Buffer>

/** A SPIFFE agent on @grpc/grpc-js: `FetchX509SVID` on a Unix socket. */
class Agent {
  readonly streams: Stream[] = []
  readonly asked: Metadata[] = []
  /** Refuses with it. */
  refuse: number | undefined = undefined
  first: Buffer | undefined = undefined
  readonly #server = new Server()

  static async start(path: string): Promise<Agent> {
    const agent = new Agent()
    const same = (bytes: Buffer): Buffer => bytes
    agent.#server.addService(
      {
        fetch: {
          path: '/SpiffeWorkloadAPI/FetchX509SVID',
          requestStream: false,
          responseStream: true,
          requestSerialize: same,
          requestDeserialize: same,
          responseSerialize: same,
          responseDeserialize: same,
        },
      },
      { fetch: (stream: Stream) => agent.#answer(stream) },
    )
    await new Promise<void>((resolve, reject) =>
      agent.#server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      ),
    )
    return agent
  }

  #answer(stream: Stream): void {
    this.asked.push(stream.metadata)
    if (this.refuse !== undefined || stream.metadata.get('workload.spiffe.io')[0] !== 'true') {
      stream.emit('error', { code: this.refuse ?? status.INVALID_ARGUMENT, details: 'no identity issued' })
      return
    }
    this.streams.push(stream)
    if (this.first !== undefined) stream.write(this.first)
  }

  close(): void {
    this.#server.forceShutdown()
  }
}

/** Length-delimited fields, by hand. */
function message(...fields: readonly (readonly [number: number, value: Buffer | string])[]): Buffer {
  const varint = (value: number): number[] => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)])
  return Buffer.concat(
    fields.flatMap(([number, value]) => {
      const bytes = Buffer.from(value)
      return [Buffer.from([(number << 3) | 2, ...varint(bytes.length)]), bytes]
    }),
  )
}

const der = (pem: string): Buffer =>
  Buffer.concat(
    (pem.match(/-----BEGIN [^-]+-----[^-]+-----END/g) ?? []).map((block) =>
      Buffer.from(block.replace(/-----[^-]*-----|-----END/g, ''), 'base64'),
    ),
  )

function svid(id: string, issued: Issued, authority: Authority): Buffer {
  const parts = message([1, id], [2, der(issued.chain)], [3, der(issued.key)], [4, der(authority.pem)], [5, 'hint'])
  return message([1, parts])
}

interface Rig {
  readonly agent: Agent
  readonly mesh: Authority
  readonly clock: TestClock
  readonly warnings: string[]
  readonly options: SpiffeIdentityOptions
}

async function rig(t: Test): Promise<Rig> {
  const folder = mkdtempSync(join(tmpdir(), 'hg-spiffe-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'agent.sock')
  const agent = await Agent.start(path)
  t.teardown(() => agent.close())
  const warnings: string[] = []
  const warn = (text: string, fields?: object): void => void warnings.push(`${text} ${JSON.stringify(fields)}`)
  const clock = new TestClock(1_000, Date.now())
  const log = { debug() {}, info() {}, warn, error: warn }
  return {
    agent,
    mesh: await Authority.create('CN=Mesh Root'),
    clock,
    warnings,
    options: { endpoint: `unix://${path}`, clock, log },
  }
}

const ID = 'spiffe://td.test/web'

t.test('the agent hands over a certificate, and each new one', async (t) => {
  const { agent, mesh, options, warnings } = await rig(t)
  const between = await mesh.intermediate()
  const first = await between.issue({ uri: [ID] })
  agent.first = svid(ID, first, mesh)
  await using workload = await createSpiffeIdentity(options)
  t.equal(workload.identity, ID)
  const { material } = workload
  t.equal(
    new X509Certificate(material.certificateChain).fingerprint256,
    new X509Certificate(first.chain).fingerprint256,
  )
  t.equal(material.certificateChain.match(/BEGIN CERTIFICATE/g)?.length, 2, 'with what stands between')
  t.equal(material.trustedCa, mesh.pem)
  const renewed: unknown[] = []
  workload.onRenewed((next) => {
    renewed.push(next)
  })
  agent.streams[0].write(svid(ID, await mesh.issue({ uri: [ID] }), mesh))
  await until(() => renewed.length === 1, 'the next one')
  t.equal(workload.material, renewed[0])
  const stranger = await Authority.create('CN=Stranger')
  agent.streams[0].write(svid(ID, await stranger.issue({ uri: [ID] }), mesh))
  agent.streams[0].write(svid(ID, await mesh.issue({ uri: ['spiffe://td.test/other'] }), mesh))
  agent.streams[0].write(Buffer.alloc(0))
  await until(() => warnings.length === 3, 'complaints')
  t.match(warnings, [/is of none of the authorities/, /is for .*td.test\/other/, /has no certificate/])
  t.equal(workload.material, renewed[0], 'the good one stays')
})

t.test('an agent that goes away is asked again, and the certificate stays', async (t) => {
  const { agent, mesh, clock, options, warnings } = await rig(t)
  agent.first = svid(ID, await mesh.issue({ uri: [ID] }), mesh)
  await using workload = await createSpiffeIdentity(options)
  const { material } = workload
  agent.streams[0].end()
  await until(() => warnings.length === 1, 'a warning')
  t.equal(workload.material, material)
  agent.first = svid(ID, await mesh.issue({ uri: [ID] }), mesh)
  clock.advance(999)
  t.equal(agent.asked.length, 1)
  clock.advance(1)
  await until(() => workload.material !== material, 'another')
  t.equal(agent.asked.length, 2)
})

t.test('one of several identities may be asked for by name, and none is an error in time', async (t) => {
  const { agent, mesh, clock, options } = await rig(t)
  const other = 'spiffe://td.test/admin'
  agent.first = Buffer.concat([
    svid(other, await mesh.issue({ uri: [other] }), mesh),
    svid(ID, await mesh.issue({ uri: [ID] }), mesh),
  ])
  await using workload = await createSpiffeIdentity({ ...options, id: ID })
  t.equal(workload.identity, ID)
  const never = createSpiffeIdentity({ ...options, id: 'spiffe://td.test/nobody' })
  await until(() => agent.asked.length === 2, 'the question')
  const refused = t.rejects(never, { message: 'the agent has no certificate for "spiffe://td.test/nobody"' })
  await until(() => agent.streams.length === 2, 'the answer')
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve))
  clock.advance(30_000)
  await refused
  agent.refuse = status.PERMISSION_DENIED
  const denied = createSpiffeIdentity({ ...options, startTimeoutMs: 500 })
  const why = t.rejects(denied, { message: 'the agent answered 7: no identity issued' })
  await until(() => agent.asked.length === 3, 'the question')
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve))
  clock.advance(500)
  await why
  for (const endpoint of [
    '/run/agent.sock',
    'http://127.0.0.1:1',
    'tcp://agent.example:8000',
    'unix:///a?x',
    'tcp://1.2.3.4:0',
  ]) {
    await t.rejects(createSpiffeIdentity({ ...options, endpoint }), { message: /a SPIFFE endpoint is like/ })
  }
})

t.test('a directory holds one certificate at a time, whole, and nobody else may read it', async (t) => {
  const directory = join(t.testdir(), 'certs')
  const mesh = await Authority.create('CN=Mesh Root')
  const issue = async (): Promise<{ certificateChain: string; privateKey: string; trustedCa: string }> => {
    const { chain, key } = await mesh.issue({ uri: [ID] })
    return { certificateChain: chain, privateKey: key, trustedCa: mesh.pem }
  }
  t.equal(readKept(directory, ID, Date.now()), undefined)
  for (let round = 0; round < 4; round++) {
    const material = await issue()
    await writeCertificate(directory, material)
    const read = (name: string): string => readFileSync(join(directory, name), 'utf8')
    t.same([read('cert-chain.pem'), read('key.pem'), read('root-cert.pem')], Object.values(material))
    t.match(readKept(directory, ID, Date.now()), material)
  }
  t.equal(readdirSync(directory).filter((name) => name.startsWith('..version-')).length, 2, 'old ones are taken away')
  t.equal(statSync(directory).mode & 0o777, 0o700)
  t.equal(statSync(join(directory, 'key.pem')).mode & 0o777, 0o600)
  t.equal(readKept(directory, 'spiffe://td.test/other', Date.now()), undefined)
  t.equal(readKept(directory, ID, Date.now() + 40 * 86_400_000), undefined, 'it has expired')
})
