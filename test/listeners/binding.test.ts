import t from 'tap'
import type { ListenerConfig } from '../../lib/config/listener.ts'
import { systemClock } from '../../lib/core/clock.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import type { Binder } from '../../lib/runtime/engine.ts'
import { listenOptions } from '../../lib/runtime/local-binder.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import type { CompiledListener } from '../../listeners/compile.ts'
import { ConnectionBudget } from '../../listeners/limits.ts'
import { Listener } from '../../listeners/listener.ts'
import { socketPath } from '../support/socket-path.ts'

t.test('a socket whose mode cannot be set is closed, and let go of once', async (t) => {
  // The file is not where the mode is to be applied.
  const address = { kind: 'pipe', path: socketPath(t, 'missing.sock'), mode: 0o600 } as const
  let bound = 0
  let released = 0
  const binder = {
    bind: () => Promise.resolve({ host: '127.0.0.1', port: 0, count: ++bound }),
    release: () => void released++,
  }
  const config = {
    name: 'main',
    statPrefix: 'main',
    addresses: [address],
    backlog: 5,
  } as unknown as ListenerConfig
  const deps = {
    binder,
    metrics: new MetricsStore(),
    nextConnectionId: () => 1,
    wheel: new TimerWheel(systemClock),
    log: { debug() {}, info() {}, warn() {}, error() {} },
    budget: new ConnectionBudget(),
  }
  const compiled = { config, chains: [] } as unknown as CompiledListener
  const listener = new Listener(compiled, deps)
  await t.rejects(listener.open(), ConfigRefused)
  t.equal(bound, 1)
  t.equal(released, 1)
  listener.close()
  t.equal(released, 1)
  t.same(listener.status().addresses, [])
})

t.test('a socket that cannot be had again keeps no other one of its listener waiting', async (t) => {
  const addresses = [1, 2].map((port) => ({ kind: 'ip', host: '127.0.0.1', port }) as const)
  const asked: number[] = []
  let lost = true
  const binder = {
    bind: () => Promise.resolve({ host: '127.0.0.1', port: 0 }),
    again: ({ port }: { readonly port?: number }) => {
      asked.push(port ?? 0)
      return lost && port === 1 ? Promise.reject(new Error('EBADF')) : Promise.resolve({ host: '127.0.0.1', port: 0 })
    },
    release() {},
  }
  const listener = new Listener(
    {
      config: { name: 'main', statPrefix: 'main', addresses, backlog: 5 },
      chains: [],
    } as unknown as CompiledListener,
    {
      binder: binder as Binder,
      metrics: new MetricsStore(),
      nextConnectionId: () => 1,
      wheel: new TimerWheel(systemClock),
      log: { debug() {}, info() {}, warn() {}, error() {} },
      budget: new ConnectionBudget(),
    },
  )
  t.teardown(() => listener.close())
  await listener.open()
  listener.stopAccepting()
  await t.rejects(listener.acceptAgain(), /EBADF/)
  t.same(asked, [1, 2])
  lost = false
  await listener.acceptAgain()
  t.same(asked, [1, 2, 1], 'the other one is there')
})

t.test('IPv6 sockets take IPv6 alone unless they are told to take IPv4 as well', async (t) => {
  const address = { kind: 'ip', host: '::', port: 80 } as const
  t.match(listenOptions(address, 1), { host: '::', ipv6Only: true })
  t.match(listenOptions({ ...address, dualStack: true }, 1), { host: '::', ipv6Only: false })
  t.match(listenOptions({ ...address, host: '0.0.0.0' }, 1), { ipv6Only: false })
})
