import { createHash } from 'node:crypto'
import type { GatewayConfig } from '../config/model.ts'
import type { Json } from '../core/errors.ts'
import { ConfigError, ConfigRefused } from '../core/errors.ts'
import type { Channel } from './channel.ts'
import { parentChannel, partsOf } from './channel.ts'
import type { ControlPanel } from './control-panel.ts'
import type { ControlOptions, ControlParts, LoadedFiles } from './control-parts.ts'
import { goesFurther } from './drained-listeners.ts'
import { DRAIN_ALL, type DrainWish, type EngineStatus, type MetricsSnapshot } from './engine.ts'
import { FileWatch } from './file-watch.ts'
import type {
  ControlToSupervisor,
  ControlToWorker,
  MemoryUse,
  Part,
  StatsPush,
  SupervisorToControl,
  WorkerStatus,
  WorkerToControl,
} from './messages.ts'
import type { Reloads, ServerState } from './server-state.ts'
import { addMemory, withReloads, withServerGauges } from './server-state.ts'
import { StatsStore } from './stats-store.ts'
import { mergeStatus } from './status-merge.ts'
import { memoryUse } from './worker.ts'
import { WorkerLink } from './worker-link.ts'

/** How long an admin request waits for a worker that does not answer. */
const ANSWER_LIMIT_MS = 1000
/** A worker that refused a configuration which others run gets it again after that. */
const RETRY_MS = 1000
/** How long a restarted control process looks for a worker that runs a configuration before it reads the file. */
const RECOVER_MS = 3000

/** Turns this process into the control process; it ends with its supervisor. */
export function runControl(options: ControlOptions): void {
  const self = options.process
  const channel = parentChannel<ControlToSupervisor>(self)
  let control: Control | undefined
  self.on('message', (raw: unknown) => {
    const message = raw as SupervisorToControl
    if (message.kind === 'start') control ??= new Control(options, channel, message)
    else control?.receive(message)
  })
  self.on('disconnect', () => self.exit(0))
  self.on('SIGTERM', () => self.exit(0))
  // A terminal sends these to the whole group; the supervisor decides what they mean.
  self.on('SIGINT', () => {})
  self.on('SIGHUP', () => {})
}

/** A configuration as it is sent. */
interface Version {
  readonly config: GatewayConfig
  readonly parts: readonly Part<'config'>[]
  readonly digest: string
}

class Control implements ControlPanel {
  readonly #options: ControlOptions
  readonly #channel: Channel<ControlToSupervisor>
  readonly #start: SupervisorToControl & { kind: 'start' }
  readonly #startedMs: number
  readonly #links = new Map<number, WorkerLink>()
  readonly #applied = new Set<number>()
  readonly #stats = new StatsStore()
  #parts: ControlParts | undefined
  #config: { readonly config: GatewayConfig; readonly updatedMs: number } | undefined
  #configParts: readonly Part<'config'>[] = []
  /** What ran before a reload, until all workers have taken it. */
  #before: Version | undefined = undefined
  readonly #watch: FileWatch
  readonly reloads: Reloads = { good: { v: 0 }, refused: { v: 0 } }
  #digest = ''
  #wasReady: boolean
  #failed = false
  #draining = false
  #drainWish: DrainWish | undefined = undefined
  #drainSinceMs = 0
  #healthy = true
  #level: string | undefined
  #admin = ''
  #lastId = 0
  /** A restarted control process takes over what the workers run; called with it, or undefined when none has any. */
  #recovered: ((config: GatewayConfig | undefined) => void) | undefined

  constructor(
    options: ControlOptions,
    channel: Channel<ControlToSupervisor>,
    start: SupervisorToControl & { kind: 'start' },
  ) {
    this.#options = options
    this.#channel = channel
    this.#start = start
    this.#startedMs = options.clock.now()
    this.#watch = new FileWatch({ clock: options.clock, changed: () => void this.#reload() })
    this.#wasReady = start.restarted
    this.#begin().catch((error: unknown) => this.#fail(error))
  }

