import { isIP } from 'node:net'
import type { EndpointAddress } from '../core/address.ts'
import { type Cancel, type Clock, systemClock } from '../core/clock.ts'
import { Headers } from '../core/headers.ts'
import type { Log } from '../core/metrics.ts'
import type { GrpcCall } from '../grpc/call-contract.ts'
import { derElement } from '../tls/der.ts'
import type { MeshMaterial } from '../tls/mesh.ts'
import { SPIFFE_ID } from '../tls/mesh.ts'
import { readCertificate, type WorkloadCertificate } from './certificate.ts'
import { PrivateCluster } from './private-cluster.ts'
import { fetchX509Svid, type X509Svid } from './spiffe-messages.ts'
import type { MaterialSource } from './workload-identity.ts'

/** Between two tries to reach the agent: twice as long each time. */
const FIRST_RETRY_MS = 1_000
const LAST_RETRY_MS = 30_000
const START_MS = 30_000

/** An agent of SPIFFE (SPIRE's, for example) that knows this process. */
export interface SpiffeIdentityOptions {
  /** As `SPIFFE_ENDPOINT_SOCKET`: `unix:///run/spire/agent.sock` or `tcp://127.0.0.1:8000`. */
  readonly endpoint: string
  /** The identity to use, where the agent has several for this process. Default: the first. */
  readonly id?: string
  /** How long the first certificate is waited for. Default: 30 s. */
  readonly startTimeoutMs?: number
  /** Default: the machine's. */
  readonly clock?: Clock
  /** Learns of an agent that fails. Default: nobody. */
  readonly log?: Log
}

/**
 * Gets X.509 SVIDs from the SPIFFE Workload API, which sends new ones in time; while the agent is away the last one stays in
 * use. Give it to gateways as their option `workload`, and close it after them. Authorities of federated trust domains are
 * not believed.
 *
 * @throws Error where there is no certificate in time.
 * @example
 * const workload = await createSpiffeIdentity({ endpoint: 'unix:///run/spire/agent.sock' })
 * const gateway = createGateway(config, { workload })
 */
export async function createSpiffeIdentity(options: SpiffeIdentityOptions): Promise<SpiffeIdentity> {
  const identity = new SpiffeIdentity(options)
  try {
    await identity.first
  } catch (error) {
    await identity.close()
    throw error
  }
  return identity
}

/** What the agent says this process is. */
export class SpiffeIdentity implements MaterialSource, AsyncDisposable {
  /** @internal Settles with the first certificate, or when there was none in time. */
  readonly first: Promise<void>
  readonly #options: SpiffeIdentityOptions
  readonly #clock: Clock
  readonly #agent: PrivateCluster
  readonly #listeners = new Set<(next: MeshMaterial) => void>()
  readonly #started = Promise.withResolvers<void>()
  readonly #startLimit: Cancel
  #current: WorkloadCertificate | undefined = undefined
  #identity = ''
  #call: GrpcCall<undefined> | undefined = undefined
  #retryMs = FIRST_RETRY_MS
  #cancelRetry: Cancel = () => {}
  #problem = 'the agent did not answer'
  #closed = false

  /** @internal */
  constructor(options: SpiffeIdentityOptions) {
    const { clock = systemClock, startTimeoutMs = START_MS, log = SILENT } = options
    this.#options = options
    this.#clock = clock
    this.#agent = new PrivateCluster({
      name: 'SPIFFE agent',
      address: endpointOf(options.endpoint),
      authority: 'localhost',
      clock,
      log,
    })
    this.first = this.#started.promise
    this.#startLimit = clock.schedule(startTimeoutMs, () => this.#started.reject(new Error(this.#problem)))
    void this.#fetch()
  }

  /** `spiffe://<trust domain>/<path>` */
  get identity(): string {
    return this.#identity
  }

  /** The current one. */
  get material(): WorkloadCertificate {
    if (this.#current === undefined) throw new Error('there is no certificate yet')
    return this.#current
  }

  onRenewed(listener: (next: MeshMaterial) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  async #fetch(): Promise<void> {
    await this.#agent.warm()
    if (this.#closed) return
    const metadata = new Headers(['workload.spiffe.io', 'true'])
    this.#call = this.#agent.client.stream(
      fetchX509Svid,
      {
        onMessage: (svids) => this.#take(svids),
        onEnd: ({ code, message }) => this.#again(`the agent answered ${code}: ${message}`),
      },
      { metadata },
    )
    this.#call.write(undefined, true)
  }

  #take(svids: readonly X509Svid[]): void {
    const { id } = this.#options
    try {
      const svid = id === undefined ? svids[0] : svids.find((one) => one.id === id)
      if (svid === undefined) throw new Error(`the agent has no certificate${id === undefined ? '' : ` for "${id}"`}`)
      this.#current = certificateOf(svid, this.#clock.wall())
      this.#identity = svid.id
    } catch (error) {
      this.#complain(error instanceof Error ? error.message : String(error))
      return
    }
    this.#retryMs = FIRST_RETRY_MS
    this.#startLimit()
    this.#started.resolve()
    for (const listener of [...this.#listeners]) this.#tell(listener, this.#current)
  }

  #tell(listener: (next: MeshMaterial) => void, next: MeshMaterial): void {
    try {
      listener(next)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      this.#options.log?.error('a renewed workload certificate was not taken over', {
        identity: this.#identity,
        error: why,
      })
    }
  }

  #complain(problem: string): void {
    this.#problem = problem
    this.#options.log?.warn('the SPIFFE agent gives no certificate', { error: problem })
  }

  #again(problem: string): void {
    if (this.#closed) return
    this.#complain(problem)
    this.#cancelRetry = this.#clock.schedule(this.#retryMs, () => void this.#fetch())
    this.#retryMs = Math.min(this.#retryMs * 2, LAST_RETRY_MS)
  }

  /** No more renewals; what was got stays good until it expires. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#startLimit()
    this.#cancelRetry()
    this.#call?.cancel()
    await this.#agent.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

function certificateOf({ id, chain, key, bundle }: X509Svid, nowMs: number): WorkloadCertificate {
  if (!SPIFFE_ID.test(id)) throw new Error(`"${id}" is no SPIFFE ID`)
  const sent = certificatesIn(chain)
  const privateKey = pemOf('PRIVATE KEY', key)
  return readCertificate([...sent, certificatesIn(bundle).join('')], { identity: id, privateKey, nowMs })
}

/** Certificates that stand one after the other in DER, as PEM. */
function certificatesIn(der: Buffer): string[] {
  const found: string[] = []
  for (let at = 0; at < der.length; ) {
    const { to } = derElement(der, at)
    found.push(pemOf('CERTIFICATE', der.subarray(at, to)))
    at = to
  }
  return found
}

function pemOf(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

/** SPIFFE Workload Endpoint §4: the two schemes, and nothing behind the address. */
function endpointOf(text: string): EndpointAddress {
  const path = /^unix:(?:\/\/)?(\/[^?#]+)$/.exec(text)?.[1]
  if (path !== undefined) return { kind: 'pipe', path }
  const [, six, four, digits] = /^tcp:\/\/(?:\[([^\]]+)\]|([^:/]+)):(\d{1,5})$/.exec(text) ?? []
  const host = six ?? four
  const port = Number(digits)
  if (host !== undefined && isIP(host) !== 0 && port > 0 && port < 65_536) return { kind: 'ip', host, port }
  throw new Error(`a SPIFFE endpoint is like unix:///run/agent.sock or tcp://127.0.0.1:8000, is "${text}"`)
}

const SILENT = Object.freeze({ debug() {}, info() {}, warn() {}, error() {} })
