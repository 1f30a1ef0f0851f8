import t from 'tap'
import type { FilterFactory, HttpFilter, Scope, Terminal } from '../../lib/chain/filter.ts'
import { type ChainEntry, createFilterRegistry, type FilterRegistry } from '../../lib/chain/registry.ts'
import type { FilterOverrideConfig } from '../../lib/router/config.ts'
import { testScope } from '../support/chain-driver.ts'

interface Made extends HttpFilter<unknown> {
  readonly config: unknown
  readonly scope: Scope
}

interface Options {
  readonly name?: string
  readonly types?: readonly string[]
  readonly routeTypes?: readonly string[]
  readonly merge?: FilterFactory<unknown, unknown>['merge']
  readonly compiled?: unknown[]
}

function factory(options: Options = {}): FilterFactory<unknown, unknown> {
  return {
    name: options.name ?? 'x',
    typeUrls: options.types ?? ['t.X'],
    ...(options.routeTypes && { routeTypeUrls: options.routeTypes }),
    ...(options.merge && { merge: options.merge }),
    parse: () => ({}),
    compile(config, scope) {
      options.compiled?.push(config)
      return { config, scope } as Made
    },
  }
}

function entry(more: Partial<ChainEntry> = {}): ChainEntry {
  return { name: 'filter', typeUrl: 't.X', config: { own: 1 }, disabled: false, ...more }
}

function level(value: unknown, disabled?: boolean): FilterOverrideConfig {
  return { ...(disabled !== undefined && { disabled }), config: { typeUrl: 't.X', value: value as never } }
}

function configOf(
  registry: FilterRegistry,
  levels: readonly FilterOverrideConfig[],
  more: Partial<ChainEntry> = {},
): unknown {
  return (registry.compile(entry(more), levels, testScope()) as Made | undefined)?.config
}

t.test('factories are found by their types', async (t) => {
  const one = factory({ name: 'one', types: ['t.One', 't.OneOld'], routeTypes: ['t.OneRoute'] })
  const two = factory({ name: 'two', types: ['t.Two'] })
  const none = factory({ name: 'none', types: ['t.None'], routeTypes: [] })
  const registry = createFilterRegistry([one, two, none])
  t.equal(registry.byType.get('t.OneOld'), one)
  t.equal(registry.byRouteType.get('t.OneRoute'), one)
  t.equal(registry.byRouteType.get('t.Two'), two, 'its own type by default')
  t.same([...registry.byRouteType.keys()], ['t.OneRoute', 't.Two'])
  t.same(registry.factories, [one, two, none])
})

t.test('two factories of one name or one type are refused', async (t) => {
  const a = factory({ name: 'a', types: ['t.A'], routeTypes: ['t.R'] })
  t.throws(
    () => createFilterRegistry([a, factory({ name: 'a', types: ['t.B'] })]),
    /two filters have the name "a": "a" and "a"/,
  )
  t.throws(
    () => createFilterRegistry([a, factory({ name: 'b', types: ['t.A'] })]),
    /two filters have the configuration type "t\.A": "a" and "b"/,
  )
  t.throws(
    () => createFilterRegistry([a, factory({ name: 'b', types: ['t.B'], routeTypes: ['t.R'] })]),
    /two filters have the per-route configuration type "t\.R": "a" and "b"/,
  )
})

t.test('the most specific level that says on or off decides', async (t) => {
  const registry = createFilterRegistry([factory()])
  const on = { disabled: false }
  const off = { disabled: true }
  const says = (levels: readonly FilterOverrideConfig[], disabled: boolean): boolean =>
    configOf(registry, levels, { disabled }) !== undefined
  t.same(
    [
      says([], false),
      says([], true),
      says([off], false),
      says([on], true),
      says([on, off], true),
      says([off, on], true),
    ],
    [true, false, false, true, false, true],
  )
  t.ok(says([level({})], true), 'a configuration switches it on')
  t.notOk(says([level({}), off], false))
  t.ok(says([off, level({})], false))
  t.notOk(says([{}], true), 'a level without a word leaves it')
})

