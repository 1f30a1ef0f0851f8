import t from 'tap'
import { createFilterRegistry } from '../../lib/chain/registry.ts'
import { readNativeConfig } from '../../lib/config/native/read.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import type { RouteActionConfig } from '../../lib/router/config.ts'
import { routerFactory } from '../../lib/router/router.ts'
import { managerOf, tableOf } from '../support/chains.ts'

/** `followRedirects` of the native configuration. */

const registry = createFilterRegistry([routerFactory])

function config(followRedirects: unknown): object {
  const route = { match: {}, action: { kind: 'route', cluster: 'web', followRedirects } }
  return {
    listeners: [{ name: 'main', address: '127.0.0.1:0', http: { routes: [route] } }],
    clusters: [{ name: 'web', endpoints: ['127.0.0.1:1'] }],
  }
}

function read(followRedirects: unknown): RouteActionConfig['internalRedirect'] {
  const [listener] = readNativeConfig(config(followRedirects), { registry }).listeners
  const [route] = tableOf(managerOf(listener)).virtualHosts[0].routes
  return (route.action as RouteActionConfig).internalRedirect
}

t.test('redirects are the client’s unless it is said otherwise', async (t) => {
  t.equal(read(undefined), undefined)
  t.equal(read(false), undefined)
  t.strictSame(read(true), { max: 1, statuses: [302], crossScheme: false, headersToCopy: [], predicates: [] })
})

t.test('what is said takes the place of defaults', async (t) => {
  t.strictSame(
    read({
      max: 3,
      statuses: [301, 308],
      crossScheme: 'safe',
      headersToCopy: ['X-Token'],
      routes: ['api', ''],
      newRoutesOnly: true,
      filterState: { key: 'gate' },
    }),
    {
      max: 3,
      statuses: [301, 308],
      crossScheme: true,
      headersToCopy: ['x-token'],
      predicates: [
        { kind: 'previous-routes' },
        { kind: 'safe-cross-scheme' },
        { kind: 'allow-listed-routes', routes: ['api', ''] },
        { kind: 'filter-state', key: 'gate', ifAbsent: false },
      ],
    },
  )
})

t.test('mistakes are told with their place', async (t) => {
  const mistakes = (value: unknown): string => {
    try {
      read(value)
      return 'accepted'
    } catch (error) {
      if (!(error instanceof ConfigRefused)) throw error
      return error.errors.map(String).join('; ')
    }
  }
  const at = /listeners\[0\]\.http\.routes\[0\]\.action\.followRedirects/
  for (const [value, why] of [
    ['yes', /true, false or an object/],
    [{ max: -1 }, /max/],
    [{ statuses: [200] }, /statuses\[0\]/],
    [{ statuses: [] }, /statuses/],
    [{ crossScheme: 'no' }, /crossScheme/],
    [{ headersToCopy: ['Host'] }, /headersToCopy: must not name the host/],
    [{ newRouteOnly: true }, /newRouteOnly/],
  ] as const) {
    const said = mistakes(value)
    t.match(said, at)
    t.match(said, why)
  }
})
