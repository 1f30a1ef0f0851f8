import { type Address, formatAddress } from '../core/address.ts'
import type { ConfigError } from '../core/errors.ts'
import { checkAddress, checkCluster } from './checks/clusters.ts'
import { checkListener } from './checks/listeners.ts'
import { type CheckContext, type LayerFourFilter, type OriginFinder, Spot } from './checks/spot.ts'
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
  const context: CheckContext = {
    errors: [],
    origins: options.origins,
    clusters: new Set(config.clusters.map(({ name }) => name)),
    isTerminal: options.isTerminal,
    networkFilter: options.networkFilter ?? (() => undefined),
    listenerFilter: options.listenerFilter ?? (() => undefined),
  }
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
  return context.errors
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
