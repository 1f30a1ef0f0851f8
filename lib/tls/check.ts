import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { compileString } from '../match/string.ts'
import { cipherNames } from './cipher-suites.ts'
import type {
  CertificateConfig,
  CertificateValidationConfig,
  DownstreamTlsConfig,
  UpstreamTlsConfig,
} from './config.ts'
import { contextOptions, verifiesChain } from './context.ts'
import { unknownGroups } from './groups.ts'
import { CERTIFICATE_LABEL, CRL_LABEL, hasUnended, pemBlocks } from './pem.ts'

/** One mistake; `path` is relative to the TLS configuration (`certificates[0].privateKey`), '' for the whole of it. */
export interface TlsProblem {
  readonly path: string
  readonly message: string
}

/**
 * Everything that could keep a TLS configuration from being compiled on this runtime: certificates, keys, authorities and
 * revocation lists are parsed, names of ciphers and groups looked up. What passes compiles. Secrets are never quoted.
 */
export function checkTls(config: DownstreamTlsConfig | UpstreamTlsConfig): readonly TlsProblem[] {
  const problems: TlsProblem[] = []
  const server = 'requireClientCertificate' in config
  if (server && config.certificates.length === 0) problem(problems, 'certificates', 'a server needs a certificate')
  if (!server && config.certificates.length > 1) {
    problem(problems, 'certificates', 'a client presents one certificate, not several')
  }
  config.certificates.forEach((certificate, i) => {
    checkCertificate(certificate, `certificates[${i}]`, problems)
  })
  checkVersions(config, problems)
  checkNames(config, problems)
  if (config.validation !== undefined) checkValidation(config.validation, problems)
  if (problems.length > 0) return problems
  try {
    const options = contextOptions(config, [])
    createSecureContext(options)
    // Each for itself: of several with one key type a context keeps the last, and its error would hide the others. Without
    // the authorities, of which the system has so many that they take 20 ms.
    const { ca: _, crl: __, ...own } = options
    for (const { certificateChain, privateKey: pem, passphrase } of config.certificates) {
      createSecureContext({ ...own, ca: [], cert: certificateChain, key: [{ pem, passphrase }] })
    }
  } catch (error) {
    problem(problems, '', reason(error))
  }
  return problems
}

function problem(problems: TlsProblem[], path: string, message: string): void {
  problems.push({ path, message })
}

/** OpenSSL's own words, without its codes: `ee key too small`. */
function reason(error: unknown): string {
  const { message, reason: short } = error as { message: string; reason?: string }
  return short ?? message.replace(/^error:[0-9A-F]+:/, '')
}

function checkCertificate(certificate: CertificateConfig, path: string, problems: TlsProblem[]): void {
  const chain = checkCertificates(certificate.certificateChain, `${path}.certificateChain`, problems)
  const key = checkKey(certificate, path, problems)
  if (chain === undefined || key === undefined) return
  if (!chain[0].checkPrivateKey(key)) {
    problem(problems, `${path}.privateKey`, 'does not belong to the first certificate of the chain')
    return
  }
  try {
    const { certificateChain: cert, privateKey: pem, passphrase } = certificate
    createSecureContext({ cert, key: [{ pem, passphrase }], ca: [] })
  } catch (error) {
    problem(problems, `${path}.certificateChain`, `cannot be used: ${reason(error)}`)
  }
}

function checkCertificates(pem: string, path: string, problems: TlsProblem[]): X509Certificate[] | undefined {
  const blocks = pemBlocks(pem, CERTIFICATE_LABEL)
  if (blocks.length === 0) {
    problem(problems, path, 'holds no PEM certificate')
    return undefined
  }
  if (hasUnended(pem, CERTIFICATE_LABEL)) problem(problems, path, 'has a certificate without an end')
  const certificates: X509Certificate[] = []
  for (const [i, block] of blocks.entries()) {
    try {
      certificates.push(new X509Certificate(block))
    } catch {
      problem(problems, path, `certificate ${i + 1} of ${blocks.length} cannot be parsed`)
      return undefined
    }
  }
  return certificates
}

function checkKey(certificate: CertificateConfig, path: string, problems: TlsProblem[]): KeyObject | undefined {
  const { privateKey: key, passphrase } = certificate
  try {
    return createPrivateKey(passphrase === undefined ? { key } : { key, passphrase })
  } catch (error) {
    const { code } = error as { code?: string }
    if (passphrase === undefined && key.includes('ENCRYPTED'))
      problem(problems, `${path}.passphrase`, 'the private key is encrypted')
    else if (code === 'ERR_OSSL_BAD_DECRYPT') problem(problems, `${path}.passphrase`, 'does not open the private key')
    else problem(problems, `${path}.privateKey`, 'cannot be parsed as a PEM private key')
    return undefined
  }
}

function checkVersions(config: DownstreamTlsConfig | UpstreamTlsConfig, problems: TlsProblem[]): void {
  if (config.minVersion > config.maxVersion) {
    problem(problems, 'minVersion', `${config.minVersion} is above the maximum, ${config.maxVersion}`)
  }
}

function checkNames(config: DownstreamTlsConfig | UpstreamTlsConfig, problems: TlsProblem[]): void {
  config.cipherSuites?.forEach((entry, i) => {
    const found = cipherNames(entry)
    if ('unknown' in found) problem(problems, `cipherSuites[${i}]`, `unknown cipher "${found.unknown}"`)
  })
  for (const i of unknownGroups(config.groups)) {
    problem(problems, `groups[${i}]`, `unknown group "${config.groups[i]}"`)
  }
  config.alpn.forEach((name, i) => {
    const bytes = Buffer.byteLength(name)
    if (bytes === 0 || bytes > 255) problem(problems, `alpn[${i}]`, 'must be 1 to 255 bytes long')
  })
  if (config.alpn.reduce((sum, name) => sum + 1 + Buffer.byteLength(name), 0) > 0xffff) {
    problem(problems, 'alpn', 'is longer than 65,535 bytes')
  }
}

function checkValidation(validation: CertificateValidationConfig, problems: TlsProblem[]): void {
  const { trustedCa, crl, sans } = validation
  if (trustedCa !== undefined) {
    checkCertificates(trustedCa, 'validation.trustedCa', problems)
    checkRevocation(trustedCa, 'validation.trustedCa', problems)
  }
  if (crl !== undefined) {
    if (pemBlocks(crl, CRL_LABEL).length === 0) {
      problem(problems, 'validation.crl', 'holds no PEM revocation list (X509 CRL)')
    }
    checkRevocation(crl, 'validation.crl', problems)
  }
  if (!verifiesChain(validation)) {
    // Names in certificates that anyone can issue prove nothing; Envoy refuses both as well.
    if (sans.length > 0)
      problem(problems, 'validation.sans', 'needs trusted authorities: without them names prove nothing')
    if (crl !== undefined) problem(problems, 'validation.crl', 'needs trusted authorities')
  }
  sans.forEach(({ match }, i) => {
    try {
      compileString(match)
    } catch (error) {
      problem(problems, `validation.sans[${i}].match`, (error as Error).message)
    }
  })
}

function checkRevocation(pem: string, path: string, problems: TlsProblem[]): void {
  const lists = pemBlocks(pem, CRL_LABEL)
  if (hasUnended(pem, CRL_LABEL)) problem(problems, path, 'has a revocation list without an end')
  for (const [i, list] of lists.entries()) {
    try {
      createSecureContext({ crl: list, ca: [] })
    } catch {
      problem(problems, path, `list ${i + 1} of ${lists.length} cannot be parsed`)
    }
  }
}
