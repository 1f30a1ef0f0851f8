import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { parseConfigText } from '../../lib/config/parse.ts'
import { ConfigRefused, type Json } from '../../lib/core/errors.ts'
import { type EnvoyLoadContext, loadBootstrap, readBootstrap } from '../../xds-client/envoy/load.ts'
import { LOAD_CONTEXT } from './load-context.ts'

/*
 * Bootstraps with parts that somebody delivers: `bootstraps/NAME.yaml` with what `readBootstrap` makes of it in `NAME.json`.
 * They have the shape of what control planes write, in words of our own.
 */

const FIXTURES = new URL('../fixtures/envoy/bootstraps/', import.meta.url)
const UPDATE = process.env.UPDATE_GOLDENS === '1'

const context: EnvoyLoadContext = {
  ...LOAD_CONTEXT,
  readFile: (path) => Buffer.from(`content of ${path}`),
}

function read(name: string): ReturnType<typeof readBootstrap> {
  return readBootstrap(
    parseConfigText(readFileSync(new URL(`${name}.yaml`, FIXTURES), 'utf8'), `${name}.yaml`),
    context,
  )
}

/** What a bootstrap becomes; of what it is in static ones only the parts that differ. */
function digestOf(name: string): Json {
  const { config, dynamic, references, secrets, channelClusters } = read(name)
  const { source: _, listeners, clusters, ...rest } = config
  return JSON.parse(
    JSON.stringify({
      ...rest,
      listeners: listeners.map(({ name, filterChains, listenerFilters }) => ({
        name,
        listenerFilters,
        filterChains: filterChains.map(({ http, networkFilters, tls }) => ({
          networkFilters,
          ...(http && {
            routeTable: http.routeTable,
            scopedRoutes: http.scopedRoutes,
            inline: http.routes !== undefined,
            filters: http.filters,
          }),
          tls,
        })),
      })),
      clusters: clusters.map(({ name, statName, type, assignment, protocol, tls, credential, localities }) => ({
        name,
        statName,
        type,
        assignment,
        protocol,
        tls,
        credential,
        endpoints: localities.flatMap(({ endpoints }) => endpoints.map(({ address }) => address)),
      })),
      dynamic,
      references: Object.fromEntries(references),
      secrets: [...secrets.values()],
      channelClusters: channelClusters.map(({ name }) => name),
    }),
  )
}

t.test('bootstraps as control planes write them become static resources, sources and references', async (t) => {
  const names = readdirSync(FIXTURES).filter((name) => name.endsWith('.yaml'))
  t.ok(names.length > 8)
  for (const file of names) {
    const name = file.slice(0, -'.yaml'.length)
    const golden = new URL(`${name}.json`, FIXTURES)
    const actual = digestOf(name)
    if (UPDATE) writeFileSync(golden, `${JSON.stringify(actual, null, 2)}\n`)
    t.same(actual, existsSync(golden) ? JSON.parse(readFileSync(golden, 'utf8')) : '', name)
  }
})

t.test('a bootstrap that is not static is refused where it must be, and says so', async (t) => {
  const text = readFileSync(new URL('emissary.yaml', FIXTURES), 'utf8')
  t.throws(() => loadBootstrap(parseConfigText(text, 'x'), context), ConfigRefused)
})
