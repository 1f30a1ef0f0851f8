import t from 'tap'
import { FAILURES } from '../../lib/core/failure.ts'
import { createBalancer } from '../../lib/upstream/balance/balancer.ts'
import type { EndpointConfig } from '../../lib/upstream/config.ts'
import type { Host } from '../../lib/upstream/host.ts'
import { HostSet } from '../../lib/upstream/host-set.ts'
import { seeded } from '../support/random.ts'

/** What a host does with a request that arrives now: how long it takes, and how it ends. */
type Behaviour = 'well' | 'slow' | 'refusing' | 'fast-500' | 'hanging' | 'half-bad' | 'grpc-unavailable'

interface Running {
  readonly host: Host
  readonly startedMs: number
  /** Infinite: until somebody loses patience. */
  readonly endsMs: number
  readonly result: 'ok' | 'status' | 'grpc' | 'failure'
}

const TIMEOUT_MS = 15_000

/** Requests at a steady rate over hosts that behave as told; time is simulated. */
class Lab {
  nowMs = 1_000
  readonly hosts = new HostSet()
  readonly behaviour = new Map<string, Behaviour>()
  readonly picks = new Map<string, number>()
  failed = 0
  total = 0
  readonly #random = seeded(12)
  readonly #balancer: ReturnType<typeof createBalancer>
  #running: Running[] = []

  constructor(count: number, weights: readonly number[] = []) {
    const endpoints = Array.from({ length: count }, (_, i): EndpointConfig => {
      const address = { kind: 'ip', host: `10.0.${i >> 8}.${i & 255}`, port: 80 } as const
      return { address, hostname: `h${i}`, weight: weights[i] ?? 1, health: 'healthy' }
    })
    this.hosts.update([{ priority: 0, endpoints }])
    this.#balancer = createBalancer({ kind: 'peak-ewma', decayMs: 10_000 }, this.hosts, {
      random: this.#random.next,
      now: () => this.nowMs,
    })
  }

  run(forMs: number, perSecond: number): void {
    const endMs = this.nowMs + forMs
    for (; this.nowMs < endMs; this.nowMs += 1_000 / perSecond) {
      this.#settle()
      this.#begin()
    }
    this.#settle()
  }

  /** Share of the requests since the last reset, in parts of an equal share. */
  share(name: string): number {
    return ((this.picks.get(name) ?? 0) * this.hosts.all.length) / this.total
  }

  reset(): void {
    this.picks.clear()
    this.total = 0
    this.failed = 0
  }

  #begin(): void {
    const host = this.#balancer.pick({})!
    this.total++
    this.picks.set(host.hostname, (this.picks.get(host.hostname) ?? 0) + 1)
    host.rqActive++
    const startedMs = this.nowMs
    const jitter = this.#random.next()
    switch (this.behaviour.get(host.hostname) ?? 'well') {
      case 'well':
        this.#running.push({ host, startedMs, endsMs: startedMs + 4 + 3 * jitter, result: 'ok' })
        break
      case 'slow':
        this.#running.push({ host, startedMs, endsMs: startedMs + 40 + 30 * jitter, result: 'ok' })
        break
      case 'refusing':
        this.#running.push({ host, startedMs, endsMs: startedMs, result: 'failure' })
        break
      case 'fast-500':
        this.#running.push({ host, startedMs, endsMs: startedMs + 1, result: 'status' })
        break
      case 'grpc-unavailable':
        this.#running.push({ host, startedMs, endsMs: startedMs + 1, result: 'grpc' })
        break
      case 'half-bad':
        this.#running.push({ host, startedMs, endsMs: startedMs + 5, result: jitter < 0.5 ? 'status' : 'ok' })
        break
      case 'hanging':
        this.#running.push({ host, startedMs, endsMs: Number.POSITIVE_INFINITY, result: 'failure' })
    }
  }

  #settle(): void {
    const left: Running[] = []
    for (const running of this.#running) {
      const { host, startedMs, result } = running
      const endsMs = Math.min(running.endsMs, startedMs + TIMEOUT_MS)
      if (endsMs > this.nowMs) {
        left.push(running)
        continue
      }
      host.rqActive--
      const elapsed = endsMs - startedMs
      if (result !== 'ok') this.failed++
      if (result === 'ok') host.monitor?.onResponse(200, undefined, elapsed)
      else if (result === 'status') host.monitor?.onResponse(500, undefined, elapsed)
      else if (result === 'grpc') host.monitor?.onResponse(200, 14, elapsed)
      else host.monitor?.onFailure(elapsed >= TIMEOUT_MS ? FAILURES.upstreamTimeout : FAILURES.connectFailed, elapsed)
    }
    this.#running = left
  }
}

t.test('equal hosts get equal shares, others by their weights', async (t) => {
  const lab = new Lab(4)
  lab.run(60_000, 200)
  for (const name of ['h0', 'h1', 'h2', 'h3']) {
    t.ok(Math.abs(lab.share(name) - 1) < 0.1, `${name} has ${lab.share(name)} of an equal share`)
  }
  const weighted = new Lab(3, [4, 1, 1])
  weighted.run(60_000, 500)
  t.ok(weighted.share('h0') > 1.5 * weighted.share('h1'), `${weighted.share('h0')} to ${weighted.share('h1')}`)
})

