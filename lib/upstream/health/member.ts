import type { HealthVerdicts, HostVerdict } from '../../core/host-health.ts'
import type { JudgedCluster } from './judged-cluster.ts'

/** So many hosts are told of at once: no message may take either side long. */
const HOSTS_AT_ONCE = 256

/** One worker's part in a cluster. */
export class Member {
  readonly cluster: JudgedCluster
  readonly #send: (verdicts: HealthVerdicts) => void
  readonly #number: number
  readonly keys = new Set<string>()
  /** Keys of hosts that it is still to hear of. */
  #news = new Set<string>()
  /** Those whose weight is news. */
  #weighed = new Set<string>()
  /** Its process has ended: it hears nothing, and what it told of goes after a while. */
  #gone = false

  constructor(cluster: JudgedCluster, number: number, send: (verdicts: HealthVerdicts) => void) {
    this.cluster = cluster
    this.#number = number
    this.#send = send
  }

  end(): void {
    this.#gone = true
  }

  get gone(): boolean {
    return this.#gone
  }

  /** The worker is to tell now what it has counted of a host. */
  ask(key: string): void {
    this.#send({ cluster: this.#number, hosts: [], asked: [key] })
  }

  note(key: string): void {
    if (!this.#gone && this.keys.has(key)) this.#news.add(key)
  }

  /** Something is known of the load of a host. */
  noteWeight(key: string): void {
    if (!this.#gone && this.keys.has(key)) this.#weighed.add(key)
  }

  flush(): void {
    if (this.#weighed.size > 0) this.#flushWeights()
    if (this.#news.size === 0) return
    const news = this.#news
    this.#news = new Set()
    let hosts: HostVerdict[] = []
    for (const key of news) {
      const verdict = this.cluster.verdict(key)
      if (verdict !== undefined) hosts.push(verdict)
      if (hosts.length < HOSTS_AT_ONCE) continue
      this.#send({ cluster: this.#number, hosts })
      hosts = []
    }
    if (hosts.length > 0) this.#send({ cluster: this.#number, hosts })
  }

  #flushWeights(): void {
    const weights = [...this.#weighed].flatMap((key) => {
      const weight = this.cluster.weight(key)
      return weight === undefined ? [] : [weight]
    })
    this.#weighed.clear()
    for (let at = 0; at < weights.length; at += HOSTS_AT_ONCE) {
      this.#send({ cluster: this.#number, hosts: [], weights: weights.slice(at, at + HOSTS_AT_ONCE) })
    }
  }
}
