import { systemClock } from '../core/clock.ts'
import { ConfigError, ConfigRefused } from '../core/errors.ts'
import type { Log } from '../core/metrics.ts'
import { readKept, writeCertificate } from '../workload/certificate-directory.ts'
import { createSpiffeIdentity } from '../workload/spiffe-identity.ts'
import {
  createWorkloadIdentity,
  type MaterialSource,
  type WorkloadIdentityOptions,
} from '../workload/workload-identity.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** As Istio mounts them. */
const TOKEN_FILE = '/var/run/secrets/tokens/istio-token'
const ROOTS_FILE = '/var/run/secrets/istio/root-cert.pem'
const CA_ADDRESS = 'istiod.istio-system.svc:15012'

/**
 * Gets the certificate of this workload and keeps it in a directory, from where configurations read it
 * (`cert-chain.pem`, `key.pem`, `root-cert.pem`); each renewal is written there, and taken over as any file that changes.
 * Who the workload is, and who knows it, is in the environment, under the names that Istio's ztunnel and SPIFFE have for it.
 *
 * @throws ConfigRefused where there is no certificate
 */
export async function keepWorkloadCertificate(
  directory: string,
  environment: Environment,
  log: Log,
): Promise<MaterialSource & AsyncDisposable> {
  try {
    const source = await openSource(directory, environment, log)
    try {
      await writeEach(directory, source, log)
    } catch (error) {
      await source[Symbol.asyncDispose]()
      throw error
    }
    return source
  } catch (error) {
    throw new ConfigRefused([new ConfigError('--workload-certs', error instanceof Error ? error.message : `${error}`)])
  }
}

/** Resolves when the certificate is written; those that come meanwhile and later follow one after the other, the last one last. */
export async function writeEach(directory: string, source: MaterialSource, log: Log): Promise<void> {
  const first = writeCertificate(directory, source.material)
  let written = first
  source.onRenewed((next) => {
    written = written
      .then(() => writeCertificate(directory, next))
      .catch((error: unknown) => {
        log.error('a renewed workload certificate could not be written', { directory, error: String(error) })
      })
  })
  await first
}

function openSource(directory: string, environment: Environment, log: Log): Promise<MaterialSource & AsyncDisposable> {
  const endpoint = environment.SPIFFE_ENDPOINT_SOCKET ?? ''
  if (endpoint !== '') {
    if ((environment.CA_ADDRESS ?? '') !== '') {
      throw new Error('give either SPIFFE_ENDPOINT_SOCKET or CA_ADDRESS')
    }
    const id = environment.SPIFFE_ID ?? ''
    return createSpiffeIdentity({ endpoint, log, ...(id !== '' && { id }) })
  }
  return createWorkloadIdentity({
    ...workloadOf(environment),
    log,
    kept: (identity) => readKept(directory, identity, systemClock.wall()),
  })
}

/** @throws Error that names the variables that are missing */
export function workloadOf(environment: Environment): WorkloadIdentityOptions {
  const given = (name: string): string | undefined => environment[name] || undefined
  const namespace = given('POD_NAMESPACE')
  const serviceAccount = given('SERVICE_ACCOUNT')
  const missing = [namespace === undefined && 'POD_NAMESPACE', serviceAccount === undefined && 'SERVICE_ACCOUNT']
  const names = missing.filter((name) => name !== false)
  if (namespace === undefined || serviceAccount === undefined) {
    throw new Error(`${names.join(' and ')} must be set, or SPIFFE_ENDPOINT_SOCKET`)
  }
  const trustDomain = given('TRUST_DOMAIN')
  const clusterId = given('CLUSTER_ID')
  const caName = given('CA_NAME')
  return {
    caAddress: given('CA_ADDRESS') ?? CA_ADDRESS,
    namespace,
    serviceAccount,
    tokenFile: given('CA_TOKEN_FILE') ?? TOKEN_FILE,
    rootsFile: given('CA_ROOT_CA') ?? ROOTS_FILE,
    ...(trustDomain !== undefined && { trustDomain }),
    ...(clusterId !== undefined && { clusterId }),
    ...(caName !== undefined && { caName }),
  }
}
