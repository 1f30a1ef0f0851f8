import type { ConfigSourceConfig, DynamicConfig } from '../config.ts'
import { referenceKey } from '../envoy/references.ts'
import type { Feed } from './feed.ts'
import type { Graph } from './graph.ts'
import type { Resource } from './resource.ts'
import type { StartStep } from './start-up.ts'
import type { Statistics } from './statistics.ts'

/** What the steps of a start work with. */
export interface StartParts {
  readonly graph: Graph
  readonly statistics: Statistics
  /** Asks for one resource by name. */
  want(resource: Resource): void
  /** Asks for all listeners or all clusters, or for those of a collection. */
  ask(kind: 'cluster' | 'listener', source: ConfigSourceConfig, name: string): Feed
  /** There is work for the end of the turn. */
  schedule(): void
}

/** The steps of a start from that bootstrap, in their order. */
export function startSteps(dynamic: DynamicConfig | undefined, parts: StartParts): StartStep[] {
  return [
    layersStep(dynamic, parts),
    topStep('cluster', { source: dynamic?.cds, name: dynamic?.cdsLocator ?? '*' }, parts),
    topStep('listener', { source: dynamic?.lds, name: dynamic?.ldsLocator ?? '*' }, parts),
  ]
}

function layersStep(dynamic: DynamicConfig | undefined, { graph, want, schedule }: StartParts): StartStep {
  const layers = dynamic?.runtime.filter((layer) => layer.kind === 'rtds') ?? []
  const times = layers.map(({ source }) => source.initialFetchTimeoutMs)
  const resources: Resource[] = []
  return {
    name: 'runtime layers',
    open: () => {
      for (const { resource: name, source } of layers) {
        const key = referenceKey(name, source)
        if (graph.get('runtime', key) !== undefined) continue
        const resource = graph.add('runtime', name, key, source)
        resource.rooted = true
        resources.push(resource)
        want(resource)
      }
      schedule()
    },
    done: () => resources.every((resource) => resource.settled),
    // Where one of them may take for ever, each has its own time.
    timeoutMs: times.includes(0) ? 0 : Math.max(0, ...times),
    giveUp: () => {
      for (const resource of resources) if (!resource.settled) graph.absent(resource, 'timeout')
      schedule()
    },
  }
}

interface TopSource {
  readonly source: ConfigSourceConfig | undefined
  /** `*`, or what the collection is called. */
  readonly name: string
}

function topStep(kind: 'cluster' | 'listener', { source, name }: TopSource, parts: StartParts): StartStep {
  let feed: Feed | undefined
  return {
    name: kind === 'cluster' ? 'clusters' : 'listeners',
    open: () => {
      if (source === undefined) return
      feed = parts.ask(kind, source, name)
      parts.schedule()
    },
    done: () => feed?.answered !== false && parts.statistics.starting(kind) === 0,
    timeoutMs: source?.initialFetchTimeoutMs ?? 0,
    giveUp: () => {
      if (feed !== undefined) feed.answered = true
      parts.schedule()
    },
  }
}
