import t from 'tap'
import { createFilterRegistry } from '../../lib/chain/registry.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { NativeConfig } from '../../lib/config/native/config.ts'
import { readNativeConfig } from '../../lib/config/native/read.ts'
import { ACTIONS, SHED_POINTS, TIMEOUTS } from '../../lib/config/overload.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import { routerFactory } from '../../lib/router/router.ts'

/** The overload manager in native configurations. */

const registry = createFilterRegistry([routerFactory])

function read(overload?: unknown): GatewayConfig {
  return readNativeConfig({ listeners: [], ...(overload !== undefined && { overload }) }, { registry })
}

function mistakes(overload: unknown): string[] {
  try {
    read(overload)
    return []
  } catch (error) {
    if (!(error instanceof ConfigRefused)) throw error
    return error.errors.map(String)
  }
}

t.test('without a word it watches the memory of the container; false is none', async (t) => {
  const { overload } = read()
  t.same(overload?.monitors, [{ name: 'memory', kind: 'cgroup-memory' }])
  const stop = overload?.actions.find(({ name }) => name === 'envoy.overload_actions.stop_accepting_requests')
  t.same(stop?.triggers, [{ monitor: 'memory', from: 0.95, to: 0.95, release: 0.9 }])
  t.notOk('overload' in read(false))
  t.equal(JSON.stringify(read()), JSON.stringify(JSON.parse(JSON.stringify(read()))), 'it crosses to workers as it is')
})

t.test('everything has a name in it, and becomes what Envoy calls it', async (t) => {
  const all = (table: Readonly<Record<string, string>>, value: unknown): Record<string, unknown> =>
    Object.fromEntries(Object.values(table).map((lever) => [lever, value]))
  const triggers = [{ monitor: 'm', at: 0.5 }]
  const { overload } = read({
    monitors: { m: { kind: 'cpu' }, d: { kind: 'loop-delay' }, p: { kind: 'process-memory', limitBytes: 5 } },
    actions: all(ACTIONS, triggers),
    shed: all(SHED_POINTS, triggers),
    timeouts: all(TIMEOUTS, { ms: 10 }),
    shrink: { keepBytes: 1 },
  })
  const expected = [{ monitor: 'm', from: 0.5, to: 0.5 }]
  t.same(
    overload?.actions,
    Object.keys(ACTIONS).map((name) => ({ name, triggers: expected })),
  )
  t.same(
    overload?.shedPoints,
    Object.keys(SHED_POINTS).map((name) => ({ name, triggers: expected })),
  )
  t.same(
    overload?.timeouts,
    Object.keys(TIMEOUTS).map((timeout) => ({ timeout, minimum: { ms: 10 } })),
  )
  t.same(overload?.monitors, [
    { name: 'm', kind: 'cpu', of: 'host' },
    { name: 'd', kind: 'loop-delay', limitMs: 200 },
    { name: 'p', kind: 'process-memory', limitBytes: 5 },
  ])
  t.equal(overload?.refreshIntervalMs, 250)
  t.same(overload?.shrink, { intervalMs: 10_000, keepBytes: 1 })
})

t.test('mistakes name their field and value', async (t) => {
  const monitors = { m: { kind: 'cgroup-memory' } }
  const stop = (trigger: unknown): string[] => mistakes({ monitors, actions: { stopAcceptingRequests: [trigger] } })
  const at = 'overload.actions.stopAcceptingRequests[0]'
  t.same(stop({ monitor: 'n', at: 0.5 }), [`${at}.monitor: there is no monitor "n"`])
  t.same(stop({ monitor: 'm', from: 0.9, to: 0.8 }), [`${at}.from: must be less than \`to\`, which is 0.8, is 0.9`])
  t.same(stop({ monitor: 'm', at: 0.5, release: 0.6 }), [
    `${at}.release: must not be more than \`at\`, which is 0.5, is 0.6`,
  ])
  t.match(stop({ monitor: 'm', at: 2 }), [/\.at: /])
  t.match(stop({ monitor: 'm' }), [/\.at: is required/])
  t.match(mistakes({ monitors: { m: { kind: 'tide' } } }), [/overload\.monitors\.m\.kind: /])
  t.match(mistakes({ monitors, actions: { stopAccepting: [] } }), [/unknown field "stopAccepting"/])
  t.match(mistakes({ monitors, actions: { shrinkHeap: [] } }), [/overload\.actions\.shrinkHeap: /])
  t.match(mistakes({}), [/overload\.monitors: is required/])
  t.match(mistakes(true), [/overload: must be false or an object/])
  t.match(mistakes({ monitors, timeouts: { streamIdle: { share: 2 } } }), [/overload\.timeouts\.streamIdle\.share: /])
})

t.test('downstream connections are watched by a limit of their own, or by that of the gateway', async (t) => {
  const monitors = { cx: { kind: 'connections' } }
  const actions = { closeIdleConnections: [{ monitor: 'cx', from: 0.8, to: 0.9 }] }
  const whole = (more: object): GatewayConfig =>
    readNativeConfig({ listeners: [], overload: { monitors, actions }, ...more } as NativeConfig, { registry })
  t.same(whole({ maxConnections: 500 }).overload?.monitors, [{ name: 'cx', kind: 'connections', limit: 500 }])
  t.same(read({ monitors: { cx: { kind: 'connections', limit: 9 } }, actions }).overload?.monitors, [
    { name: 'cx', kind: 'connections', limit: 9 },
  ])
  t.same(whole({ maxConnections: 5 }).overload?.actions, [
    {
      name: 'envoy.overload_actions.close_idle_http_connections',
      triggers: [{ monitor: 'cx', from: 0.8, to: 0.9 }],
    },
  ])
  t.same(mistakes({ monitors, actions }), ['overload.monitors.cx: needs a `limit`, or `maxConnections` of the gateway'])
})

t.test('watchdogs: what is not said is as in Envoy, and there are none by default', async (t) => {
  const of = (watchdogs: unknown): GatewayConfig =>
    readNativeConfig({ listeners: [], watchdogs } as NativeConfig, { registry })
  t.same(of({ workers: { killMs: 2_000 } }).watchdogs, { workers: { missMs: 200, megaMissMs: 1_000, killMs: 2_000 } })
  t.same(of({ control: { missMs: 50 } }).watchdogs, { control: { missMs: 50, megaMissMs: 1_000 } })
  t.notOk('watchdogs' in read())
  t.throws(() => of({ workers: { killMs: 0 } }), /watchdogs\.workers\.killMs/)
  t.throws(() => of({ others: {} }), /watchdogs/)
})
