import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { envoyContext } from '../../../lib/cli/load-config.ts'
import { standardFilters } from '../../../lib/cli/standard-filters.ts'
import { parseConfigText } from '../../../lib/config/parse.ts'
import { ConfigRefused, type Json, type JsonObject } from '../../../lib/core/errors.ts'
import { type EnvoyLoadContext, loadResourceLine, readBootstrap } from '../../../xds-client/envoy/load.ts'
import { RESOURCE_TYPES } from '../../../xds-client/envoy/resources.ts'
import { EDGES, POINTS } from './extensions.ts'
import { type Judgement, Prober } from './prober.ts'
import { Values } from './values.ts'

const FIXTURES = join(import.meta.dirname, '../../fixtures/capabilities')
const BOOTSTRAP = 'envoy.config.bootstrap.v3.Bootstrap'

/** Documents of their own. */
export const ROOTS: readonly string[] = [BOOTSTRAP, ...RESOURCE_TYPES]

interface Seeds {
  readonly seeds: Readonly<Record<string, JsonObject>>
  readonly values: Readonly<Record<string, Json>>
  readonly beside: Readonly<Record<string, JsonObject>>
  readonly content: Readonly<Record<string, string>>
  readonly elsewhere: readonly string[]
}

/** Filters that end their chain. */
const TERMINAL: ReadonlySet<string> = new Set([
  'envoy.extensions.filters.http.router.v3.Router',
  'envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec',
  'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
  'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',
  'envoy.extensions.filters.network.echo.v3.Echo',
  'envoy.extensions.filters.network.direct_response.v3.Config',
])

/** Probes everything, against the filters of the reference binary. */
export function probeAll(): Prober {
  const text = readFileSync(join(FIXTURES, 'seeds.yaml'), 'utf8')
  const seeds = parseConfigText(text, 'seeds.yaml').value as unknown as Seeds
  const context = probeContext()
  const { registry } = context
  const values = new Values(registry, { ...seeds, files: FILES })
  const prober = new Prober({
    registry,
    values,
    seed: (type, roots) => {
      const desc = registry.message(type)
      if (desc === undefined) return {}
      if (registry.shape(desc).kind === 'wrapper') return { value: 'probe' }
      return values.message(desc, { roots, edge: '', depth: 0 })
    },
    pointAt: (edge, by) => {
      const name = EDGES[`${by}>${edge}`] ?? EDGES[edge]
      return name === undefined ? undefined : { name, types: POINTS[name] }
    },
    apart: new Set([...ROOTS, 'udpa.type.v1.TypedStruct']),
    beside: seeds.beside,
    elsewhere: new Set(seeds.elsewhere),
    terminal: TERMINAL,
  })
  for (const type of RESOURCE_TYPES) {
    const judge = (document: JsonObject): Judgement =>
      loadResourceLine(JSON.stringify({ '@type': `type.googleapis.com/${type}`, ...document }), context)
    prober.run({ type, document: values.message(registry.expect(type)), judge })
  }
  const judge = (document: JsonObject): Judgement => judgeBootstrap(document, context)
  prober.run({ type: BOOTSTRAP, document: values.message(registry.expect(BOOTSTRAP)), judge })
  prober.finish()
  return prober
}

function judgeBootstrap(document: JsonObject, context: EnvoyLoadContext): Judgement {
  try {
    const { config } = readBootstrap({ value: document, place: () => undefined }, context)
    return { errors: [], ignored: config.ignored }
  } catch (error) {
    if (!(error instanceof ConfigRefused)) throw error
    return { errors: error.errors, ignored: [] }
  }
}

/** Material for data sources: text by the name of its file. */
const FILES: ReadonlyMap<string, Buffer> = new Map(
  readdirSync(FIXTURES).map((name) => [`/probe/${name}`, readFileSync(join(FIXTURES, name))]),
)

function probeContext(): EnvoyLoadContext {
  const context = envoyContext(standardFilters())
  return {
    ...context,
    checks: { ...context.checks, tls: remembered(context.checks.tls) },
    readFile: (path) => {
      const bytes = FILES.get(path)
      if (bytes === undefined) throw new Error(`${path} is not there`)
      return bytes
    },
    environment: (name) => FILES.get(`/probe/${name}`)?.toString('utf8'),
  }
}

/** Most probes leave the TLS contexts as they are, and each costs a few milliseconds to check. */
function remembered(check: EnvoyLoadContext['checks']['tls']): EnvoyLoadContext['checks']['tls'] {
  const known = new Map<string, ReturnType<typeof check>>()
  return (config) => {
    const key = JSON.stringify(config)
    const found = known.get(key) ?? check(config)
    known.set(key, found)
    return found
  }
}
