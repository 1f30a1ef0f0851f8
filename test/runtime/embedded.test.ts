import t from 'tap'
import type { GatewayConfig } from '../../lib/config/model.ts'
import { systemClock } from '../../lib/core/clock.ts'
import { EmbeddedPanel } from '../../lib/runtime/embedded.ts'
import type { Engine } from '../../lib/runtime/engine.ts'
import { configuration } from './fixtures/configuration.ts'

function panelOf(calls: unknown[]): EmbeddedPanel {
  const engine: Engine = {
    apply: async () => {},
    update: async () => {},
    drain: async (deadlineMs) => void calls.push(['drain', deadlineMs]),
    close: async () => {},
    status: () => ({ listeners: [], clusters: [] }),
    metrics: () => ({ counters: [['a', 1]], gauges: [], histograms: [] }),
    metricsChanges: () => t.fail('nobody asks for it') as never,
    setLogLevel: (level) => void calls.push(['level', level]),
    reopenLogs: () => void calls.push('reopen'),
  }
  return new EmbeddedPanel({
    engine,
    process,
    clock: { ...systemClock, now: () => 0, wall: () => 5000 },
    drainTimeMs: 7,
    quit: () => void calls.push('quit'),
  })
}

t.test('an embedded gateway goes from INITIALIZING to LIVE, and says no when told to', async (t) => {
  const calls: unknown[] = []
  const panel = panelOf(calls)
  t.equal(panel.state(), 'INITIALIZING')
  t.equal(panel.configuration(), undefined)
  const config = configuration({})
  panel.applied(config)
  t.equal(panel.state(), 'LIVE')
  t.strictSame(panel.configuration(), { config, updatedMs: 5000 })
  panel.setHealthy(false)
  t.equal(panel.state(), 'DRAINING')
  t.equal(panel.serving(), false)
  panel.setHealthy(true)
  t.equal(panel.serving(), true)
  panel.drainListeners()
  panel.drainListeners()
  t.equal(panel.state(), 'DRAINING')
  t.strictSame(calls, [['drain', 7]], 'drained once')
})

t.test('listeners that were drained on request do not come back; a stronger wish takes over', async (t) => {
  const calls: unknown[] = []
  const panel = panelOf(calls)
  const listeners = ['inbound', 'outbound', undefined].map((trafficDirection) => ({ trafficDirection }))
  const config = { ...configuration({}), listeners } as unknown as GatewayConfig
  const left = (): unknown[] => panel.without(config).listeners.map((listener) => listener.trafficDirection)
  panel.applied(config)
  t.equal(panel.without(config), config)
  panel.drainListeners({ inboundOnly: true, graceful: true, skipExit: false })
  t.equal(panel.state(), 'LIVE', 'other listeners go on')
  t.equal(left().length, 3, 'until the drain time is over')
  await new Promise(setImmediate)
  t.strictSame(left(), ['outbound', undefined])
  panel.drainListeners({ inboundOnly: true, graceful: true, skipExit: true })
  t.equal(calls.length, 1, 'nothing more than before')
  panel.drainListeners({ inboundOnly: false, graceful: true, skipExit: true })
  t.equal(panel.state(), 'DRAINING')
  await new Promise(setImmediate)
  t.equal(left().length, 3, 'told to go, not closed')
  panel.drainListeners()
  t.strictSame(left(), [])
  t.equal(calls.length, 3)
})

t.test('an embedded gateway passes on what admin asks for', async (t) => {
  const calls: unknown[] = []
  const panel = panelOf(calls)
  t.equal(panel.logLevel(), undefined)
  panel.setLogLevel('debug')
  t.equal(panel.logLevel(), 'debug')
  panel.reopenLogs()
  panel.quit()
  t.strictSame(calls, [['level', 'debug'], 'reopen', 'quit'])
  const stats = await panel.stats()
  const own = stats.counters.filter(([name]) => !/^(cluster|listener)_manager\./.test(name))
  t.strictSame(own, [
    ['a', 1],
    ['server.file_reload_rejected', 0],
    ['server.file_reload_success', 0],
    ['server.resources_revoked', 0],
  ])
  t.match(
    new Map(stats.gauges),
    new Map([
      ['server.concurrency', 1],
      ['server.live', 0],
      ['server.state', 3],
    ]),
  )
  t.strictSame(await panel.status(), { listeners: [], clusters: [] })
  t.ok((await panel.memory()).rss > 0)
  t.equal(panel.workers(), 1)
  panel.draining()
  t.equal(panel.state(), 'DRAINING')
})
