import type { CidrConfig } from '../../../match/config.ts'
import { indexPath } from '../../../proto/path.ts'
import type {
  CertificateConfig,
  CertificateValidationConfig,
  DownstreamTlsConfig,
  TrustDomainConfig,
  UpstreamTlsConfig,
} from '../../../tls/config.ts'
import { openPkcs12 } from '../../../tls/pkcs12.ts'
import { TLS_GROUPS, TLS_HANDSHAKE_MS } from '../../defaults.ts'
import type { HttpConnectionManagerConfig } from '../../listener.ts'
import type { NativeCidr } from '../matches.ts'
import type {
  NativeBytes,
  NativeCertificate,
  NativeCertificateValidation,
  NativeDownstreamTls,
  NativePem,
  NativePemCertificate,
  NativePkcs12,
  NativeUpstreamTls,
} from '../tls.ts'
import { readCidr } from './addresses.ts'
import { readStringMatch } from './matches.ts'
import { defined, type Reading } from './reading.ts'

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

/** `codec`: what HTTP on it speaks; undefined where there is none, and nothing to negotiate unless `alpn` is set. */
export function readDownstreamTls(
  tls: NativeDownstreamTls,
  codec: HttpConnectionManagerConfig['codec'] | undefined,
  { path, reading }: Part,
): DownstreamTlsConfig {
  const { certificates, validation } = tls
  return reading.origins.at(path, {
    certificates: certificates
      .map((entry, i) => readCertificate(entry, indexPath(`${path}.certificates`, i), reading))
      .filter((certificate) => certificate !== undefined),
    ...readProtocols(tls, codec === undefined ? [] : DOWNSTREAM_ALPN[codec], { path, reading }),
    ...(validation && { validation: readValidation(validation, `${path}.validation`, reading) }),
    requireClientCertificate: tls.requireClientCertificate ?? validation !== undefined,
    handshakeTimeoutMs: tls.handshakeTimeoutMs ?? TLS_HANDSHAKE_MS,
    sessionTickets: tls.sessionTickets ?? true,
    ...readServerRules(tls, { path, reading }),
  })
}

export function readUpstreamTls(tls: NativeUpstreamTls, { path, reading }: Part): UpstreamTlsConfig {
  const certificate = tls.certificate && readCertificate(tls.certificate, `${path}.certificate`, reading)
  const validation = readValidation(tls.validation ?? {}, `${path}.validation`, reading)
  return reading.origins.at(path, {
    // There is one at most: its mistakes are those of `certificate`, whatever its index here.
    certificates: certificate === undefined ? [] : reading.origins.at(`${path}.certificate`, [certificate]),
    // Without a list each pool offers what it speaks.
    ...readProtocols(tls, [], { path, reading }),
    validation,
    sni: tls.sni ?? '',
    autoSni: tls.autoSni ?? (tls.sni === undefined ? 'host' : 'none'),
    autoSanValidation: tls.autoSanValidation ?? demandsName(validation),
    maxSessionKeys: tls.maxSessionKeys ?? SESSION_KEYS,
  })
}

/** Names that are listed, and SPIFFE IDs, stand in the place of the server's; of strangers no name is demanded. */
function demandsName({ sans, acceptUntrusted, trustDomains }: CertificateValidationConfig): boolean {
  return sans.length === 0 && !acceptUntrusted && trustDomains === undefined
}

type ServerRules = Partial<
  Pick<
    DownstreamTlsConfig,
    'ticketKeys' | 'sessionTimeoutS' | 'requireSni' | 'fullScan' | 'preferClientCiphers' | 'ocspPolicy'
  >
>

function readServerRules(tls: NativeDownstreamTls, { path, reading }: Part): ServerRules {
  const { ticketKeys, sessionTimeoutS, requireSni, fullScan, preferClientCiphers, ocspPolicy } = tls
  const keys = ticketKeys?.map((key, i) => readBytes(key, indexPath(`${path}.ticketKeys`, i), reading))
  return defined({
    ticketKeys: keys?.filter((key) => key !== undefined).map((key) => key.toString('base64')),
    sessionTimeoutS,
    requireSni,
    fullScan,
    preferClientCiphers,
    ocspPolicy,
  })
}

type Protocols = Pick<
  UpstreamTlsConfig,
  'alpn' | 'minVersion' | 'maxVersion' | 'cipherSuites' | 'groups' | 'signatureAlgorithms' | 'keyLog'
>