t.test('a slow host gets less, and some', async (t) => {
  const lab = new Lab(4)
  lab.behaviour.set('h1', 'slow')
  lab.run(5_000, 200)
  lab.reset()
  lab.run(30_000, 200)
  t.ok(lab.share('h1') < 0.1, `${lab.share('h1')} of an equal share`)
  t.ok(lab.share('h1') > 0.005, 'how else would it show when it is fast again?')
  lab.behaviour.delete('h1')
  lab.run(5_000, 200)
  lab.reset()
  lab.run(20_000, 200)
  t.ok(lab.share('h1') > 0.7, `${lab.share('h1')} of an equal share`)
})

for (const behaviour of ['refusing', 'fast-500', 'hanging', 'grpc-unavailable'] as const) {
  t.test(`a host that is ${behaviour} is left alone within some tens of requests, and soon back`, async (t) => {
    const lab = new Lab(4)
    lab.run(4_000, 200)
    for (let round = 0; round < 4; round++) {
      lab.behaviour.set('h2', behaviour)
      lab.reset()
      lab.run(500, 200)
      t.ok((lab.picks.get('h2') ?? 0) < 20, `${lab.picks.get('h2')} of the first 100 requests`)
      lab.run(3_500, 200)
      t.ok((lab.picks.get('h2') ?? 0) < 20, `${lab.picks.get('h2')} of 800 requests`)
      lab.behaviour.delete('h2')
      lab.run(2_000, 200)
      lab.reset()
      lab.run(2_000, 200)
      t.ok(lab.share('h2') > 0.5, `${lab.share('h2')} of an equal share from 2 s after the recovery`)
    }
    lab.behaviour.set('h2', behaviour)
    lab.run(5_000, 400)
    lab.reset()
    lab.run(60_000, 400)
    t.ok(lab.share('h2') < 0.02, `${lab.share('h2')} of an equal share in the long run`)
  })

  t.test(`with a host ${behaviour} 4 s of every 8 at most 1 % of all requests fail`, async (t) => {
    const lab = new Lab(4)
    let failed = 0
    for (let at = 0; at < 120_000; at += 8_000) {
      lab.run(4_000, 200)
      lab.behaviour.set('h3', behaviour)
      const before = lab.picks.get('h3') ?? 0
      lab.run(4_000, 200)
      failed += (lab.picks.get('h3') ?? 0) - before
      lab.behaviour.delete('h3')
    }
    t.equal(lab.total, 24_000)
    t.ok(failed <= 240, `${failed} of ${lab.total}`)
  })
}

t.test('a host that fails half of its requests gets less than half of a share', async (t) => {
  const lab = new Lab(4)
  lab.behaviour.set('h0', 'half-bad')
  lab.run(60_000, 200)
  t.ok(lab.share('h0') < 0.5, `${lab.share('h0')} of an equal share`)
  t.ok(lab.share('h0') > 0, 'and some')
})

t.test('where all hosts fail the load stays spread', async (t) => {
  const lab = new Lab(4)
  for (const host of lab.hosts.all) lab.behaviour.set(host.hostname, 'fast-500')
  lab.run(30_000, 200)
  for (const name of ['h0', 'h1', 'h2', 'h3'])
    t.ok(lab.share(name) > 0.6 && lab.share(name) < 1.4, `${lab.share(name)}`)
  const two = new Lab(2)
  two.behaviour.set('h0', 'refusing')
  two.behaviour.set('h1', 'refusing')
  two.run(10_000, 100)
  t.ok(two.share('h0') > 0.5 && two.share('h0') < 1.5)
})

t.test('of a thousand hosts a sick one gets less than two in a hundred of its share', async (t) => {
  const lab = new Lab(1_000)
  lab.behaviour.set('h7', 'refusing')
  lab.run(20_000, 5_000)
  lab.reset()
  lab.run(20_000, 5_000)
  t.ok(lab.share('h7') <= 0.05, `${lab.picks.get('h7')} requests, ${lab.share('h7')} of an equal share`)
})

t.test('the limits of the gateway are nothing against a host', async (t) => {
  const lab = new Lab(3)
  for (let i = 0; i < 50; i++) lab.hosts.all[0].monitor?.onFailure(FAILURES.overflow, 0)
  lab.run(20_000, 200)
  t.ok(lab.share('h0') > 0.8, `${lab.share('h0')} of an equal share`)
})

t.test('who leaves is no longer watched, and one host alone is always taken', async (t) => {
  const lab = new Lab(3)
  const [first, second] = lab.hosts.all
  t.ok(first.monitor)
  lab.hosts.update([{ priority: 0, endpoints: [{ address: second.address as never, weight: 1, health: 'healthy' }] }])
  t.equal(first.monitor, undefined)
  t.ok(second.monitor)
  lab.behaviour.set('', 'refusing')
  lab.run(2_000, 100)
  t.equal(lab.picks.get(''), lab.total)
})
