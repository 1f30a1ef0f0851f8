import { indexPath } from '../../../proto/path.ts'
import type {
  CertificateConfig,
  CertificateValidationConfig,
  DownstreamTlsConfig,
  UpstreamTlsConfig,
} from '../../../tls/config.ts'
import { TLS_GROUPS, TLS_HANDSHAKE_MS } from '../../defaults.ts'
import type { HttpConnectionManagerConfig } from '../../listener.ts'
import type {
  NativeCertificate,
  NativeCertificateValidation,
  NativeDownstreamTls,
  NativePem,
  NativeUpstreamTls,
} from '../tls.ts'
import { readStringMatch } from './matches.ts'
import type { Reading } from './reading.ts'

const SESSION_KEYS = 1

const DOWNSTREAM_ALPN: Readonly<Record<HttpConnectionManagerConfig['codec'], readonly string[]>> = {
  auto: ['h2', 'http/1.1'],
  http1: ['http/1.1'],
  http2: ['h2'],
}

/** Where a part of a configuration stands. */
interface Part {
  readonly path: string
  readonly reading: Reading
}

export function readDownstreamTls(
  tls: NativeDownstreamTls,
  codec: HttpConnectionManagerConfig['codec'],
  { path, reading }: Part,
): DownstreamTlsConfig {
  const { certificates, validation } = tls
  return reading.origins.at(path, {
    certificates: certificates
      .map((entry, i) => readCertificate(entry, indexPath(`${path}.certificates`, i), reading))
      .filter((certificate) => certificate !== undefined),
    ...readProtocols(tls, DOWNSTREAM_ALPN[codec]),
    ...(validation && { validation: readValidation(validation, `${path}.validation`, reading) }),
    requireClientCertificate: tls.requireClientCertificate ?? validation !== undefined,
    handshakeTimeoutMs: tls.handshakeTimeoutMs ?? TLS_HANDSHAKE_MS,
    sessionTickets: tls.sessionTickets ?? true,
  })
}

export function readUpstreamTls(tls: NativeUpstreamTls, { path, reading }: Part): UpstreamTlsConfig {
  const certificate = tls.certificate && readCertificate(tls.certificate, `${path}.certificate`, reading)
  const validation = readValidation(tls.validation ?? {}, `${path}.validation`, reading)
  return reading.origins.at(path, {
    // There is one at most: its mistakes are those of `certificate`, whatever its index here.
    certificates: certificate === undefined ? [] : reading.origins.at(`${path}.certificate`, [certificate]),
    // Without a list each pool offers what it speaks.
    ...readProtocols(tls, []),
    validation,
    sni: tls.sni ?? '',
    autoSni: tls.autoSni ?? (tls.sni === undefined ? 'host' : 'none'),
    autoSanValidation: tls.autoSanValidation ?? (validation.sans.length === 0 && !validation.acceptUntrusted),
    maxSessionKeys: tls.maxSessionKeys ?? SESSION_KEYS,
  })
}

type Protocols = Pick<UpstreamTlsConfig, 'alpn' | 'minVersion' | 'maxVersion' | 'cipherSuites' | 'groups'>

function readProtocols(tls: NativeDownstreamTls | NativeUpstreamTls, alpn: readonly string[]): Protocols {
  const { cipherSuites } = tls
  return {
    alpn: [...(tls.alpn ?? alpn)],
    minVersion: tls.minVersion ?? 'TLSv1.2',
    maxVersion: tls.maxVersion ?? 'TLSv1.3',
    ...(cipherSuites && { cipherSuites: [...cipherSuites] }),
    groups: [...(tls.groups ?? TLS_GROUPS)],
  }
}

/** Undefined, and a mistake, where a file of it cannot be read. */
function readCertificate(value: NativeCertificate, path: string, reading: Reading): CertificateConfig | undefined {
  const certificateChain = readPem(value.certificateChain, `${path}.certificateChain`, reading)
  const privateKey = readPem(value.privateKey, `${path}.privateKey`, reading)
  const { passphrase } = value
  if (certificateChain === undefined || privateKey === undefined) return undefined
  return reading.origins.at(path, { certificateChain, privateKey, ...(passphrase !== undefined && { passphrase }) })
}

function readValidation(
  value: NativeCertificateValidation,
  path: string,
  reading: Reading,
): CertificateValidationConfig {
  const trustedCa = value.trustedCa && readPem(value.trustedCa, `${path}.trustedCa`, reading)
  const crl = value.crl && readPem(value.crl, `${path}.crl`, reading)
  return reading.origins.at(path, {
    ...(trustedCa !== undefined && { trustedCa }),
    systemRoots: value.systemRoots ?? trustedCa === undefined,
    sans: (value.sans ?? []).map(({ type, match }, i) => {
      const at = indexPath(`${path}.sans`, i)
      return reading.origins.at(at, { type, match: readStringMatch(match, `${at}.match`, reading) })
    }),
    acceptUntrusted: value.acceptUntrusted ?? false,
    ...(crl !== undefined && { crl }),
  })
}

function readPem(value: NativePem, path: string, { findings, readFile }: Reading): string | undefined {
  if (typeof value === 'string') return value
  try {
    return readFile(value.file).toString('utf8')
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    findings.error(`${path}.file`, `cannot read "${value.file}": ${why}`)
    return undefined
  }
}
