import { type Address, formatAddress } from '../core/address.ts'
import type { ConfigError } from '../core/errors.ts'
import type { RouteTableConfig } from '../router/config.ts'
import type { AssignmentConfig, ClusterConfig } from '../upstream/config.ts'
import type { SecretConfig } from './change.ts'
import { checkCircles } from './checks/cluster-types.ts'
import { checkAddress, checkAssignment, checkCluster } from './checks/clusters.ts'
import { checkListener } from './checks/listeners.ts'
import { checkRouteTable } from './checks/routes.ts'
import { type CheckContext, type LayerFourFilter, type OriginFinder, Spot } from './checks/spot.ts'
import type { ListenerConfig } from './listener.ts'
import type { GatewayConfig } from './model.ts'

export type { OriginFinder }

export interface ValidateOptions {
  /** Names the author's fields in messages; default: the paths of the IR. */
  readonly origins?: OriginFinder
  /** Whether a filter type ends a chain, as its factory says. */
  readonly isTerminal: (typeUrl: string) => boolean
  /** Network filters by the type of their configuration; default: there are none. */
  readonly networkFilter?: (typeUrl: string) => LayerFourFilter | undefined
  /** Listener filters likewise. */
  readonly listenerFilter?: (typeUrl: string) => unknown
}

/**
 * Checks a resolved configuration, whatever dialect it came from: names and addresses that must be unique, references to
 * clusters, filter chains that end, certificates and keys, and every text that is compiled later (regexes, formats, path
 * templates, header names, address ranges). What passes compiles.
 *
 * Values that their types or the dialect's own schema rule out are not looked for.
 *
 * @returns every mistake, in the order of the configuration; none: it can be used
 */
export function validateConfig(config: GatewayConfig, options: ValidateOptions): ConfigError[] {
  const context = contextOf(options, new Set(config.clusters.map(({ name }) => name)))
  const root = new Spot(context, '')
  const owners = new Map<string, string>()
  if (config.admin !== undefined) {
    const { address } = config.admin
    const at = root.field('admin', config.admin).field('address', address)
    checkAddress(address, at)
    claim(address, at, { owners, owner: 'the admin server' })
  }
  checkListeners(config.listeners, root, owners)
  const names = new Set<string>()
  root.each('clusters', config.clusters, (cluster, at) => {
    checkName(cluster.name, 'cluster', { spot: at, names })
    checkCluster(cluster, at)
  })
  checkCircles(config.clusters, root)
  checkNamed('routeTables', config.routeTables, root)
  checkNamed('assignments', config.assignments, root)
  checkNamed('secrets', config.secrets, root)
  return context.errors
}

/** One resource that stands by itself, as discovery services deliver it. */
export type OneResource =
  | { readonly kind: 'listeners'; readonly resource: ListenerConfig }
  | { readonly kind: 'clusters'; readonly resource: ClusterConfig }
  | { readonly kind: 'routeTables'; readonly resource: RouteTableConfig }
  | { readonly kind: 'assignments'; readonly resource: AssignmentConfig }
  | { readonly kind: 'secrets'; readonly resource: SecretConfig }

/**
 * The checks of `validateConfig` for one resource: what passes compiles. What it refers to is not looked for, unless the
 * clusters that there are (and will be) are given.
 *
 * @returns every mistake, by its path within the resource (or the author's, where `origins` knows it)
 */
export function validateResource(
  one: OneResource,
  options: ValidateOptions,
  clusters?: ReadonlySet<string>,
): ConfigError[] {
  const context = contextOf(options, clusters)
  const { resource } = one
  const spot = resourceSpot(context, resource)
  if (resource.name === '') spot.field('name').error('must not be empty')
  if (one.kind === 'listeners') {
    spot.each('addresses', one.resource.addresses, checkAddress)
    checkListener(one.resource, spot)
  } else if (one.kind === 'clusters') checkCluster(one.resource, spot)
  else check(one, spot)
  return context.errors
}

function resourceSpot(context: CheckContext, resource: object): Spot {
  const origin = context.origins?.of(resource)
  return new Spot(context, origin?.path ?? '', origin?.whole)
}

function contextOf(options: ValidateOptions, clusters: ReadonlySet<string> | undefined): CheckContext {
  return {
    errors: [],
    origins: options.origins,
    clusters,
    isTerminal: options.isTerminal,
    networkFilter: options.networkFilter ?? (() => undefined),
    listenerFilter: options.listenerFilter ?? (() => undefined),
  }
}

type LateKind = 'routeTables' | 'assignments' | 'secrets'

function checkNamed<K extends LateKind>(kind: K, list: GatewayConfig[K], root: Spot): void {
  const names = new Set<string>()
  root.each<{ readonly name: string }>(kind, list, (resource, spot) => {
    checkName(resource.name, WORDS[kind], { spot, names })
    check({ kind, resource } as Extract<OneResource, { kind: LateKind }>, spot)
  })
}

const WORDS: Readonly<Record<LateKind, string>> = Object.freeze({
  routeTables: 'route table',
  assignments: 'assignment',
  secrets: 'secret',
})

function check(one: Extract<OneResource, { kind: LateKind }>, spot: Spot): void {
  // Which filters end a chain is for the connection managers to say that use the table.
  if (one.kind === 'routeTables') checkRouteTable(one.resource, spot, new Set())
  else if (one.kind === 'assignments') checkAssignment(one.resource, spot)
  else if (Buffer.from(one.resource.value, 'base64').toString('base64') !== one.resource.value) {
    spot.field('value').error('is not base64')
  }
}

function checkListeners(listeners: GatewayConfig['listeners'], root: Spot, owners: Map<string, string>): void {
  const names = new Set<string>()
  root.each('listeners', listeners, (listener, at) => {
    checkName(listener.name, 'listener', { spot: at, names })
    const addresses = at.field('addresses', listener.addresses)
    listener.addresses.forEach((address, i) => {
      const where = addresses.item(i, address)
      checkAddress(address, where)
      claim(address, where, { owners, owner: `listener "${listener.name}"` })
    })
    checkListener(listener, at)
  })
}

function checkName(
  name: string,
  what: string,
  { spot, names }: { readonly spot: Spot; readonly names: Set<string> },
): void {
  if (name === '') spot.field('name').error('must not be empty')
  else if (names.has(name)) spot.field('name').error(`a second ${what} "${name}"`)
  names.add(name)
}

/** Port 0 is a different port each time; every other address belongs to one. */
function claim(
  address: Address,
  spot: Spot,
  { owners, owner }: { readonly owners: Map<string, string>; readonly owner: string },
): void {
  if (address.kind === 'ip' && address.port === 0) return
  const text = formatAddress(address)
  const other = owners.get(text)
  if (other !== undefined) spot.error(`${text} is the address of ${other} already`)
  owners.set(text, owner)
}