  receive(message: SupervisorToControl): void {
    if (message.kind === 'worker-up') {
      const link = new WorkerLink(message.worker, this.#channel)
      this.#links.set(message.worker, link)
      link.send({ kind: 'greet' })
    } else if (message.kind === 'worker-down') this.#workerDown(message.worker)
    else if (message.kind === 'draining') this.#draining = true
    else if (message.kind === 'reopen-logs') this.#parts?.reopenLogs()
    else if (message.kind === 'from-worker') {
      const link = this.#links.get(message.worker)
      if (link !== undefined) this.#fromWorker(link, message.body)
    }
  }

  async #begin(): Promise<void> {
    const parts = await this.#options.create(this.#start.settings)
    this.#parts = parts
    const running = this.#start.restarted ? await this.#recover() : undefined
    const loaded = running === undefined ? await parts.load() : undefined
    const config = running ?? (loaded as LoadedFiles).config
    this.#admin = await parts.startAdmin(this, config)
    this.#config = { config, updatedMs: this.#options.clock.wall() }
    this.#configParts = partsOf('config', ++this.#lastId, config)
    this.#digest = digestOf(this.#configParts)
    for (const link of this.#links.values()) link.send({ kind: 'greet' })
    this.#watch.update((loaded ?? (await this.#lookAgain())).files)
  }

  /**
   * What the workers run was read by the process before this one. Its files are looked for, and no more: nothing changes
   * since a process had to be started again.
   */
  async #lookAgain(): Promise<Pick<LoadedFiles, 'files'>> {
    try {
      return await (this.#parts as ControlParts).load()
    } catch {
      return { files: { files: new Map(), directories: new Set() } }
    }
  }

  /**
   * Files of the configuration have changed: it is read anew as a whole, and workers get it where it is another one. A
   * mistake leaves everything as it was.
   */
  async #reload(): Promise<void> {
    const { log } = this.#parts as ControlParts
    let loaded: LoadedFiles
    try {
      loaded = await (this.#parts as ControlParts).load()
    } catch (error) {
      this.#rejected(error instanceof ConfigRefused ? error.errors : [new ConfigError('', String(error))])
      return
    }
    this.#watch.update(loaded.files)
    const parts = partsOf('config', ++this.#lastId, loaded.config)
    const digest = digestOf(parts)
    if (digest === this.#digest || this.#config === undefined) return
    this.#before ??= { config: this.#config.config, parts: this.#configParts, digest: this.#digest }
    this.#replace({ config: loaded.config, parts, digest })
    this.reloads.good.v++
    log.info('files have changed; the configuration was read anew')
  }

  #replace({ config, parts, digest }: Version): void {
    this.#config = { config, updatedMs: this.#options.clock.wall() }
    this.#configParts = parts
    this.#digest = digest
    this.#applied.clear()
    for (const link of this.#links.values()) if (link.offered) link.sendAll(parts)
  }

  #rejected(errors: readonly ConfigError[]): void {
    this.reloads.refused.v++
    const reasons = errors.map((error) => error.toString())
    this.#parts?.log.error('files have changed, and cannot be used; everything stays as it was', { reasons })
  }

  #recover(): Promise<GatewayConfig | undefined> {
    return new Promise((resolve) => {
      const cancel = this.#options.clock.schedule(RECOVER_MS, () => this.#recovered?.(undefined))
      this.#recovered = (config) => {
        this.#recovered = undefined
        cancel()
        resolve(config)
      }
      for (const link of this.#links.values()) link.send({ kind: 'greet' })
    })
  }

  #fail(error: unknown): void {
    if (this.#failed) return
    this.#failed = true
    const errors = error instanceof ConfigRefused ? error.errors : [new ConfigError('', String(error))]
    if (this.#parts === undefined) this.#options.process.stderr.write(`${String(error)}\n`)
    else if (this.#wasReady) {
      // Workers serve on; the supervisor starts the next control process after a while.
      const reasons = errors.map((e) => e.toString())
      this.#parts.log.error('the control process cannot start', { reasons })
    } else this.#parts.report(errors)
    if (!(error instanceof ConfigRefused)) this.#parts?.log.debug('cause', { stack: (error as Error)?.stack })
    if (this.#wasReady) this.#options.process.exit(1)
    void this.#channel.send({ kind: 'failed' })
  }

  #fromWorker(link: WorkerLink, body: WorkerToControl): void {
    if (body.kind === 'hello') this.#hello(link, body)
    else if (body.kind === 'applied' || body.kind === 'refused') {
      // What became of one that was replaced meanwhile is no news.
      if (body.id !== this.#configParts[0]?.id) return
      if (body.kind === 'applied') this.#workerRuns(link)
      else this.#refused(link, body.errors)
    } else {
      const whole = link.part(body)
      if (whole === undefined) return
      if (body.payload === 'stats') this.#stats.add(link.worker, whole.value as unknown as StatsPush)
      if (body.payload === 'config') this.#recovered?.(whole.value as unknown as GatewayConfig)
      link.settle(body.id, whole.value)
    }
  }

  #hello(link: WorkerLink, hello: WorkerToControl & { kind: 'hello' }): void {
    if (this.#recovered !== undefined && hello.digest !== '') {
      this.#healthy &&= hello.healthy
      if (hello.drained !== undefined && this.#drainWish === undefined) {
        this.#drainWish = hello.drained
        this.#drainSinceMs = this.#options.clock.now()
      }
      link.send({ kind: 'send-config', id: ++this.#lastId })
    }
    if (this.#config === undefined || link.offered) return
    link.offered = true
    if (this.#level !== undefined) link.send({ kind: 'log-level', level: this.#level })
    if (hello.healthy !== this.#healthy) link.send({ kind: 'health', ok: this.#healthy })
    // One that has the same wish, or a stronger one, leaves it at that.
    if (this.#drainWish !== undefined) this.#sendDrain(link, this.#drainWish)
    if (hello.digest === this.#digest) this.#workerRuns(link)
    else link.sendAll(this.#configParts)
    link.send({ kind: 'send-stats', id: ++this.#lastId, full: true })
  }

  #workerRuns(link: WorkerLink): void {
    this.#applied.add(link.worker)
    if (this.#applied.size < this.#start.workers) return
    this.#before = undefined
    if (!this.#wasReady) this.#parts?.log.info('all workers are ready', { workers: this.#applied.size })
    this.#wasReady = true
    void this.#channel.send({ kind: 'ready', admin: this.#admin })
  }

  #refused(link: WorkerLink, errors: readonly { path: string; message: string }[]): void {
    const found = errors.map((e) => new ConfigError(e.path, e.message))
    if (!this.#wasReady) {
      this.#fail(new ConfigRefused(found))
      return
    }
    const before = this.#before
    if (before !== undefined) {
      // Nobody has run it before: those that do by now go back.
      this.#before = undefined
      this.#rejected(found)
      this.#replace(before)
      return
    }
    this.#parts?.log.error('a worker refused the configuration; it gets it again', {
      worker: link.worker,
      reasons: found.map((e) => e.toString()),
    })
    this.#options.clock.schedule(RETRY_MS, () => link.sendAll(this.#configParts))
  }

  #workerDown(worker: number): void {
    this.#links.get(worker)?.end()
    this.#links.delete(worker)
    this.#applied.delete(worker)
    this.#stats.retire(worker)
  }

  #broadcast(body: ControlToWorker): void {
    for (const link of this.#links.values()) link.send(body)
  }

  /** A worker that comes later gets what is left of the time. */
  #sendDrain(link: WorkerLink, wish: DrainWish): void {
    const elapsedMs = this.#options.clock.now() - this.#drainSinceMs
    link.send({ kind: 'drain-listeners', deadlineMs: Math.max(0, this.#start.drainTimeMs - elapsedMs), wish })
  }

  /** Asks every worker; those that do not answer in time are left out. */
  async #ask(kind: 'send-stats' | 'send-status'): Promise<Json[]> {
    const asked = [...this.#links.values()].map((link) => {
      const id = ++this.#lastId
      const cancel = this.#options.clock.schedule(ANSWER_LIMIT_MS, () => link.forget(id))
      const body: ControlToWorker & { id: number } = kind === 'send-stats' ? { kind, id, full: false } : { kind, id }
      return link.request(body).finally(cancel)
    })
    const answers = await Promise.all(asked)
    return answers.filter((answer) => answer !== undefined)
  }

  // What admin may see and do.

  state(): ServerState {
    const closing = this.#drainWish !== undefined && !this.#drainWish.inboundOnly
    if (this.#draining || closing || !this.#healthy) return 'DRAINING'
    if (this.#config === undefined) return 'PRE_INITIALIZING'
    return this.#wasReady && this.#applied.size > 0 ? 'LIVE' : 'INITIALIZING'
  }

  uptimeMs(): number {
    return this.#start.ageMs + this.#options.clock.now() - this.#startedMs
  }

  workers(): number {
    return this.#start.workers
  }

  configuration(): { readonly config: GatewayConfig; readonly updatedMs: number } | undefined {
    return this.#config
  }

  async stats(): Promise<MetricsSnapshot> {
    await this.#ask('send-stats')
    return withServerGauges(withReloads(this.#stats.snapshot(), this.reloads), {
      state: this.state(),
      uptimeMs: this.uptimeMs(),
      workers: this.#start.workers,
      memory: memoryUse(this.#options.process),
    })
  }

  async status(): Promise<EngineStatus> {
    const answers = (await this.#ask('send-status')) as unknown as WorkerStatus[]
    return mergeStatus(answers.map((answer) => answer.engine))
  }

  async memory(): Promise<MemoryUse> {
    const answers = (await this.#ask('send-status')) as unknown as WorkerStatus[]
    return addMemory([memoryUse(this.#options.process), ...answers.map((answer) => answer.memory)])
  }

  logLevel(): string | undefined {
    return this.#level
  }

  setLogLevel(level: string): void {
    this.#level = level
    this.#parts?.setLogLevel(level)
    this.#broadcast({ kind: 'log-level', level })
  }

  drainListeners(wish: DrainWish = DRAIN_ALL): void {
    if (this.#drainWish !== undefined && !goesFurther(this.#drainWish, wish)) return
    this.#drainWish = wish
    this.#drainSinceMs = this.#options.clock.now()
    for (const link of this.#links.values()) this.#sendDrain(link, wish)
  }

  setHealthy(ok: boolean): void {
    this.#healthy = ok
    this.#broadcast({ kind: 'health', ok })
  }

  reopenLogs(): void {
    void this.#channel.send({ kind: 'reopen-logs' })
  }

  quit(): void {
    void this.#channel.send({ kind: 'quit' })
  }
}

function digestOf(parts: readonly Part<'config'>[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part.text)
  return hash.digest('hex')
}
