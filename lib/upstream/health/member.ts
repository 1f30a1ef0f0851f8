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

  note(key: string): void {
    if (!this.#gone && this.keys.has(key)) this.#news.add(key)
  }

  flush(): void {
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
}
