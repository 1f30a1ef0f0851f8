import { ConfigError } from '../../lib/core/errors.ts'
import type { DynamicConfig } from '../config.ts'
import type { DiscoveryUpdate, Rejection } from '../source.ts'
import type { Feed } from './feed.ts'
import type { Graph } from './graph.ts'

/**
 * Why an update of clusters is refused as a whole: it would leave fewer than the source's configuration demands
 * (`MinimumClustersValidator`). Undefined: it is not. What it took away is remembered, so that it goes with the next update
 * that is taken, unless that has it.
 */
export function tooFewClusters(
  feed: Feed,
  update: DiscoveryUpdate,
  { graph, dynamic }: { readonly graph: Graph; readonly dynamic: DynamicConfig | undefined },
): Rejection[] | undefined {
  const { source } = feed.source
  const api = source.kind === 'ads' ? dynamic?.ads : source
  const minimum = api?.kind === 'api' ? (api.minimumClusters ?? 0) : 0
  if (minimum === 0 || feed.facts.kind !== 'cluster') return undefined
  const after = new Set(graph.keysFrom('cluster', feed.source.key))
  // Those that were taken away and serve on for as long as routes name them.
  for (const name of after) if (graph.get('cluster', name)?.removed === true) after.delete(name)
  for (const name of update.removed) after.delete(name)
  for (const name of feed.owed) after.delete(name)
  for (const { name } of update.resources) after.add(name)
  if (after.size >= minimum) return undefined
  for (const name of update.removed) feed.owed.add(name)
  // The server's last word: it is there, if not as we have it.
  for (const { name } of update.resources) feed.owed.delete(name)
  const errors = [new ConfigError('', `leaves ${after.size} clusters, and at least ${minimum} are demanded`)]
  const names = update.resources.map(({ name }) => name)
  return (names.length === 0 ? [''] : names).map((name) => ({ name, errors }))
}

/** The update with what a refused one before it took away. */
export function withOwed(feed: Feed, update: DiscoveryUpdate): DiscoveryUpdate {
  if (feed.owed.size === 0) return update
  const there = new Set(update.resources.map(({ name }) => name))
  const owed = [...feed.owed].filter((name) => !there.has(name))
  feed.owed.clear()
  return owed.length === 0 ? update : { ...update, removed: [...new Set([...update.removed, ...owed])] }
}