function readProtocols(
  tls: NativeDownstreamTls | NativeUpstreamTls,
  alpn: readonly string[],
  { path, reading }: Part,
): Protocols {
  const { cipherSuites, signatureAlgorithms, keyLog } = tls
  const ranges = (list: readonly NativeCidr[] | undefined, at: string): CidrConfig[] =>
    (list ?? []).map((range, i) => readCidr(range, indexPath(at, i), reading))
  return {
    alpn: [...(tls.alpn ?? alpn)],
    minVersion: tls.minVersion ?? 'TLSv1.2',
    maxVersion: tls.maxVersion ?? 'TLSv1.3',
    ...(cipherSuites && { cipherSuites: [...cipherSuites] }),
    groups: [...(tls.groups ?? TLS_GROUPS)],
    ...(signatureAlgorithms && { signatureAlgorithms: [...signatureAlgorithms] }),
    ...(keyLog && {
      keyLog: {
        path: keyLog.path,
        localRanges: ranges(keyLog.localRanges, `${path}.keyLog.localRanges`),
        remoteRanges: ranges(keyLog.remoteRanges, `${path}.keyLog.remoteRanges`),
      },
    }),
  }
}

/** Undefined, and a mistake, where a file of it cannot be read. */
export function readCertificate(
  value: NativeCertificate,
  path: string,
  reading: Reading,
): CertificateConfig | undefined {
  const pair = 'pkcs12' in value ? readPkcs12(value, path, reading) : readPair(value, path, reading)
  const { ocspStaple } = value
  const staple = ocspStaple === undefined ? undefined : readBytes(ocspStaple, `${path}.ocspStaple`, reading)
  if (pair === undefined) return undefined
  return reading.origins.at(path, { ...pair, ...(staple && { ocspStaple: staple.toString('base64') }) })
}

function readPair(value: NativePemCertificate, path: string, reading: Reading): CertificateConfig | undefined {
  const certificateChain = readPem(value.certificateChain, `${path}.certificateChain`, reading)
  const privateKey = readPem(value.privateKey, `${path}.privateKey`, reading)
  const { passphrase } = value
  if (certificateChain === undefined || privateKey === undefined) return undefined
  return { certificateChain, privateKey, ...(passphrase !== undefined && { passphrase }) }
}

function readPkcs12(value: NativePkcs12, path: string, reading: Reading): CertificateConfig | undefined {
  const bytes = readBytes(value.pkcs12, `${path}.pkcs12`, reading)
  if (bytes === undefined) return undefined
  try {
    return openPkcs12(bytes, value.passphrase)
  } catch (error) {
    reading.findings.error(`${path}.pkcs12`, (error as Error).message)
    return undefined
  }
}

function readValidation(
  value: NativeCertificateValidation,
  path: string,
  reading: Reading,
): CertificateValidationConfig {
  const trustedCa = value.trustedCa && readPem(value.trustedCa, `${path}.trustedCa`, reading)
  const crl = value.crl && readPem(value.crl, `${path}.crl`, reading)
  const pinned = value.hashes !== undefined || value.spkis !== undefined
  const { leafCrlOnly, spkis, maxDepth, allowExpired } = value
  const trustDomains = value.trustDomains && readDomains(value.trustDomains, `${path}.trustDomains`, reading)
  return reading.origins.at(path, {
    ...(trustedCa !== undefined && { trustedCa }),
    // Who is listed by name, or comes from a trust domain, is not judged by the authorities of the system as well.
    systemRoots: value.systemRoots ?? (value.trustedCa === undefined && trustDomains === undefined && !pinned),
    sans: (value.sans ?? []).map(({ type, oid, match }, i) => {
      const at = indexPath(`${path}.sans`, i)
      const san = { type, ...(oid !== undefined && { oid }), match: readStringMatch(match, `${at}.match`, reading) }
      return reading.origins.at(at, san)
    }),
    acceptUntrusted: value.acceptUntrusted ?? false,
    ...defined({
      crl,
      leafCrlOnly,
      hashes: value.hashes?.map((hash) => hash.replaceAll(':', '').toLowerCase()),
      spkis: spkis && [...spkis],
      maxDepth,
      allowExpired,
      trustDomains,
    }),
  })
}

function readDomains(
  domains: { readonly [domain: string]: NativePem },
  path: string,
  reading: Reading,
): TrustDomainConfig[] {
  return Object.entries(domains).flatMap(([name, value]) => {
    const trustedCa = readPem(value, `${path}.${name}`, reading)
    return trustedCa === undefined ? [] : [{ name, trustedCa }]
  })
}

/** Undefined, and a mistake, where its file cannot be read. */
export function readPem(value: NativePem, path: string, reading: Reading): string | undefined {
  return typeof value === 'string' ? value : readFileOf(value.file, path, reading)?.toString('utf8')
}

function readBytes(value: NativeBytes, path: string, reading: Reading): Buffer | undefined {
  return typeof value === 'string' ? Buffer.from(value, 'base64') : readFileOf(value.file, path, reading)
}

function readFileOf(file: string, path: string, { findings, readFile }: Reading): Buffer | undefined {
  try {
    return readFile(file)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    findings.error(`${path}.file`, `cannot read "${file}": ${why}`)
    return undefined
  }
}
