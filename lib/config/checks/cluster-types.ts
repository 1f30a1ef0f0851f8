import type { ClusterConfig, DnsConfig } from '../../upstream/config.ts'
import { isHostName } from '../../upstream/discovery/forward-proxy.ts'
import { checkBalancer } from './balancers.ts'
import { checkCidr } from './matchers.ts'
import type { Spot } from './spot.ts'

const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/
/** Types that have no endpoints of their own, and what they are called. */
const WITHOUT: ReadonlyMap<ClusterConfig['type'], string> = new Map([
  ['eds', 'those of the assignment'],
  ['dynamic-forward-proxy', 'those that clients ask for'],
  ['original-dst', 'those that connections were meant for'],
  ['aggregate', 'those of its members'],
  ['composite', 'those of its members'],
  ['srv', 'those of its service'],
] as const)

/** What a cluster has beside, or instead of, endpoints. */
export function checkClusterType(cluster: ClusterConfig, spot: Spot): void {
  const { type, localities, assignment, members, forwardProxy, originalDst, service } = cluster
  const whose = WITHOUT.get(type)
  if (whose !== undefined && localities.length > 0) spot.field('localities', localities).error(`are ${whose}`)
  if (type === 'eds' && !assignment) spot.field('assignment').error('is required by clusters of type eds')
  if (type === 'aggregate' || type === 'composite') {
    if (members === undefined || members.length === 0) spot.field('members').error(`are required by type ${type}`)
    else checkMembers(cluster.name, members, spot.field('members', members))
  } else if (members !== undefined) spot.field('members', members).error(`do not belong to type ${type}`)
  if (type === 'srv') {
    if (!isServiceName(service)) spot.field('service').error(`"${service}" is not the name of SRV records`)
  } else if (service !== undefined) spot.field('service').error(`does not belong to type ${type}`)
  if (originalDst?.header !== undefined && !HEADER_NAME.test(originalDst.header)) {
    const at = spot.field('originalDst', originalDst).field('header')
    at.error(`"${originalDst.header}" is not the name of a header in lower case`)
  }
  if (forwardProxy?.subClusters !== undefined) {
    const at = spot.field('forwardProxy', forwardProxy).field('subClusters', forwardProxy.subClusters)
    checkBalancer(forwardProxy.subClusters.balancer, at.field('balancer', forwardProxy.subClusters.balancer))
  }
}

/** RFC 2782; a dot at its end says that it is whole. */
function isServiceName(name = ''): boolean {
  return isHostName(name.toLowerCase().replace(/\.$/, ''))
}

function checkMembers(own: string, members: readonly string[], spot: Spot): void {
  members.forEach((name, i) => {
    if (name === '') spot.item(i).error('must not be empty')
    else if (name === own) spot.item(i).error(`"${name}" is the cluster itself`)
    else if (members.indexOf(name) < i) spot.item(i).error(`"${name}" is named twice`)
  })
}

/** What answers are taken for answers. */
export function checkAddressFilter({ addresses }: DnsConfig, spot: Spot): void {
  if (addresses === undefined) return
  spot.field('addresses', addresses).each('ranges', addresses.ranges, checkCidr)
}

/** Clusters whose members lead back to themselves: each circle once, by the cluster where it is found first. */
export function circlesOf(clusters: readonly ClusterConfig[]): ReadonlyMap<string, readonly string[]> {
  const members = new Map(clusters.map((cluster) => [cluster.name, cluster.members ?? []]))
  const done = new Set<string>()
  const circles = new Map<string, readonly string[]>()
  const walk = (name: string, path: readonly string[]): void => {
    const at = path.indexOf(name)
    if (at >= 0) {
      // What names itself has been told already.
      if (at < path.length - 1) circles.set(name, [...path.slice(at), name])
      return
    }
    if (done.has(name)) return
    for (const member of members.get(name) ?? []) walk(member, [...path, name])
    done.add(name)
  }
  for (const name of members.keys()) walk(name, [])
  return circles
}

export function checkCircles(clusters: readonly ClusterConfig[], root: Spot): void {
  if (clusters.every(({ members }) => members === undefined)) return
  const circles = circlesOf(clusters)
  root.each('clusters', clusters, ({ name, members }, spot) => {
    const circle = circles.get(name)
    if (circle !== undefined) spot.field('members', members).error(circleMessage(circle))
  })
}

/** What is said of one. */
export function circleMessage(circle: readonly string[]): string {
  return `make a circle: ${circle.join(' → ')}`
}
