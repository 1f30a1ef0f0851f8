import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { type Cancel, type Clock, systemClock } from '../core/clock.ts'
import { Headers } from '../core/headers.ts'
import type { Log } from '../core/metrics.ts'
import { checkTls } from '../tls/check.ts'
import { type MeshMaterial, meshClientTls, SPIFFE_ID } from '../tls/mesh.ts'
import { readCertificate, type WorkloadCertificate } from './certificate.ts'
import { createCertificate } from './istio-ca.ts'
import { PrivateCluster, type PrivateClusterOptions } from './private-cluster.ts'
import { createSigningRequest } from './signing-request.ts'

/** How often it is looked whether the certificate is old, and how long a CA that failed is left alone. */
const CHECK_MS = 30_000
const CALL_MS = 10_000
const VALIDITY_S = 86_400

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
  /**
   * A certificate of before, if there is one: used as it is in the first half of its life, and later where the CA does not
   * answer. Default: none.
   */
  readonly kept?: (identity: string) => WorkloadCertificate | undefined
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
  const { kept: find, clock = systemClock, log } = options
  const kept = find?.(ca.identity)
  if (kept !== undefined && clock.wall() < kept.renewAtMs) return new WorkloadIdentity(kept, ca, options)
  try {
    return new WorkloadIdentity(await ca.issue(), ca, options)
  } catch (error) {
    if (kept !== undefined) {
      const why = error instanceof Error ? error.message : String(error)
      log?.warn('the workload certificate could not be renewed', { identity: ca.identity, error: why })
      return new WorkloadIdentity(kept, ca, options)
    }
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
  readonly #service: PrivateCluster

  constructor(options: WorkloadIdentityOptions, roots: string) {
    const { clock = systemClock, log = SILENT, caAddress } = options
    this.identity = identityOf(options)
    this.#options = options
    this.#clock = clock
    this.#service = new PrivateCluster({
      name: 'workload CA',
      ...peerOf(options, roots),
      authority: caAddress,
      timeoutMs: CALL_MS,
      clock,
      log,
    })
  }

  /** A certificate for a new key. @throws Error that says why there is none */
  async issue(): Promise<WorkloadCertificate> {
    await this.#service.warm()
    const { tokenFile, clusterId = 'Kubernetes' } = this.#options
    const token = (await readFile(tokenFile, 'utf8')).trim()
    if (!/^[\x21-\x7e]+$/.test(token)) throw new Error(`${tokenFile} holds no token`)
    const { csr, privateKey } = await createSigningRequest(this.identity)
    const metadata = new Headers(['authorization', `Bearer ${token}`, 'clusterid', clusterId])
    const { client } = this.#service
    const answer = await client.unary(createCertificate, { csr, validityS: VALIDITY_S }, { metadata })
    if (!answer.ok) throw new Error(`the CA answered ${answer.status.code}: ${answer.status.message}`)
    const expected = { identity: this.identity, privateKey, nowMs: this.#clock.wall() }
    return readCertificate(answer.message.chain, expected)
  }

  close(): Promise<void> {
    return this.#service.close()
  }
}

function identityOf({ trustDomain = 'cluster.local', namespace, serviceAccount }: WorkloadIdentityOptions): string {
  const identity = `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`
  if (!SPIFFE_ID.test(identity)) throw new Error(`"${identity}" is no SPIFFE ID`)
  return identity
}

/** Where the CA is, and what its certificate must be. */
function peerOf(options: WorkloadIdentityOptions, roots: string): Pick<PrivateClusterOptions, 'address' | 'tls'> {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(options.caAddress)
  const port = Number(match?.[3])
  if (match === null || port === 0 || port > 65_535) {
    throw new Error(`caAddress must be host:port, is "${options.caAddress}"`)
  }
  const host = match[1] ?? match[2]
  const name = options.caName ?? host
  const kind = isIP(name) === 0 ? 'dns' : 'ip'
  // The CA has a certificate; we have yet to get ours.
  const tls = { ...meshClientTls({ certificateChain: '', privateKey: '', trustedCa: roots }, []), certificates: [] }
  const problems = checkTls(tls)
  if (problems.length > 0) throw new Error(`${options.rootsFile} ${problems[0].message}`)
  return {
    address: { kind: 'ip', host, port },
    tls: {
      ...tls,
      sni: kind === 'dns' ? name : '',
      validation: {
        trustedCa: roots,
        systemRoots: false,
        acceptUntrusted: false,
        sans: [{ type: kind, match: { kind: 'exact', value: name } }],
      },
    },
  }
}

const SILENT = Object.freeze({ debug() {}, info() {}, warn() {}, error() {} })