t.test('without a merge of its own the most specific configuration replaces', async (t) => {
  const registry = createFilterRegistry([factory()])
  t.same(configOf(registry, []), { own: 1 })
  t.same(configOf(registry, [level({ a: 1 }), level({ b: 2 })]), { b: 2 })
  t.same(configOf(registry, [level({ a: 1 }), { disabled: false }]), { a: 1 }, 'a mere switch replaces nothing')
})

t.test('settings of another filter leave the configuration as it is', async (t) => {
  const registry = createFilterRegistry([factory({ routeTypes: ['t.XRoute'] }), factory({ name: 'y', types: ['t.Y'] })])
  const of = (typeUrl: string): FilterOverrideConfig => ({ config: { typeUrl, value: { a: 1 } } })
  t.same(configOf(registry, [of('t.Y')]), { own: 1 })
  t.same(configOf(registry, [of('t.X')]), { own: 1 }, 'nor are they those of routes because the filter has that type')
  t.same(configOf(registry, [of('t.XRoute')]), { a: 1 })
  t.same(configOf(registry, [of('t.XRoute'), of('t.Y')]), { a: 1 })
})

t.test('merge gets the base and all levels, least specific first, and may switch the filter off', async (t) => {
  const merge = (base: unknown, levels: readonly unknown[]): unknown =>
    levels.includes('off') ? undefined : [base, ...levels]
  const registry = createFilterRegistry([factory({ merge })])
  t.same(configOf(registry, []), [{ own: 1 }])
  t.same(configOf(registry, [level('table'), { disabled: false }, level('route')]), [{ own: 1 }, 'table', 'route'])
  t.equal(configOf(registry, [level('off')]), undefined)
})

t.test('equal configurations of one scope share one object, other scopes have their own', async (t) => {
  const compiled: unknown[] = []
  const registry = createFilterRegistry([factory({ compiled })])
  const scope = testScope()
  const base = registry.compile(entry(), [], scope)
  for (let i = 0; i < 100; i++) t.equal(registry.compile(entry(), [{ disabled: false }], scope), base)
  const route = registry.compile(entry(), [level({ a: 1 })], scope)
  t.not(route, base)
  t.equal(registry.compile(entry(), [level({ z: 1 }), level({ a: 1 })], scope), route)
  t.equal(registry.compile(entry(), [level({ own: 1 })], scope), base, 'the same as its own')
  t.equal(compiled.length, 2)
  const elsewhere = registry.compile(entry(), [], testScope())
  t.not(elsewhere, base)
  t.equal((base as Made).scope, scope)
})

t.test('an instance is used as it is, and can only be switched', async (t) => {
  const registry = createFilterRegistry([])
  const instance: HttpFilter<unknown> = {}
  const own = entry({ instance, typeUrl: '' })
  t.equal(registry.compile(own, [], testScope()), instance)
  t.equal(registry.compile(own, [{ disabled: true }], testScope()), undefined)
  t.throws(
    () => registry.compile(own, [level({})], testScope()),
    /filter "filter" is an instance: it takes no per-route configuration/,
  )
})

t.test('a terminal factory gives the end of the chain', async (t) => {
  const terminal: Terminal = { begin: () => undefined }
  const registry = createFilterRegistry([{ ...factory(), terminal: true, compile: () => terminal }])
  t.equal(registry.compile(entry(), [], testScope()), terminal)
})

t.test('what cannot be compiled names its filter', async (t) => {
  const failing: FilterFactory<unknown, unknown> = {
    ...factory(),
    compile() {
      throw new Error('bad pattern')
    },
  }
  const registry = createFilterRegistry([failing])
  t.throws(() => registry.compile(entry(), [], testScope()), /^filter "filter": bad pattern$/)
  t.throws(
    () => registry.compile(entry({ typeUrl: 't.Y' }), [], testScope()),
    /^filter "filter": no filter has the type "t\.Y"$/,
  )
})
