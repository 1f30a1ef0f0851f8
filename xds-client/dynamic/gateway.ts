import type { ResourceName } from '../../lib/config/change.ts'
import type { DemandWish, LiveConfig, LiveConfigEvents, LiveFiles } from '../../lib/config/live.ts'
import type { DynamicStatus } from '../../lib/config/status.ts'
import { type ConfigError, ConfigRefused, type JsonObject } from '../../lib/core/errors.ts'
import type { ConfigSourceConfig } from '../config.ts'
import type { EnvoyLoadContext, LoadedBootstrap } from '../envoy/load.ts'
import { translateBytes } from '../envoy/translate-bytes.ts'
import type { RuntimeConfig, TranslatedResource } from '../envoy/translated.ts'
import { RuntimeLayers } from '../runtime/layers.ts'
import type { DiscoveryUpdate, Rejection } from '../source.ts'
import { Demands } from './demand.ts'
import { EmptyAnswer, isTakenAway } from './empty-answer.ts'
import type { Feed } from './feed.ts'
import { Feeds } from './feeds.ts'
import { Graph } from './graph.ts'
import { Intake } from './intake.ts'
import { KINDS, type Kind, type KindFacts } from './kinds.ts'
import type { DynamicOptions } from './options.ts'
import { Publication } from './publication.ts'
import type { Absence, Resource } from './resource.ts'
import { ResourceFiles } from './resource-files.ts'
import { Sources } from './sources.ts'
import { type StartParts, startSteps } from './start-steps.ts'
import { StartUp } from './start-up.ts'
import { StateKeeper } from './state-keeper.ts'
import { placeChannelClusters, placeStatic } from './static-resources.ts'
import { Statistics } from './statistics.ts'
import { statusOf } from './status.ts'
import { Verdicts } from './verdicts.ts'

/**
 * The configuration of a gateway that management servers keep up to date. Takes what they send, says what of it cannot be
 * used, puts the rest together, and publishes it step by step, each as soon as everything that it needs is there.
 */
export class DynamicGateway implements LiveConfig {
  readonly #options: DynamicOptions
  readonly #publication = new Publication()
  readonly #statistics: Statistics
  readonly #verdicts: Verdicts
  readonly #sources: Sources
  readonly #graph: Graph
  readonly #feeds: Feeds
  readonly #intake: Intake
  readonly #demands: Demands
  readonly #startUp: StartUp
  readonly #state: StateKeeper
  readonly #files: ResourceFiles
  readonly #runtime: RuntimeLayers
  #loaded: LoadedBootstrap
  #events: LiveConfigEvents | undefined = undefined
  #contexts = new Map<string, EnvoyLoadContext>()
  /** Those of all listeners and of all clusters. */
  readonly #top: Feed[] = []
  #scheduled = false
  #working = false
  #disposed = false
  #confirmed = false
  #onConfirmed: () => void = () => {}

