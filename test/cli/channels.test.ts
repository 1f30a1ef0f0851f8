import { generateKeyPairSync, verify } from 'node:crypto'
import t from 'tap'
import { Channels } from '../../lib/cli/xds/channels.ts'
import { serviceAccountMetadata } from '../../lib/cli/xds/service-account.ts'
import type { UpstreamCluster } from '../../lib/upstream/cluster.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import { TestClock } from '../support/clock.ts'
import { Parts, removing, setting } from '../support/live-gateway.ts'

const log = { debug() {}, info() {}, warn() {}, error() {} }
const parts = new Parts()

t.test('connections to control planes are looked after, and outlive what changes nothing', async (t) => {
  using channels = new Channels({ clock: new TestClock(), log, random: () => 0 })
  const config = (name: string): ClusterConfig | undefined =>
    (channels.cluster(name) as UpstreamCluster | undefined)?.config
  channels.follow({ clusters: setting(parts.cluster('xds'), parts.cluster('other')) })
  const first = channels.cluster('xds')
  t.ok((config('xds')?.http2.keepalive?.intervalMs ?? 0) > 0)
  t.ok(config('xds')?.keepalive)
  channels.follow({ clusters: setting(parts.cluster('xds')) })
  t.equal(channels.cluster('xds'), first)
  const keepalive = { idleS: 1, intervalS: 2, probes: 3 }
  channels.follow({ clusters: setting(parts.cluster('xds', { keepalive })) })
  t.strictSame(config('xds')?.keepalive, keepalive, 'what the cluster has of its own stays')
  t.ok(config('xds')?.http2.keepalive)
  channels.follow({ clusters: removing('xds') })
  t.equal(channels.cluster('xds'), undefined)
  t.strictSame(
    [...channels.published()].map(({ name }) => name),
    ['other'],
  )
})

t.test('a service account signs a token for its server', async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  })
  const target = { cluster: 'google_grpc:x#1', authority: 'x.example:443', initialMetadata: [] }
  t.same(serviceAccountMetadata(target, 0), [])
  const serviceAccount = { email: 'a@b.example', keyId: 'k1', privateKey, lifetimeS: 60 }
  const nowMs = 1_700_000_000_000
  const [name, value] = serviceAccountMetadata({ ...target, serviceAccount }, nowMs)
  t.equal(name, 'authorization')
  const [head, claims, signature] = value.replace('Bearer ', '').split('.')
  const decode = (text: string): unknown => JSON.parse(String(Buffer.from(text, 'base64url')))
  t.strictSame(decode(head), { alg: 'RS256', typ: 'JWT', kid: 'k1' })
  const [iss, iat] = ['a@b.example', nowMs / 1000 - 30]
  t.strictSame(decode(claims), { iss, sub: iss, aud: 'https://x.example/', iat, exp: iat + 60 })
  t.ok(verify('RSA-SHA256', Buffer.from(`${head}.${claims}`), publicKey, Buffer.from(signature, 'base64url')))
})
