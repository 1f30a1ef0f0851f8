import type { RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import type { Runtime } from '../core/metrics.ts'
import { runtimeInteger } from '../core/runtime-value.ts'
import type { RouteRequest } from './request.ts'
import type { CompiledRoute } from './route.ts'

/** Resolves what a route leaves to the request: its cluster. */
export type ClusterChoice<P> = (request: RouteRequest) => CompiledRoute<P>

/** Distinct clusters by header that are remembered per route; clients may send any. */
const MAX_REMEMBERED = 256
/** Envoy's, for weights that the runtime says; those that are configured were checked with the configuration. */
const MAX_WEIGHT_SUM = 0xffff_ffff

/** The first value of a header that names a cluster; undefined where it is missing or empty. */
export function clusterFromHeader(name: string): (headers: Headers, head: RequestHead) => string | undefined {
  const lower = name.toLowerCase()
  const read = lower === ':authority' || lower === 'host' ? authority : (headers: Headers) => headers.get(lower)
  return (headers, head) => {
    const value = read(headers, head)
    return value === '' ? undefined : value
  }
}

function authority(_headers: Headers, head: RequestHead): string {
  return head.authority
}

/** The route with the cluster that a header names; without the header the route as it is, whose cluster is ''. */
export function chooseByHeader<P>(name: string, route: CompiledRoute<P>): ClusterChoice<P> {
  const read = clusterFromHeader(name)
  const remembered = new Map<string, CompiledRoute<P>>()
  return (request) => {
    const cluster = read(request.request, request.head)
    if (cluster === undefined) return route
    const known = remembered.get(cluster)
    if (known !== undefined) return known
    const variant = { ...route, cluster }
    if (remembered.size < MAX_REMEMBERED) remembered.set(cluster, variant)
    return variant
  }
}

/** The clusters of one weighted choice, for requests that go from one of them to the next. */
export interface ClusterGroup<P> {
  /**
   * The route with another cluster than those at the places in `used`, by the same draw; with none used up: any of them.
   * Undefined: what is left has no weight.
   */
  another(request: RouteRequest, used: ReadonlySet<number>): CompiledRoute<P> | undefined
  readonly size: number
}

/** A place in a group; on the routes that a weighted choice answers. */
export interface GroupPlace<P> {
  readonly group: ClusterGroup<P>
  readonly index: number
}

export interface WeightedChoice<P> {
  readonly weight: number
  /** Looked up in the runtime with each request; undefined: the weight is what it is. */
  readonly runtimeKey: string | undefined
  readonly choose: ClusterChoice<P>
}

/**
 * One of several by weight: the exchange's draw, or the number in `randomHeader` modulo the sum of the weights where it
 * carries one. Weights that the runtime says and that nobody could draw by are as if it said nothing.
 *
 * @throws Error where all weights are 0.
 */
export function chooseByWeight<P>(
  choices: readonly WeightedChoice<P>[],
  randomHeader: string | undefined,
  runtime: Runtime,
): ClusterChoice<P> {
  const total = choices.reduce((sum, c) => sum + c.weight, 0)
  if (!(total > 0)) throw new Error('the weights of weighted clusters add up to 0')
  const header = randomHeader?.toLowerCase() ?? ''
  const fixed = (request: RouteRequest): CompiledRoute<P> => {
    let draw = drawn(request, header, total)
    for (const { weight, choose } of choices) {
      if (draw < weight) return choose(request)
      draw -= weight
    }
    // Not reached while `random` is below 1.
    return choices[choices.length - 1].choose(request)
  }
  if (choices.every(({ runtimeKey }) => runtimeKey === undefined)) return fixed
  return (request) => {
    let sum = 0
    for (const choice of choices) sum += weightNow(choice, runtime)
    if (!(sum > 0 && sum <= MAX_WEIGHT_SUM)) return fixed(request)
    let draw = drawn(request, header, sum)
    for (const choice of choices) {
      const weight = weightNow(choice, runtime)
      if (draw < weight) return choice.choose(request)
      draw -= weight
    }
    return fixed(request)
  }
}

/** What `chooseByWeight` chooses from, for those who choose again; `choices` may be filled in later. */
export function weightedGroup<P>(
  choices: readonly WeightedChoice<P>[],
  randomHeader: string | undefined,
  runtime: Runtime,
): ClusterGroup<P> {
  const header = randomHeader?.toLowerCase() ?? ''
  return {
    get size(): number {
      return choices.length
    },
    another: (request, used) => {
      const left = choices.filter((_, index) => !used.has(index))
      const weights = left.map((choice) => weightNow(choice, runtime))
      const sum = weights.reduce((total, weight) => total + weight, 0)
      if (!(sum > 0 && sum <= MAX_WEIGHT_SUM)) return undefined
      let draw = drawn(request, header, sum)
      const at = weights.findIndex((weight) => {
        draw -= weight
        return draw < 0
      })
      return left[at]?.choose(request)
    },
  }
}

function weightNow({ weight, runtimeKey }: WeightedChoice<unknown>, runtime: Runtime): number {
  return runtimeKey === undefined ? weight : (runtimeInteger(runtime, runtimeKey) ?? weight)
}

/** A number from 0 up to `total`: the header's, or from the exchange's draw. */
function drawn({ request, random }: RouteRequest, header: string, total: number): number {
  const given = header === '' ? -1 : drawFromHeader(request, header, total)
  return given >= 0 ? given : Math.floor(random * total)
}

/** The header's number modulo `total`; -1 where there is none, or more than one value. */
function drawFromHeader(headers: Headers, name: string, total: number): number {
  const value = headers.join(name)
  if (value === undefined || !/^[0-9]{1,20}$/.test(value)) return -1
  // Beyond 2^53 doubles lose the last digits, which are what counts.
  return value.length < 16 ? Number(value) % total : Number(BigInt(value) % BigInt(total))
}
