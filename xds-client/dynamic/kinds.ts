import type { ResourceType } from '../envoy/translated.ts'

/** Kinds of resources in the graph. The plural ones are collections, whose members are of the kind before them. */
export type Kind =
  | 'runtime'
  | 'secret'
  | 'endpoint'
  | 'endpoints'
  | 'virtual-host'
  | 'virtual-hosts'
  | 'extension'
  | 'assignment'
  | 'cluster'
  | 'routes'
  | 'scope'
  | 'scopes'
  | 'listener'

/** What is particular about one kind. */
export interface KindFacts {
  readonly kind: Kind
  /** Without `type.googleapis.com/`. */
  readonly typeName: ResourceType
  /** Resources need those of lower levels only: a step is worked out from the lowest up. */
  readonly level: number
  /** As admin and logs call it. */
  readonly label: string
  /** Short name of the discovery service, in statistics. */
  readonly service: string
  /** Whoever needs one has a copy of it in its own published form, not its name alone. */
  readonly inline: boolean
  /** A server that takes one away is obeyed. Of the others the last good one stays for as long as somebody needs it, as in Envoy. */
  readonly removable: boolean
  /** A collection of these. */
  readonly members?: Kind
}

const LISTENER = 'envoy.config.listener.v3.Listener'
const CLUSTER = 'envoy.config.cluster.v3.Cluster'
const ASSIGNMENT = 'envoy.config.endpoint.v3.ClusterLoadAssignment'
const ENDPOINT = 'envoy.config.endpoint.v3.LbEndpoint'
const ROUTES = 'envoy.config.route.v3.RouteConfiguration'
const SCOPE = 'envoy.config.route.v3.ScopedRouteConfiguration'
const VIRTUAL_HOST = 'envoy.config.route.v3.VirtualHost'
const SECRET = 'envoy.extensions.transport_sockets.tls.v3.Secret'
const EXTENSION = 'envoy.config.core.v3.TypedExtensionConfig'
const RUNTIME = 'envoy.service.runtime.v3.Runtime'

type Row = readonly [
  kind: Kind,
  typeName: ResourceType,
  level: number,
  label: string,
  service: string,
  traits: string,
  members?: Kind,
]

const ROWS: readonly Row[] = [
  ['runtime', RUNTIME, 0, 'runtime layer', 'rtds', 'removable'],
  ['secret', SECRET, 0, 'secret', 'sds', 'inline'],
  ['endpoint', ENDPOINT, 0, 'endpoint', 'leds', 'inline removable'],
  ['endpoints', ENDPOINT, 1, 'endpoints', 'leds', 'inline', 'endpoint'],
  ['virtual-host', VIRTUAL_HOST, 0, 'virtual host', 'vhds', 'inline removable'],
  ['virtual-hosts', VIRTUAL_HOST, 1, 'virtual hosts', 'vhds', 'inline', 'virtual-host'],
  ['extension', EXTENSION, 1, 'extension', 'ecds', 'inline removable'],
  ['assignment', ASSIGNMENT, 2, 'assignment', 'eds', ''],
  ['cluster', CLUSTER, 3, 'cluster', 'cds', 'removable'],
  ['routes', ROUTES, 4, 'route table', 'rds', ''],
  ['scope', SCOPE, 5, 'scope', 'srds', 'inline removable'],
  ['scopes', SCOPE, 6, 'scopes', 'srds', 'inline', 'scope'],
  ['listener', LISTENER, 7, 'listener', 'lds', 'removable'],
]

/** Everything about each kind. */
export const KINDS: ReadonlyMap<Kind, KindFacts> = new Map(
  ROWS.map(([kind, typeName, level, label, service, traits, members]): [Kind, KindFacts] => [
    kind,
    {
      kind,
      typeName,
      level,
      label,
      service,
      inline: traits.includes('inline'),
      removable: traits.includes('removable'),
      ...(members && { members }),
    },
  ]),
)

/** Levels are 0 to this. */
export const TOP_LEVEL = 7

/** @throws where the kind does not exist, which is a mistake of ours. */
export function factsOf(kind: Kind): KindFacts {
  const facts = KINDS.get(kind)
  if (facts === undefined) throw new Error(`no kind "${kind}"`)
  return facts
}
