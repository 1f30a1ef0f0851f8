import { isDeepStrictEqual } from 'node:util'
import { formatAddress } from '../../lib/core/address.ts'
import type { LoadedBootstrap } from '../envoy/load.ts'
import type { Reference } from '../envoy/references.ts'
import type { Graph } from './graph.ts'
import { type Resource, type Translation, Version } from './resource.ts'
import type { Verdicts } from './verdicts.ts'

const NO_BYTES = Object.freeze(new Uint8Array())
const NONE: readonly never[] = Object.freeze([])

/** What static resources are put into. */
export interface StaticOptions {
  readonly graph: Graph
  readonly verdicts: Verdicts
  /** Epoch ms. */
  readonly nowMs: number
}

/**
 * Makes the static part of the graph that of a bootstrap: what is there and not in it goes, what is as it was stays as it is.
 * A name that a control plane has given to something else is the bootstrap's from now on.
 */
export function placeStatic(loaded: LoadedBootstrap, { graph, verdicts, nowMs }: StaticOptions): void {
  const { config, references } = loaded
  const { admin } = config
  if (admin?.address.kind === 'ip' && admin.address.port !== 0) {
    verdicts.reserve(formatAddress(admin.address), 'the admin server')
  }
  for (const kind of ['cluster', 'listener'] as const) {
    const list = kind === 'cluster' ? config.clusters : config.listeners
    const names = new Set(list.map(({ name }) => name))
    for (const resource of graph.all(kind).values()) {
      if (resource.source !== undefined || resource.channel || names.has(resource.key)) continue
      verdicts.forget(resource)
      graph.remove(resource)
    }
    for (const resource of list) {
      const translation = translationOf(resource, references.get(`${kind}/${resource.name}`) ?? NONE)
      const known = graph.get(kind, resource.name)
      if (known?.source !== undefined) graph.evict(known)
      const node = graph.get(kind, resource.name) ?? addStatic(graph, kind, resource.name)
      const version = new Version('', NO_BYTES, nowMs, translation)
      if (node.latest !== undefined && same(node.latest, version)) continue
      verdicts.remember(node, translation)
      graph.accept(node, version)
    }
  }
}

/** Clusters that stand for `google_grpc` targets of a resource that was delivered: there once for all who name them. */
export function placeChannelClusters(clusters: LoadedBootstrap['channelClusters'], options: StaticOptions): void {
  const { graph, verdicts, nowMs } = options
  for (const cluster of clusters) {
    const known = graph.get('cluster', cluster.name)
    if (known !== undefined) {
      if (known.source === undefined) known.channel = true
      continue
    }
    const node = addStatic(graph, 'cluster', cluster.name)
    node.channel = true
    const translation = translationOf(cluster, NONE)
    verdicts.remember(node, translation)
    graph.accept(node, new Version('', NO_BYTES, nowMs, translation))
  }
}

function addStatic(graph: Graph, kind: 'cluster' | 'listener', name: string): Resource {
  const node = graph.add(kind, name, name, undefined)
  node.rooted = true
  return node
}

function translationOf(config: Translation['config'], references: readonly Reference[]): Translation {
  return { config, references, ignored: NONE, files: NONE, directories: NONE }
}

function same(a: Version, b: Version): boolean {
  return isDeepStrictEqual(a.config, b.config) && isDeepStrictEqual(a.references, b.references)
}
