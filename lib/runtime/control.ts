import type { LiveConfig } from '../config/live.ts'
import type { GatewayConfig } from '../config/model.ts'
import { type ConfigError, ConfigRefused } from '../core/errors.ts'
import { sameJson } from '../core/same-json.ts'
import type { Channel } from './channel.ts'
import { parentChannel } from './channel.ts'
import type { ControlOptions, ControlParts, HostJudge, LoadedFiles } from './control-parts.ts'
import { DemandDesk } from './demand-desk.ts'
import { errorsIn, errorsOf, reasonsOf } from './error-messages.ts'
import type { FeedMessage } from './feed.ts'
import { digestOf, FeedEncoder } from './feed-encoder.ts'
import { FileWatch } from './file-watch.ts'
import { LiveRun } from './live-run.ts'
import type { ControlToSupervisor, Hello, StatsPush, SupervisorToControl, WorkerToControl } from './messages.ts'
import { ProcessPanel, type ShownConfig } from './process-panel.ts'
import type { RecordedFiles } from './recorded-files.ts'
import { type Refusal, Rollout, RUN_NUMBERS } from './rollout.ts'
import { WorkerLink } from './worker-link.ts'

/** A worker that refused a configuration which others run gets it again after that. */
const RETRY_MS = 1000
/** How long a restarted control process looks for a worker that runs a configuration before it reads the file. */
const RECOVER_MS = 3000
/** A restarted control process whose files cannot be read looks again after that. */
const LOAD_AGAIN_MS = 5000

const NO_FILES: RecordedFiles = Object.freeze({ files: new Map<string, string>(), directories: new Set<string>() })

/** Turns this process into the control process; it ends with its supervisor. */
export function runControl(options: ControlOptions): void {
  const self = options.process
  const channel = parentChannel<ControlToSupervisor>(self)
  let control: Control | undefined
  self.on('message', (raw: unknown) => {
    const message = raw as SupervisorToControl
    if (message.kind === 'ping') void channel.send({ kind: 'pong' })
    else if (message.kind === 'start') control ??= new Control(options, channel, message)
    else control?.receive(message)
  })
  self.on('disconnect', () => self.exit(0))
  self.on('SIGTERM', () => self.exit(0))
  // A terminal sends these to the whole group; the supervisor decides what they mean.
  self.on('SIGINT', () => {})
  self.on('SIGHUP', () => {})
  self.on('SIGUSR2', () => {})
}

/** What a worker runs that was there before this process. */
interface Running {
  readonly config: GatewayConfig
  readonly revision: string
}

