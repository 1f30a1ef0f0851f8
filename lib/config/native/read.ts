import { readFileSync } from 'node:fs'
import { createLowerFilters, type LowerFilters } from '../../chain/factories.ts'
import type { FilterRegistry } from '../../chain/registry.ts'
import { type ConfigError, ConfigRefused, Findings, type JsonObject } from '../../core/errors.ts'
import { indexPath } from '../../proto/path.ts'
import type { MeshMaterial } from '../../tls/mesh.ts'
import type { GatewayConfig, NodeConfig } from '../model.ts'
import { validateConfig } from '../validate.ts'
import type { NativeConfig } from './config.ts'
import { Origins } from './origins.ts'
import { readAddress } from './resolve/addresses.ts'
import { fullLocality, readCluster } from './resolve/clusters.ts'
import { readHboneServer } from './resolve/hbone.ts'
import { readListener } from './resolve/listeners.ts'
import { readOverload } from './resolve/overload.ts'
import type { Reading } from './resolve/reading.ts'
import { readWatchdogs } from './resolve/watchdogs.ts'
import { checkShape } from './shape.ts'

/** What reading needs to know of the gateway. */
export interface NativeReadOptions {
  /** The filters that may be named. */
  readonly registry: FilterRegistry
  /** Those below HTTP; default: none. */
  readonly filters?: LowerFilters
  /** Reads the files that a configuration names, of certificates for example. Default: those of the machine. */
  readonly readFile?: (path: string) => Buffer
  /** What `workload` stands for, where an identity is wanted. */
  readonly workload?: MeshMaterial
}

/**
 * Makes the IR of a native configuration: judges its shape, fills in defaults, reads filters by their own parsers and
 * checks what it all comes to. The result shares nothing with `config` but filter objects.
 *
 * @param config usually a `NativeConfig`; anything else is refused field by field
 * @throws ConfigRefused with every mistake. Where fields have the wrong shape, the rest is judged as if they were not set,
 *   as far as that still makes a configuration.
 */
export function readNativeConfig(config: unknown, options: NativeReadOptions): GatewayConfig {
  const shape = checkShape(config)
  const errors = [...shape.errors]
  let result: GatewayConfig | undefined
  if (shape.readable !== undefined) {
    const findings = new Findings()
    const { registry, filters = createLowerFilters([], []), readFile = readFileSync, workload } = options
    const reading: Reading = {
      findings,
      origins: new Origins(),
      registry,
      filters,
      readFile: (path) => readFile(path),
      ...(workload && { workload }),
    }
    result = { ...readConfig(shape.readable, reading), ignored: findings.ignored }
    const isTerminal = (typeUrl: string): boolean => registry.byType.get(typeUrl)?.terminal === true
    const checks = validateConfig(result, {
      origins: reading.origins,
      isTerminal,
      networkFilter: (typeUrl) => filters.network.byType.get(typeUrl),
      listenerFilter: (typeUrl) => filters.listener.byType.get(typeUrl),
    })
    errors.push(...withoutEchoes(findings.errors, shape.errors))
    errors.push(...withoutEchoes(checks, [...shape.errors, ...findings.errors]))
  }
  if (result === undefined || errors.length > 0) throw new ConfigRefused(errors)
  return result
}

function readConfig(config: NativeConfig, reading: Reading): GatewayConfig {
  const { admin, clusters = [], listeners, maxConnections, runtime = {} } = config
  const overload = readOverload(config.overload, 'overload', reading, maxConnections)
  const address = admin && readAddress(admin.address, 'admin.address', reading)
  const tunnels = (config.hbone ?? [])
    .map((server, i) => readHboneServer(server, indexPath('hbone', i), reading))
    .filter((parts) => parts !== undefined)
  // Servers that lead to one internal listener share the cluster.
  const within = new Map(tunnels.flatMap((parts) => parts.clusters.map((cluster) => [cluster.name, cluster])))
  return {
    node: readNode(config.node ?? {}),
    ...(address && { admin: { address } }),
    listeners: [
      ...listeners.map((listener, i) => readListener(listener, indexPath('listeners', i), reading)),
      ...tunnels.map((parts) => parts.listener),
    ],
    clusters: [
      ...clusters.map((cluster, i) => readCluster(cluster, indexPath('clusters', i), reading)),
      ...within.values(),
    ],
    ...(maxConnections !== undefined && { maxConnections }),
    ...(overload && { overload }),
    ...(config.watchdogs && { watchdogs: readWatchdogs(config.watchdogs) }),
    runtime: structuredClone(runtime) as JsonObject,
    ignored: [],
  }
}

function readNode({ id = '', cluster = '', locality, metadata }: NonNullable<NativeConfig['node']>): NodeConfig {
  return {
    id,
    cluster,
    ...(locality && { locality: fullLocality(locality) }),
    ...(metadata && { metadata: structuredClone(metadata) }),
  }
}

/** What is said about a field, or about what holds it, that has been refused already is no news. */
function withoutEchoes(errors: readonly ConfigError[], before: readonly ConfigError[]): ConfigError[] {
  const holds = (outer: string, inner: string): boolean =>
    outer === '' || inner === outer || inner.startsWith(`${outer}.`) || inner.startsWith(`${outer}[`)
  return errors.filter(({ path }) => !before.some((known) => holds(path, known.path) || holds(known.path, path)))
}
