import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { type Cancel, type Clock, systemClock } from '../core/clock.ts'
import { Headers } from '../core/headers.ts'
import type { Log } from '../core/metrics.ts'
import { TimerWheel } from '../core/timer-wheel.ts'
import { GrpcClient } from '../grpc/client.ts'
import { ENVOY_HTTP2 } from '../http2/config.ts'
import { MetricsStore } from '../telemetry/metrics.ts'
import { checkTls } from '../tls/check.ts'
import { type MeshMaterial, meshClientTls, SPIFFE_ID } from '../tls/mesh.ts'
import { UpstreamCluster } from '../upstream/cluster.ts'
import type { ClusterConfig } from '../upstream/config.ts'
import { DnsResolvers } from '../upstream/discovery/dns/resolver.ts'
import { readCertificate, type WorkloadCertificate } from './certificate.ts'
import { createCertificate } from './istio-ca.ts'
import { createSigningRequest } from './signing-request.ts'

/** How often it is looked whether the certificate is old, and how long a CA that failed is left alone. */
const CHECK_MS = 30_000
const CALL_MS = 10_000
const VALIDITY_S = 86_400
const WIDE = Object.freeze({ maxConnections: 16, maxPendingRequests: 16, maxRequests: 16, maxRetries: 3 })

/** A workload and the Istio-compatible CA that knows it. */
export interface WorkloadIdentityOptions {
  /** `istiod.istio-system.svc:15012` */
  readonly caAddress: string
  /** Default: `cluster.local`. */
  readonly trustDomain?: string
  readonly namespace: string
  readonly serviceAccount: string
  /** Holds the bearer token; read again for each request. */
  readonly tokenFile: string
  /** PEM of the authorities that the CA's own certificate is checked with; read once. */
  readonly rootsFile: string
  /** DNS name that the CA's certificate must have. Default: the host of `caAddress`. */
  readonly caName?: string
  /** Default: `Kubernetes`. */
  readonly clusterId?: string
  /** Default: the machine's. */
  readonly clock?: Clock
  /** Learns of renewals that fail. Default: nobody. */
  readonly log?: Log
}

/** A certificate that is renewed: what a gateway needs of it. */
export interface MaterialSource {
  readonly material: MeshMaterial
  /** Answers how to stop. */
  onRenewed(listener: (next: MeshMaterial) => void): () => void
}

/**
 * Gets a workload certificate from an Istio-compatible CA (`IstioCertificateService.CreateCertificate`) and renews it at
 * half of its life; where that fails, again every 30 seconds, with the old one in use. Give it to gateways as their option
 * `workload`, and close it after them.
 *
 * @throws Error where the first certificate cannot be got: without one there is no HBONE.
 * @example
 * const workload = await createWorkloadIdentity({
 *   caAddress: 'istiod.istio-system.svc:15012',
 *   namespace: 'demo',
 *   serviceAccount: 'gateway',
 *   tokenFile: '/var/run/secrets/tokens/istio-token',
 *   rootsFile: '/var/run/secrets/istio/root-cert.pem',
 * })
 * const gateway = createGateway(config, { workload })
 */
export async function createWorkloadIdentity(options: WorkloadIdentityOptions): Promise<WorkloadIdentity> {
  const roots = await readFile(options.rootsFile, 'utf8')
  const ca = new CertificateAuthority(options, roots)
  try {
    return new WorkloadIdentity(await ca.issue(), ca, options)
  } catch (error) {
    await ca.close()
    throw error
  }
}

/** A certificate and its renewal. */
export class WorkloadIdentity implements MaterialSource, AsyncDisposable {
  readonly #ca: CertificateAuthority
  readonly #clock: Clock
  readonly #log: Log | undefined
  readonly #listeners = new Set<(next: MeshMaterial) => void>()
  #certificate: WorkloadCertificate
  #cancel: Cancel
  #closed = false

  /** @internal */
  constructor(first: WorkloadCertificate, ca: CertificateAuthority, options: WorkloadIdentityOptions) {
    this.#certificate = first
    this.#ca = ca
    this.#clock = options.clock ?? systemClock
    this.#log = options.log
    this.#cancel = this.#later()
  }

  /** `spiffe://<trust domain>/ns/<namespace>/sa/<service account>` */
  get identity(): string {
    return this.#ca.identity
  }

  /** The current one. */
  get material(): WorkloadCertificate {
    return this.#certificate
  }

  onRenewed(listener: (next: MeshMaterial) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  #later(): Cancel {
    return this.#clock.schedule(CHECK_MS, () => void this.#check())
  }

  async #check(): Promise<void> {
    if (this.#clock.wall() >= this.#certificate.renewAtMs) {
      try {
        const next = await this.#ca.issue()
        if (this.#closed) return
        this.#certificate = next
        this.#tell(next)
      } catch (error) {
        if (this.#closed) return
        const why = error instanceof Error ? error.message : String(error)
        this.#log?.warn('the workload certificate could not be renewed', { identity: this.identity, error: why })
      }
    }
    if (!this.#closed) this.#cancel = this.#later()
  }

  /** One that fails keeps none of the others from it. */
  #tell(next: MeshMaterial): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(next)
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error)
        this.#log?.error('a renewed workload certificate was not taken over', { identity: this.identity, error: why })
      }
    }
  }

  /** No more renewals; what was got stays good until it expires. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#cancel()
    await this.#ca.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** The CA, as its client sees it. */