class Control {
  readonly #options: ControlOptions
  readonly #channel: Channel<ControlToSupervisor>
  readonly #start: SupervisorToControl & { kind: 'start' }
  readonly #panel: ProcessPanel
  /** Workers that run a whole configuration of ours. */
  readonly #applied = new Set<number>()
  readonly #watch: FileWatch
  readonly #encoder = new FeedEncoder()
  readonly #desk = new DemandDesk({
    log: () => this.#parts?.log,
    run: () => this.#run,
    rollout: () => this.#rollout,
  })
  #parts: ControlParts | undefined
  #judge: HostJudge | undefined
  #rollout: Rollout | undefined
  #updatedMs = 0
  /** Of the configuration as it was read; with a live configuration that says nothing. */
  #read = ''
  #files: LoadedFiles['files'] | undefined
  #run: LiveRun | undefined
  /** The number that all workers must have got to before the gateway counts as initialised; undefined: not known yet. */
  #initialAt: number | undefined
  #initialised = false
  #wasReady: boolean
  #failed = false
  #admin = ''
  #lastId: number
  /** A restarted control process takes over what the workers run; called with it, or undefined when none has any. */
  #recovered: ((running: Running | undefined) => void) | undefined

  constructor(
    options: ControlOptions,
    channel: Channel<ControlToSupervisor>,
    start: SupervisorToControl & { kind: 'start' },
  ) {
    this.#options = options
    this.#channel = channel
    this.#start = start
    this.#lastId = start.run * RUN_NUMBERS
    this.#panel = new ProcessPanel({
      process: options.process,
      clock: options.clock,
      channel,
      start,
      parts: () => this.#parts,
      judge: () => this.#judge,
      live: () => this.#run?.live,
      shown: () => this.#shown(),
      ready: () => this.#wasReady && this.#applied.size > 0 && (this.#run === undefined || this.#initialised),
    })
    this.#watch = new FileWatch({ clock: options.clock, changed: () => void this.#reload() })
    this.#wasReady = start.restarted
    this.#begin().catch((error: unknown) => this.#fail(error))
  }

  receive(message: SupervisorToControl): void {
    if (message.kind === 'worker-up') {
      const link = new WorkerLink(message.worker, this.#channel)
      this.#panel.workerUp(link)
      link.send({ kind: 'greet' })
    } else if (message.kind === 'worker-down') this.#workerDown(message.worker)
    else if (message.kind === 'draining') this.#panel.draining()
    else if (message.kind === 'lives') this.#panel.lives(message)
    else if (message.kind === 'reload') void this.#reload()
    else if (message.kind === 'reopen-logs') this.#parts?.reopenLogs()
    else if (message.kind === 'from-worker') {
      const link = this.#panel.links.get(message.worker)
      if (link !== undefined) this.#fromWorker(link, message.body)
    }
  }

  #shown(): ShownConfig | undefined {
    return this.#rollout && { config: this.#rollout.config, updatedMs: this.#updatedMs }
  }

  async #begin(): Promise<void> {
    const { clock } = this.#options
    const parts = await this.#options.create(this.#start.settings)
    this.#parts = parts
    this.#judge = parts.judgeHosts?.({
      send: (worker, verdicts) => this.#panel.links.get(worker)?.send({ kind: 'host-health', verdicts }),
      news: (worker, news) => this.#panel.links.get(worker)?.send({ kind: 'ejections', news }),
      workers: () => this.#panel.links.keys(),
      runtime: () => this.#rollout?.state.base.runtime ?? {},
    })
    const running = this.#start.restarted ? await this.#recover() : undefined
    const loaded = running === undefined ? await parts.load() : await this.#lookAgain(parts)
    const config = running?.config ?? (loaded as LoadedFiles).config
    this.#admin = await parts.startAdmin(this.#panel, config)
    const current = running ?? { config }
    this.#rollout = new Rollout(current, { run: this.#start.run, events: this.#events() })
    this.#updatedMs = clock.wall()
    this.#read = digestOf(config)
    this.#panel.follow(config)
    if (loaded !== undefined) this.#use(loaded, running !== undefined)
    for (const link of this.#panel.links.values()) link.send({ kind: 'greet' })
  }

  /**
   * What the workers run was read by the process before this one: its files are looked for, and who keeps it up to date.
   * Nothing else changes since a process had to be started again.
   */
  async #lookAgain(parts: ControlParts): Promise<LoadedFiles | undefined> {
    try {
      return await parts.load()
    } catch (error) {
      parts.log.error('the configuration cannot be read again; what runs goes on', { reasons: reasonsOf(error) })
      this.#options.clock.schedule(LOAD_AGAIN_MS, () => {
        void this.#lookAgain(parts).then((loaded) => loaded !== undefined && this.#use(loaded, true))
      })
      return undefined
    }
  }

  /** Keeps what runs up to date from here on. */
  #use(loaded: LoadedFiles, serving: boolean): void {
    this.#files = loaded.files
    if (loaded.live !== undefined) this.#follow(loaded.live, loaded.config, serving)
    this.#watch.update(this.#recorded())
  }

  #follow(live: LiveConfig, base: GatewayConfig, serving: boolean): void {
    const rollout = this.#rollout as Rollout
    this.#run?.end()
    // One that serves goes on being ready, whoever feeds it.
    this.#initialised = serving
    const run = new LiveRun({
      live,
      base,
      state: () => rollout.state,
      serving,
      publish: (change) => {
        this.#updatedMs = this.#options.clock.wall()
        rollout.publish(change)
        this.#watch.follow(this.#recorded())
      },
      initialised: () => {
        this.#initialAt = rollout.at
        this.#checkInitialised()
      },
    })
    this.#run = run
    run.start()
  }

  #checkInitialised(): void {
    const rollout = this.#rollout as Rollout
    if (this.#initialised || this.#initialAt === undefined || this.#applied.size < this.#start.workers) return
    if (rollout.owes(this.#initialAt)) return
    this.#initialised = true
    this.#parts?.log.info('everything that the control planes were asked for has come, or was waited for')
  }

  /** What the configuration was made of. */
  #recorded(): RecordedFiles {
    const own = this.#run?.live.files?.()
    const read = this.#files
    if (own === undefined || read === undefined) return own ?? read ?? NO_FILES
    return {
      files: new Map([...read.files, ...own.files]),
      directories: new Set([...read.directories, ...own.directories]),
    }
  }

  /**
   * Files of the configuration have changed: it is read anew as a whole, and workers get it where it is another one. A
   * mistake leaves everything as it was. A live configuration sees to its own.
   */
  async #reload(): Promise<void> {
    if (this.#rollout === undefined) return
    const live = this.#run?.live
    if (live?.reload !== undefined) {
      const errors = live.reload()
      if (errors.length > 0) this.#rejected(errors)
      else this.#reloaded()
      return
    }
    let loaded: LoadedFiles
    try {
      loaded = await (this.#parts as ControlParts).load()
    } catch (error) {
      this.#rejected(errorsOf(error))
      return
    }
    this.#files = loaded.files
    if (this.#panel.reloads.failing.v > 0) this.#parts?.log.info('the files of the configuration can be used again')
    this.#panel.reloads.failing.v = 0
    if (loaded.live !== undefined) this.#use(loaded, true)
    else if (!this.#replace(loaded)) return
    this.#reloaded()
  }

  /** False where it is what runs. */
  #replace(loaded: LoadedFiles): boolean {
    this.#watch.update(loaded.files)
    const digest = digestOf(loaded.config)
    const rollout = this.#rollout
    if (digest === this.#read || rollout === undefined) return false
    this.#read = digest
    if (!sameJson(loaded.config.admin, rollout.config.admin)) {
      this.#parts?.log.warn('another address of admin is taken over at the next start')
    }
    this.#changed(loaded.config, rollout.config)
    return true
  }

  #changed(config: GatewayConfig, before: GatewayConfig | undefined): void {
    this.#updatedMs = this.#options.clock.wall()
    this.#applied.clear()
    this.#rollout?.replace(config, before)
    this.#panel.follow(config)
  }

  #reloaded(): void {
    this.#panel.reloads.good.v++
    this.#panel.reloads.failing.v = 0
    this.#parts?.log.info('files have changed; the configuration was read anew')
  }

  #rejected(errors: readonly ConfigError[]): void {
    this.#panel.reloads.refused.v++
    this.#panel.reloads.failing.v = 1
    const reasons = errors.map((error) => error.toString())
    this.#parts?.log.error('files have changed, and cannot be used; everything stays as it was', { reasons })
  }

  #recover(): Promise<Running | undefined> {
    return new Promise((resolve) => {
      const cancel = this.#options.clock.schedule(RECOVER_MS, () => this.#recovered?.(undefined))
      this.#recovered = (running) => {
        this.#recovered = undefined
        cancel()
        resolve(running)
      }
      for (const link of this.#panel.links.values()) link.send({ kind: 'greet' })
    })
  }

  #fail(error: unknown): void {
    if (this.#failed) return
    this.#failed = true
    if (this.#parts === undefined) this.#options.process.stderr.write(`${String(error)}\n`)
    else if (this.#wasReady) {
      // Workers serve on; the supervisor starts the next control process after a while.
      this.#parts.log.error('the control process cannot start', { reasons: reasonsOf(error) })
    } else this.#parts.report(errorsOf(error))
    if (!(error instanceof ConfigRefused)) this.#parts?.log.debug('cause', { stack: (error as Error)?.stack })
    if (this.#wasReady) this.#options.process.exit(1)
    void this.#channel.send({ kind: 'failed' })
  }

  #fromWorker(link: WorkerLink, body: WorkerToControl): void {
    if (body.kind === 'hello') this.#hello(link, body)
    else if (body.kind === 'applied') this.#rollout?.applied(link.worker, body.id)
    else if (body.kind === 'refused') {
      this.#rollout?.refused(link.worker, body.id, { errors: errorsIn(body.errors), resource: body.resource })
      // What it takes instead is waited for as well.
      if (this.#initialAt !== undefined) this.#initialAt = this.#rollout?.at
    } else if (body.kind === 'leases') this.#panel.leases.receive(link.worker, body)
    else if (body.kind === 'host-reports') this.#judge?.report(link.worker, body.reports)
    else if (body.kind === 'demand') void this.#desk.ask(link, body)
    else {
      const whole = link.part(body)
      if (whole === undefined) return
      if (body.payload === 'stats') this.#panel.counted(link.worker, whole.value as unknown as StatsPush)
      // An answer to the process before this one may be of an older revision than `hello` told.
      if (body.payload === 'config' && body.id > this.#start.run * RUN_NUMBERS) {
        this.#recovered?.({ config: whole.value as unknown as GatewayConfig, revision: link.revision })
      }
      link.settle(body.id, whole.value)
    }
  }

  #hello(link: WorkerLink, hello: Hello): void {
    link.revision = hello.revision
    if (this.#recovered !== undefined && hello.revision !== '') {
      this.#panel.recall(hello)
      link.send({ kind: 'send-config', id: ++this.#lastId })
    }
    if (this.#rollout === undefined || link.offered) return
    link.offered = true
    this.#panel.introduce(link, hello)
    const send = (message: FeedMessage): void => link.sendAll(this.#encoder.partsOf(message))
    if (this.#rollout.attach(link.worker, hello.revision, send)) this.#workerRuns(link.worker)
  }

  #events(): ConstructorParameters<typeof Rollout>[1]['events'] {
    return {
      applied: (worker, kind) => {
        if (kind === 'config') this.#workerRuns(worker)
        this.#checkInitialised()
      },
      refusedWhole: (worker, refusal, before) => this.#refused(worker, refusal, before),
      revoked: (resource, errors) => {
        this.#panel.reloads.revoked.v++
        const reasons = errors.map((error) => error.toString())
        this.#parts?.log.warn('workers cannot use a resource; it stays what it was before', { ...resource, reasons })
        this.#run?.live.refused(resource, errors)
      },
      lost: (worker, errors) => this.#again(worker, errors),
    }
  }

  #workerRuns(worker: number): void {
    this.#applied.add(worker)
    if (this.#applied.size < this.#start.workers) return
    if (!this.#wasReady) this.#parts?.log.info('all workers are ready', { workers: this.#applied.size })
    this.#wasReady = true
    void this.#channel.send({ kind: 'ready', admin: this.#admin })
    this.#checkInitialised()
  }

  #refused(worker: number, { errors, resource }: Refusal, before: GatewayConfig | undefined): void {
    if (!this.#wasReady) {
      // What a control plane sent, now or (from a state directory) at another time, must not keep the rest from starting.
      if (resource !== undefined && this.#delivered(resource.name)) this.#rollout?.revoke(resource, errors)
      else this.#fail(new ConfigRefused(errors))
      if (!this.#failed) this.#rollout?.resend(worker)
    } else if (before !== undefined) {
      // Nobody has run it before: those that do by now go back.
      this.#rejected(errors)
      this.#changed(before, undefined)
    } else this.#again(worker, errors)
  }

  #delivered(name: string): boolean {
    const resources = this.#run?.live.status().resources ?? []
    return resources.some((resource) => resource.name === name && resource.source !== '')
  }

  #again(worker: number, errors: readonly ConfigError[]): void {
    const reasons = errors.map((error) => error.toString())
    this.#parts?.log.error('a worker refused the configuration; it gets it again', { worker, reasons })
    this.#options.clock.schedule(RETRY_MS, () => this.#rollout?.resend(worker))
  }

  #workerDown(worker: number): void {
    this.#panel.workerDown(worker)
    this.#rollout?.detach(worker)
    this.#judge?.retire(worker)
    this.#applied.delete(worker)
  }
}
