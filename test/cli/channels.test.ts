import t from 'tap'
import { Channels } from '../../lib/cli/xds/channels.ts'
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