class CertificateAuthority {
  readonly identity: string
  readonly #options: WorkloadIdentityOptions
  readonly #clock: Clock
  readonly #wheel: TimerWheel
  readonly #dns: DnsResolvers
  readonly #cluster: UpstreamCluster
  readonly #client: GrpcClient

  constructor(options: WorkloadIdentityOptions, roots: string) {
    const { trustDomain = 'cluster.local', namespace, serviceAccount, clock = systemClock } = options
    this.identity = `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`
    if (!SPIFFE_ID.test(this.identity)) throw new Error(`"${this.identity}" is no SPIFFE ID`)
    this.#options = options
    this.#clock = clock
    const config = clusterOf(options, roots)
    this.#wheel = new TimerWheel(clock)
    this.#dns = new DnsResolvers({ clock })
    let connectionId = 0
    this.#cluster = new UpstreamCluster(config, {
      metrics: new MetricsStore(),
      wheel: this.#wheel,
      random: Math.random,
      log: options.log ?? SILENT,
      dns: this.#dns,
      nextConnectionId: () => ++connectionId,
    })
    this.#client = new GrpcClient({
      cluster: () => this.#cluster,
      authority: options.caAddress,
      wheel: this.#wheel,
      log: options.log ?? SILENT,
      timeoutMs: CALL_MS,
      scheme: 'https',
    })
  }

  /** A certificate for a new key. @throws Error that says why there is none */
  async issue(): Promise<WorkloadCertificate> {
    await this.#cluster.warm()
    const { tokenFile, clusterId = 'Kubernetes' } = this.#options
    const token = (await readFile(tokenFile, 'utf8')).trim()
    if (!/^[\x21-\x7e]+$/.test(token)) throw new Error(`${tokenFile} holds no token`)
    const { csr, privateKey } = await createSigningRequest(this.identity)
    const metadata = new Headers(['authorization', `Bearer ${token}`, 'clusterid', clusterId])
    const answer = await this.#client.unary(createCertificate, { csr, validityS: VALIDITY_S }, { metadata })
    if (!answer.ok) throw new Error(`the CA answered ${answer.status.code}: ${answer.status.message}`)
    const expected = { identity: this.identity, privateKey, nowMs: this.#clock.wall() }
    return readCertificate(answer.message.chain, expected)
  }

  async close(): Promise<void> {
    this.#cluster.destroy()
    await this.#cluster.drained()
    this.#wheel.close()
    this.#dns[Symbol.dispose]()
  }
}

function clusterOf(options: WorkloadIdentityOptions, roots: string): ClusterConfig {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(options.caAddress)
  const port = Number(match?.[3])
  if (match === null || port === 0 || port > 65_535) {
    throw new Error(`caAddress must be host:port, is "${options.caAddress}"`)
  }
  const host = match[1] ?? match[2]
  const name = options.caName ?? host
  const kind = isIP(name) === 0 ? 'dns' : 'ip'
  const problems = checkTls({
    ...meshClientTls({ certificateChain: '', privateKey: '', trustedCa: roots }, []),
    certificates: [],
  })
  if (problems.length > 0) throw new Error(`${options.rootsFile} ${problems[0].message}`)
  const tls = meshClientTls({ certificateChain: '', privateKey: '', trustedCa: roots }, [])
  return {
    name: 'workload CA',
    statName: 'workload_ca',
    type: isIP(host) === 0 ? 'strict-dns' : 'static',
    localities: [
      {
        priority: 0,
        endpoints: [{ address: { kind: 'ip', host, port }, weight: 1, health: 'healthy' }],
      },
    ],
    ...(isIP(host) === 0 && { dns: DNS }),
    balancer: { kind: 'round-robin' },
    connectTimeoutMs: 5_000,
    bufferLimitBytes: 1024 * 1024,
    thresholds: { default: WIDE, high: WIDE },
    idleTimeoutMs: 60_000,
    maxResponseHeaderBytes: 16 * 1024,
    maxResponseHeaders: 100,
    protocol: 'http2',
    http1: { headerCase: 'lower', enableTrailers: false },
    http2: ENVOY_HTTP2,
    // The CA has a certificate; we have yet to get ours.
    tls: {
      ...tls,
      certificates: [],
      sni: kind === 'dns' ? name : '',
      validation: {
        trustedCa: roots,
        systemRoots: false,
        acceptUntrusted: false,
        sans: [{ type: kind, match: { kind: 'exact', value: name } }],
      },
    },
    preconnectRatio: 1,
  }
}

const DNS = Object.freeze({
  refreshMs: 5_000,
  failureRefreshMs: 5_000,
  failureRefreshMaxMs: 50_000,
  jitterMs: 0,
  respectTtl: true,
  family: 'auto',
  resolvers: [],
} as const)

const SILENT = Object.freeze({ debug() {}, info() {}, warn() {}, error() {} })
