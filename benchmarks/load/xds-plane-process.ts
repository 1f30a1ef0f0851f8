/**
 * The management server of the xds suite, started by xds-plane.ts: a delta ADS server with resources that are encoded before
 * anybody asks for them.
 */
import { setPriority } from 'node:os'
import { ControlPlane } from '../../test/support/control-plane.ts'
import {
  assignment,
  CLUSTER,
  cluster,
  clusterName,
  ENDPOINTS,
  LISTENER,
  listener,
  ROUTES,
  routes,
  type XdsSize,
} from './xds-resources.ts'

/** What the suite asks for; each is answered with a `PlaneAnswer`. */
export type PlaneWish =
  | { readonly kind: 'serve'; readonly size: XdsSize; readonly listenPort: number; readonly originPort: number }
  /** All endpoints of a cluster become `port`. */
  | { readonly kind: 'move'; readonly index: number; readonly port: number }
  /** Changes for a `churn` are encoded. */
  | { readonly kind: 'encode'; readonly changes: number }
  /** So many changes a second, of one endpoint of a cluster that nobody asks for; of those that are encoded, again and again. */
  | { readonly kind: 'churn'; readonly perSecond: number; readonly seconds: number }
  | { readonly kind: 'routes'; readonly generation: number }
  | { readonly kind: 'tally' }

export interface PlaneAnswer {
  readonly port: number
  readonly acks: number
  readonly nacks: number
  readonly sent: number
}

// A management server runs elsewhere: clients on its core need not wait for it.
setPriority(10)
const plane = await ControlPlane.start()
let ready: readonly { readonly name: string; readonly bytes: Uint8Array }[] = []
let size: XdsSize = { clusters: 0, endpointsPerCluster: 0, virtualHosts: 1 }
let origin = 0
let sent = 0
let version = 1_000

process.on('message', (wish: PlaneWish) => void obey(wish).then(() => process.send?.(tally())))
process.on('disconnect', () => process.exit(0))

function tally(): PlaneAnswer {
  const count = (kind: string): number => plane.requests.filter((request) => request.kind === kind).length
  return { port: plane.port, acks: count('ack'), nacks: count('nack'), sent }
}

async function obey(wish: PlaneWish): Promise<void> {
  if (wish.kind === 'serve') serve(wish)
  else if (wish.kind === 'move') send(ENDPOINTS, clusterName(wish.index), membership(wish.index, wish.port, 0))
  else if (wish.kind === 'routes') send(ROUTES, 'web', plane.encode(ROUTES, routes(size, wish.generation) as never))
  else if (wish.kind === 'encode') encode(wish.changes)
  else if (wish.kind === 'churn') await churn(wish.perSecond, wish.seconds)
}

function serve({ size: wanted, listenPort, originPort }: PlaneWish & { kind: 'serve' }): void {
  size = wanted
  origin = originPort
  const indices = Array.from({ length: size.clusters }, (_, i) => i)
  plane.set(CLUSTER, indices.map(cluster) as never, '1')
  plane.set(ENDPOINTS, indices.map((i) => assignment(i, size, origin)) as never, '1')
  plane.set(ROUTES, [routes(size)] as never, '1')
  plane.set(LISTENER, [listener(listenPort)] as never, '1')
}

function membership(index: number, port: number, turn: number): Uint8Array {
  return plane.encode(ENDPOINTS, assignment(index, size, port, turn) as never)
}

function send(typeName: string, name: string, bytes: Uint8Array): void {
  sent++
  const text = String(++version)
  plane.stream.send({ typeName, version: text, resources: [{ name, version: text, bytes }] })
}

/** Ahead, so that this process has time to send. Two for each cluster in turn, so that each is a change however often they go out. */
function encode(changes: number): void {
  const half = Math.ceil(changes / 2)
  ready = Array.from({ length: 2 * half }, (_, i) => {
    const index = 1 + (((i % half) * 7919) % (size.clusters - 2))
    return { name: clusterName(index), bytes: membership(index, origin, i < half ? 1 : 2) }
  })
}

async function churn(perSecond: number, seconds: number): Promise<void> {
  const total = perSecond * seconds
  const begin = performance.now()
  let done = 0
  while (done < total) {
    const due = Math.min(total, Math.floor(((performance.now() - begin) / 1000) * perSecond))
    for (; done < due; done++) {
      const { name, bytes } = ready[done % ready.length]
      send(ENDPOINTS, name, bytes)
    }
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}
