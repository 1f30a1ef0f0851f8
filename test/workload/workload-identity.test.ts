import { X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import type { MeshMaterial } from '../../lib/tls/mesh.ts'
import { createCertificate } from '../../lib/workload/istio-ca.ts'
import { createWorkloadIdentity, type WorkloadIdentityOptions } from '../../lib/workload/workload-identity.ts'
import { Authority } from '../support/certificates.ts'
import { TestClock } from '../support/clock.ts'
import { IstioCa } from '../support/istio-ca.ts'
import { until } from '../upstream/http2-lab.ts'

const DAY_MS = 86_400_000

interface Rig {
  readonly ca: IstioCa
  readonly clock: TestClock
  readonly options: WorkloadIdentityOptions
  readonly tokenFile: string
  readonly warnings: string[]
}

async function rig(t: Test): Promise<Rig> {
  const mesh = await Authority.create('CN=Mesh Root')
  const ca = await IstioCa.start(mesh, await mesh.issue({ dns: ['istiod.test'] }), 'secret')
  t.teardown(() => ca.close())
  const dir = t.testdir({ token: 'secret\n', 'root.pem': mesh.pem })
  const tokenFile = join(dir, 'token')
  const warnings: string[] = []
  const warn = (message: string, fields?: object): void => void warnings.push(`${message} ${JSON.stringify(fields)}`)
  const clock = new TestClock(1_000, Date.now())
  const options: WorkloadIdentityOptions = {
    caAddress: `127.0.0.1:${ca.port}`,
    caName: 'istiod.test',
    trustDomain: 'td.test',
    namespace: 'demo',
    serviceAccount: 'gateway',
    tokenFile,
    rootsFile: join(dir, 'root.pem'),
    clusterId: 'c1',
    clock,
    log: { debug() {}, info() {}, warn, error: warn },
  }
  return { ca, clock, options, tokenFile, warnings }
}

t.test('a certificate for a new key, with the identity that was asked for', async (t) => {
  const { ca, options } = await rig(t)
  await using workload = await createWorkloadIdentity(options)
  const { certificateChain, privateKey, trustedCa, renewAtMs } = workload.material
  const leaf = new X509Certificate(certificateChain)
  t.equal(leaf.subjectAltName, 'URI:spiffe://td.test/ns/demo/sa/gateway')
  t.match(trustedCa, /BEGIN CERTIFICATE/)
  t.match(privateKey, /BEGIN PRIVATE KEY/)
  const middle = (leaf.validFromDate.getTime() + leaf.validToDate.getTime()) / 2
  t.equal(renewAtMs, middle)
  const [asked] = ca.asked
  t.match(asked, { authorization: 'Bearer secret', clusterId: 'c1', subject: '', validityS: 86_400 })
  t.same(asked.names, [{ type: 'url', value: 'spiffe://td.test/ns/demo/sa/gateway' }])
})

t.test(
  'it is renewed at half of its life, with the token of the moment, and tried again where that fails',
  async (t) => {
    const { ca, clock, options, tokenFile, warnings } = await rig(t)
    await using workload = await createWorkloadIdentity(options)
    const renewed: MeshMaterial[] = []
    const forget = workload.onRenewed((next) => renewed.push(next))
    const first = workload.material
    clock.advance(30_000)
    t.equal(ca.asked.length, 1, 'it is not half through')
    writeFileSync(tokenFile, 'stolen')
    clock.setWall(first.renewAtMs + 1)
    clock.advance(30_000)
    await until(() => warnings.length === 1, 'a warning')
    t.match(warnings[0], /could not be renewed .*the CA answered 7: not you/)
    t.equal(workload.material, first, 'the old one stays in use')
    await until(() => clock.pending > 0, 'the next try')
    writeFileSync(tokenFile, 'secret')
    ca.behaviour.toDays = 60
    clock.advance(29_999)
    t.equal(ca.asked.length, 2)
    clock.advance(1)
    await until(() => renewed.length === 1, 'renewal')
    t.equal(workload.material, renewed[0])
    t.not(renewed[0].privateKey, first.privateKey, 'for a new key')
    forget()
    await until(() => clock.pending > 0, 'the next look')
    clock.setWall(workload.material.renewAtMs + DAY_MS)
    clock.advance(30_000)
    await until(() => ca.asked.length === 4, 'another renewal')
    t.equal(renewed.length, 1)
  },
)

t.test('an answer that is not what was asked for is refused, and without a certificate there is nothing', async (t) => {
  const { ca, options } = await rig(t)
  const refuses = async (behaviour: IstioCa['behaviour'], why: RegExp, more: object = {}): Promise<void> => {
    Object.assign(ca.behaviour, {
      refuse: false,
      otherIdentity: undefined,
      otherKey: false,
      withoutRoots: false,
      roots: undefined,
      fromDays: undefined,
      toDays: undefined,
      ...behaviour,
    })
    await t.rejects(createWorkloadIdentity({ ...options, ...more }), { message: why })
  }
  await refuses({ refuse: true }, /^the CA answered 7: not you$/)
  await refuses({ otherIdentity: 'spiffe://td.test/ns/demo/sa/admin' }, /is for "URI:.*admin", not for/)
  await refuses({ otherKey: true }, /is for another key/)
  await refuses({ withoutRoots: true }, /has 1 certificates/)
  await refuses({ fromDays: -9, toDays: -2 }, /has expired at/)
  await refuses({ fromDays: 1, toDays: 2 }, /is not valid before/)
  const stranger = await Authority.create('CN=Mesh Root')
  await refuses({ roots: stranger.pem }, /is of none of the authorities/)
  await refuses({ roots: `${stranger.pem}${(await stranger.issue({ dns: ['a'] })).chain}` }, /is of none of/)
  await refuses({ roots: (await stranger.issue({ dns: ['a'] })).chain }, /has no authority/)
  await refuses({ roots: 'nothing' }, /has no authority/)
  await refuses({ roots: stranger.pem.replace('MII', 'MIX') }, /./)
  await refuses({}, /the CA answered 14/, { caName: 'somebody.else' })
  await refuses({}, /caAddress must be host:port/, { caAddress: 'nowhere' })
  for (const caAddress of ['a:0', 'a:65536', 'a b:1:2', '']) {
    await refuses({}, /caAddress must be host:port/, { caAddress })
  }
  const dir = dirname(options.rootsFile)
  for (const [name, text] of Object.entries({ empty: '\n', torn: 'a\nb', 'no.pem': 'none' })) {
    writeFileSync(join(dir, name), text)
  }
  const asked = ca.asked.length
  await refuses({}, /empty holds no token/, { tokenFile: join(dir, 'empty') })
  await refuses({}, /torn holds no token/, { tokenFile: join(dir, 'torn') })
  await refuses({}, /no\.pem holds no PEM certificate/, { rootsFile: join(dir, 'no.pem') })
  await refuses({}, /empty holds no PEM certificate/, { rootsFile: join(dir, 'empty') })
  await refuses({}, /is no SPIFFE ID/, { trustDomain: 'A' })
  await refuses({}, /is no SPIFFE ID/, { namespace: '../x' })
  await refuses({}, /is no SPIFFE ID/, { serviceAccount: '' })
  t.equal(ca.asked.length, asked, 'the CA was asked for none of these')
  await refuses({}, /ENOENT/, { tokenFile: '/nonexistent/token' })
  await refuses({}, /ENOENT/, { rootsFile: '/nonexistent/root' })
})

t.test('an authority that has expired is refused, also while certificates of it have not', async (t) => {
  const { ca, options, clock } = await rig(t)
  // Authorities of these tests live for 30 days.
  ca.behaviour.toDays = 60
  clock.setWall(Date.now() + 40 * DAY_MS)
  await t.rejects(createWorkloadIdentity(options), { message: 'the authorities of the answer have expired' })
})

t.test('a CA that is gone: the certificate stays in use, and it is asked for again every 30 s', async (t) => {
  const { ca, clock, options, warnings } = await rig(t)
  await using workload = await createWorkloadIdentity(options)
  const first = workload.material
  const told: string[] = []
  workload.onRenewed(() => {
    told.push('one')
    throw new Error('not today')
  })
  workload.onRenewed(() => void told.push('other'))
  ca.close()
  clock.setWall(first.renewAtMs)
  for (let i = 1; i <= 3; i++) {
    clock.advance(30_000)
    await until(() => warnings.length === i && clock.pending > 0, 'a warning')
    t.equal(workload.material, first)
  }
  t.match(warnings[2], /could not be renewed .*the CA answered 14/)
  const again = await IstioCa.start(ca.authority, ca.own, 'secret', ca.port)
  t.teardown(() => again.close())
  clock.advance(30_000)
  await until(() => told.length === 2, 'renewal')
  t.same(told, ['one', 'other'], 'one that fails keeps none from it')
  t.not(workload.material, first)
  t.match(warnings[3], /was not taken over .*not today/)
})

t.test('messages of the service survive what readers must skip, and are refused where they are cut', async (t) => {
  const bytes = createCertificate.encode({ csr: 'x', validityS: 300 })
  t.same([...bytes], [0x0a, 1, 120, 0x18, 0xac, 2])
  t.same(createCertificate.decode(Buffer.from([0x0a, 1, 97, 0x78, 1, 0x0a, 1, 98])), { chain: ['a', 'b'] })
  t.throws(() => createCertificate.decode(Buffer.from([0x0a, 5, 97])))
})