  constructor(options: DynamicOptions) {
    const { clock, log, metrics, loaded } = options
    this.#options = options
    this.#loaded = loaded
    this.#statistics = new Statistics(metrics)
    this.#verdicts = new Verdicts(options.check)
    this.#sources = new Sources(options.open, { connection: (key, up) => this.#onConnection(key, up) })
    this.#graph = this.#createGraph()
    this.#feeds = new Feeds(this.#sources, {
      opened: (feed) => this.#onFeed(feed),
      isDelta: ({ source }) => isDelta(source.kind === 'ads' ? this.#loaded.dynamic?.ads : source),
      update: (feed, update) => this.#onUpdate(feed, update),
      absent: (feed, names, why) => this.#onAbsent(feed, names, why),
    })
    this.#demands = new Demands({
      clock,
      graph: this.#graph,
      feeds: this.#feeds,
      loaded: () => this.#loaded,
      schedule: () => this.#schedule(),
    })
    this.#intake = new Intake({
      graph: this.#graph,
      clock,
      log,
      verdicts: this.#verdicts,
      loaded: () => this.#loaded,
      translate: (facts, bytes, self) => this.#translate(facts, bytes, self),
      come: (feed, name) => this.#demands.come(feed, name),
      absent: (feed, name) => this.#demands.absent(feed, name),
    })
    this.#files = new ResourceFiles(options.stampOf)
    this.#state = new StateKeeper({
      directory: options.stateDir,
      node: loaded.config.node.id,
      clock,
      log,
      graph: this.#graph,
      feeds: () => this.#feeds.all(),
      usable: (feed, received) => this.#intake.usable(feed, received),
      restore: (feed, received) => this.#intake.restore(feed, received),
      confirm: (feed) => this.#intake.confirm(feed),
      schedule: () => this.#schedule(),
    })
    this.#runtime = new RuntimeLayers({
      layers: loaded.dynamic?.runtime ?? [],
      serviceCluster: loaded.config.node.cluster,
      clock,
      log,
      metrics,
      changed: (values) => {
        this.#publication.runtime(values)
        this.#schedule()
      },
    })
    this.#startUp = new StartUp(clock, startSteps(loaded.dynamic, this.#startParts()))
  }

  readonly confirmed: Promise<void> = new Promise((resolve) => {
    this.#onConfirmed = resolve
  })

  get initialised(): Promise<void> {
    return this.#startUp.finished
  }

  start(events: LiveConfigEvents): void {
    this.#events = events
    const { clock } = this.#options
    const { dynamic, config } = this.#loaded
    if (config.maxConnections !== undefined) this.#publication.maxConnections(config.maxConnections)
    for (const secret of config.secrets ?? []) this.#publication.set('secrets', secret)
    this.#publication.runtime(dynamic === undefined ? config.runtime : this.#runtime.values)
    this.#learnStatic(this.#loaded)
    placeStatic(this.#loaded, { graph: this.#graph, verdicts: this.#verdicts, nowMs: clock.wall() })
    this.#startUp.advance()
    this.#flush()
  }

  files(): LiveFiles {
    return this.#files.all(this.#options.bootstrapFiles?.())
  }

  /** Certificates are made anew one after the other: what is wrong for the moment stays as it was. */
  reload(): readonly ConfigError[] {
    const errors: ConfigError[] = []
    try {
      const loaded = this.#options.again?.()
      if (loaded !== undefined) this.#replaceStatic(loaded)
    } catch (error) {
      if (!(error instanceof ConfigRefused)) throw error
      errors.push(...error.errors)
    }
    for (const resource of this.#files.resources) errors.push(...this.#intake.reread(resource))
    this.#flush()
    return errors
  }

  demand(wish: DemandWish, timeoutMs: number): Promise<boolean> {
    return this.#disposed ? Promise.resolve(false) : this.#demands.ask(wish, timeoutMs)
  }

  refused({ kind, name }: ResourceName, errors: readonly ConfigError[]): void {
    const own = OWN_KINDS[kind]
    const resource = this.#graph.get(own, name)
    this.#statistics.refused(own)
    const reason = errors.map(String).join('; ')
    this.#options.log.error('workers cannot use a resource that was accepted', { kind: own, name, reason })
    if (resource?.active === undefined) return
    const { version, bytes } = resource.active
    this.#graph.fail(resource, { version, errors, attemptedMs: this.#options.clock.wall(), bytes })
    resource.refused = true
  }

  status(): DynamicStatus {
    const step = this.#startUp.over ? undefined : this.#startUp.step
    const layers = this.#runtime.status()
    return statusOf({ graph: this.#graph, feeds: this.#feeds, sources: this.#sources, layers, step })
  }

  modifyRuntime(values: JsonObject): string | undefined {
    return this.#runtime.modify(values)
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#state.close()
    this.#startUp.close()
    this.#runtime[Symbol.dispose]()
    this.#feeds.dispose()
    this.#sources.dispose()
    this.#demands.dispose()
    for (const kind of KINDS.keys()) for (const resource of this.#graph.all(kind).values()) resource.stopTimer()
  }

  // --- what the graph asks for --------------------------------------------------------------------------------------

  #createGraph(): Graph {
    const statistics = this.#statistics
    return new Graph({
      clock: this.#options.clock,
      publication: this.#publication,
      clustersCanCome: () => this.#loaded.dynamic?.cds !== undefined || this.#demands.anyClusters,
      wanted: (resource) => {
        this.#want(resource)
        // Virtual hosts come when they are asked for: nobody waits for the first.
        if (resource.facts.kind === 'virtual-hosts') this.#graph.answered(resource)
      },
      dropped: (resource) => {
        this.#verdicts.forget(resource)
        statistics.dropped(resource)
        this.#files.forget(resource)
        this.#feeds.drop(resource)
        this.#state.dropped(resource)
      },
      accepted: (resource, isNew) => {
        statistics.accepted(resource, isNew)
        this.#files.accepted(resource)
        if (resource.latest !== undefined) this.#demands.learn(resource.latest.references)
      },
      stale: (delta) => statistics.stale(delta),
      failures: (resource, delta) => statistics.failures(resource, delta),
      promoted: (resource, first) => {
        statistics.promoted(resource, first)
        if (resource.facts.kind === 'runtime') this.#deliverLayer(resource)
        if (resource.facts.kind === 'cluster') this.#demands.clusterPublished(resource.key)
      },
      log: this.#options.log,
      schedule: () => this.#schedule(),
    })
  }

  #want(resource: Resource): void {
    const feed = this.#feeds.want(resource)
    if (feed !== undefined) this.#state.wanted(feed, resource.name)
  }

  // --- what sources say ---------------------------------------------------------------------------------------------

  #onFeed(feed: Feed): void {
    const { clock, log } = this.#options
    const { kind } = feed.facts
    if (isTakenAway(kind)) {
      feed.empty = new EmptyAnswer({
        clock,
        held: () => (feed.topLevel ? this.#graph.keysFrom(kind, feed.source.key) : feed.delivered()),
        whole: feed.wholeAnswers,
        expired: (names) => {
          this.#intake.remove(feed, names)
          this.#schedule()
        },
        believed: () => this.#schedule(),
        holding: (names) =>
          log.warn('an empty answer after a reconnect is held back', {
            type: feed.facts.typeName,
            would_go: names.length,
          }),
      })
    }
  }

  #onUpdate(feed: Feed, update: DiscoveryUpdate): readonly Rejection[] {
    this.#feeds.pauseAfter(feed.facts.kind)
    this.#state.beforeUpdate(feed)
    const rejections = this.#intake.update(feed, update)
    this.#state.changed(feed)
    this.#schedule()
    return rejections
  }

  #onAbsent(feed: Feed, names: readonly string[], why: Absence): void {
    this.#intake.absent(feed, names, why)
    this.#schedule()
  }

  #onConnection(key: string, connected: boolean): void {
    for (const feed of this.#feeds.all()) if (feed.source.key === key && !connected) feed.empty?.doubt()
    this.#state.connection(key, connected)
    this.#schedule()
  }

  #translate(facts: KindFacts, bytes: Uint8Array, self: ConfigSourceConfig): TranslatedResource {
    let context = this.#contexts.get(self.key)
    if (context === undefined) {
      const { context: base } = this.#loaded
      const readFile = base.readFile && this.#readFile
      const clusters = this.#verdicts.clusters
      context = { ...base, self, clusters, clustersDelivered: true, ...(readFile && { readFile }) }
      this.#contexts.set(self.key, context)
    }
    const translated = translateBytes(facts.typeName, bytes, context)
    if (translated.errors.length === 0 && translated.clusters.length > 0) {
      const nowMs = this.#options.clock.wall()
      placeChannelClusters(translated.clusters, { graph: this.#graph, verdicts: this.#verdicts, nowMs })
    }
    return translated
  }

  readonly #readFile = (path: string): Buffer => {
    this.#files.reading(path)
    return (this.#loaded.context.readFile as (path: string) => Buffer)(path)
  }

  // --- runtime ------------------------------------------------------------------------------------------------------

  #deliverLayer(resource: Resource): void {
    const config = resource.active?.config as RuntimeConfig | undefined
    this.#runtime.deliver(resource.name, config?.values)
  }

  // --- the start ----------------------------------------------------------------------------------------------------

  #startParts(): StartParts {
    return {
      graph: this.#graph,
      statistics: this.#statistics,
      want: (resource) => this.#want(resource),
      ask: (kind, source, name) => {
        const feed = this.#feeds.open(kind, source)
        this.#top.push(feed)
        this.#feeds.ask(feed, name)
        this.#state.wanted(feed, name)
        return feed
      },
      schedule: () => this.#schedule(),
    }
  }

  #replaceStatic(loaded: LoadedBootstrap): void {
    const { maxConnections } = loaded.config
    if (maxConnections !== this.#loaded.config.maxConnections) this.#publication.maxConnections(maxConnections ?? 0)
    const names = new Set(loaded.config.secrets?.map(({ name }) => name))
    for (const { name } of this.#loaded.config.secrets ?? []) {
      if (!names.has(name)) this.#publication.remove('secrets', name)
    }
    for (const secret of loaded.config.secrets ?? []) this.#publication.set('secrets', secret)
    this.#loaded = loaded
    this.#contexts = new Map()
    this.#learnStatic(loaded)
    placeStatic(loaded, { graph: this.#graph, verdicts: this.#verdicts, nowMs: this.#options.clock.wall() })
  }

  /** Both sources have really answered, and what they brought is there. */
  #confirm(): void {
    if (this.#confirmed || !this.#startUp.over) return
    // A first answer with nothing in it may be that of a server that knows nothing yet.
    if (this.#top.some((feed) => !feed.heard || feed.empty?.doubtful === true)) return
    if (this.#statistics.starting('cluster') > 0 || this.#statistics.starting('listener') > 0) return
    this.#confirmed = true
    this.#onConfirmed()
  }

  #learnStatic(loaded: LoadedBootstrap): void {
    for (const references of loaded.references.values()) this.#demands.learn(references)
  }

  // --- the end of a turn --------------------------------------------------------------------------------------------

  #schedule(): void {
    if (this.#scheduled || this.#disposed || this.#events === undefined) return
    this.#scheduled = true
    setImmediate(() => this.#flush())
  }

  /** Works out what has changed, publishes it as one step, and asks for what is needed now. */
  #flush(): void {
    this.#scheduled = false
    if (this.#disposed || this.#working) return
    this.#working = true
    try {
      this.#graph.settle()
      if (!this.#startUp.over) {
        this.#startUp.advance()
        this.#graph.settle()
      }
    } finally {
      this.#working = false
    }
    const change = this.#publication.take()
    if (change !== undefined) this.#events?.publish(change)
    this.#demands.published()
    this.#feeds.send()
    this.#confirm()
    if (this.#startUp.over) this.#state.ready()
  }
}

function isDelta(source: ConfigSourceConfig['source'] | undefined): boolean {
  return source?.kind === 'api' && source.api === 'delta-grpc'
}

type OwnKind = 'listener' | 'cluster' | 'routes' | 'assignment' | 'secret'

const OWN_KINDS: Readonly<Record<ResourceName['kind'], OwnKind & Kind>> = Object.freeze({
  listeners: 'listener',
  clusters: 'cluster',
  routeTables: 'routes',
  assignments: 'assignment',
  secrets: 'secret',
} as const)
