import type { JsonObject } from '../../lib/core/errors.ts'
import { type ControlPlane, XDS } from '../support/control-plane.ts'

/** Versions by name. */
export type Versions = Readonly<Record<string, string>>

/** Where `/config_dump` has the resources of a type, and where their names are. */
const PLACES: readonly {
  readonly type: string
  readonly list: string
  /** Beside `list`, on the way to the version. */
  readonly state?: string
  readonly name: (entry: JsonObject) => unknown
}[] = [
  { type: XDS.listener, list: 'dynamic_listeners', state: 'active_state', name: (entry) => entry.name },
  {
    type: XDS.cluster,
    list: 'dynamic_active_clusters',
    name: (entry) => (entry.cluster as JsonObject | undefined)?.name,
  },
  {
    type: XDS.routes,
    list: 'dynamic_route_configs',
    name: (entry) => (entry.route_config as JsonObject | undefined)?.name,
  },
  {
    type: XDS.endpoints,
    list: 'dynamic_endpoint_configs',
    name: (entry) => (entry.endpoint_config as JsonObject | undefined)?.cluster_name,
  },
  { type: XDS.secret, list: 'dynamic_active_secrets', name: (entry) => entry.name },
  { type: XDS.extension, list: 'ecds_filters', name: (entry) => (entry.ecds_filter as JsonObject | undefined)?.name },
]

/** What is active, by type, as `/config_dump?include_eds` has it. */
export function gatewayState({ configs }: { readonly configs: readonly JsonObject[] }): ReadonlyMap<string, Versions> {
  const found = new Map<string, Versions>()
  for (const { type, list, state, name } of PLACES) {
    const versions: Record<string, string> = {}
    for (const entry of configs.flatMap((config) => (config[list] as JsonObject[] | undefined) ?? [])) {
      const holder = state === undefined ? entry : (entry[state] as JsonObject | undefined)
      const called = name(entry)
      // What has been asked for and has not come is listed too.
      if (holder !== undefined && called !== undefined) versions[String(called)] = String(holder.version_info ?? '')
    }
    found.set(type, sorted(versions))
  }
  return found
}

/** The same as the control plane has it, of what the gateway asks for. */
export function planeState(plane: ControlPlane, delta: boolean): ReadonlyMap<string, Versions> {
  const found = new Map<string, Versions>()
  const clusters = new Set(plane.types.get(XDS.cluster)?.resources.keys())
  for (const { type } of PLACES) {
    const held = plane.types.get(type)
    const versions: Record<string, string> = {}
    for (const [name, { version }] of held?.resources ?? []) {
      if (type === XDS.endpoints && !clusters.has(name)) continue
      versions[name] = delta ? version : (held?.version ?? '')
    }
    found.set(type, sorted(versions))
  }
  return found
}

function sorted(versions: Record<string, string>): Versions {
  return Object.fromEntries(Object.entries(versions).sort(([a], [b]) => (a < b ? -1 : 1)))
}
