import type {
  DynamicStatus,
  ResourceStatus,
  ResourceVersion,
  RuntimeLayerStatus,
  Waiting,
} from '../../lib/config/status.ts'
import type { Feeds } from './feeds.ts'
import type { Graph } from './graph.ts'
import { KINDS } from './kinds.ts'
import type { Resource, Version } from './resource.ts'
import type { Sources } from './sources.ts'

/** What a status is made of. */
export interface StatusParts {
  readonly graph: Graph
  readonly feeds: Feeds
  readonly sources: Sources
  readonly layers: readonly RuntimeLayerStatus[]
  /** What the start still waits for; undefined: it is over. */
  readonly step: string | undefined
}

const NONE: readonly string[] = Object.freeze([])

/** Everything that is delivered, as it is now. */
export function statusOf({ graph, feeds, sources, layers, step }: StatusParts): DynamicStatus {
  const resources: ResourceStatus[] = []
  const waiting: Waiting[] = []
  let stale = false
  for (const facts of KINDS.values()) {
    if (facts.members !== undefined) continue
    for (const resource of graph.all(facts.kind).values()) {
      stale ||= resource.stale
      const { source } = resource
      // Static resources are shown from the bootstrap.
      if (source !== undefined) resources.push(resourceStatus(resource, sources.nameOf(source.key)))
      const missing = waitsFor(resource, sources)
      if (missing.length > 0) waiting.push({ target: `${facts.label} ${resource.name}`, for: missing })
    }
  }
  for (const feed of step === undefined ? [] : feeds.all()) {
    if (feed.answered || (feed.facts.kind !== 'cluster' && feed.facts.kind !== 'listener')) continue
    waiting.push({ target: step ?? '', for: [`first answer of ${sources.nameOf(feed.source.key)}`] })
  }
  return { resources, sources: sources.status(), waiting, layers, stale }
}

function resourceStatus(resource: Resource, source: string): ResourceStatus {
  const { facts, name, active, latest, failure, stale, refused, previous } = resource
  const serving = refused ? previous : active
  return {
    typeName: facts.typeName,
    name,
    source,
    client: clientStatus(resource),
    active: serving && versionOf(serving),
    warming: resource.warming && latest !== undefined ? versionOf(latest) : undefined,
    failure,
    stale,
    ignored: latest?.ignored ?? NONE,
  }
}

function clientStatus({ failure, latest, absent }: Resource): ResourceStatus['client'] {
  if (failure !== undefined) return 'nacked'
  if (latest !== undefined) return 'acked'
  if (absent === undefined) return 'requested'
  return absent === 'timeout' ? 'timeout' : 'does-not-exist'
}

function versionOf({ version, bytes, updatedMs }: Version): ResourceVersion {
  return { version, bytes, updatedMs }
}

/** What keeps its latest version from being in force. */
function waitsFor(resource: Resource, sources: Sources): string[] {
  if (!resource.warming) return []
  const list: string[] = []
  for (const need of resource.needs) {
    if (need.settled) continue
    const from = need.source === undefined ? '' : ` of ${sources.nameOf(need.source.key)}`
    list.push(`${need.facts.label} ${need.name}${from}`)
  }
  for (const name of resource.missing ?? []) list.push(`cluster ${name}`)
  return list
}
