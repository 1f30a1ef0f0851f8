import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import type { CertificateConfig } from './config.ts'
import { CERTIFICATE_LABEL, hasUnended, pemBlocks } from './pem.ts'

/** Collects mistakes. */
export interface CertificateProblems {
  add(path: string, message: string): void
}

/** OpenSSL's own words, without its codes: `ee key too small`. */
export function opensslReason(error: unknown): string {
  const { message, reason: short } = error as { message: string; reason?: string }
  return short ?? message.replace(/^error:[0-9A-F]+:/, '')
}

/** Whether a certificate and its key can be read, belong together and may be used. Answers its leaf, where it can be read. */
export function checkCertificate(
  certificate: CertificateConfig,
  path: string,
  problems: CertificateProblems,
): X509Certificate | undefined {
  const chain = checkCertificates(certificate.certificateChain, `${path}.certificateChain`, problems)
  const key = checkKey(certificate, path, problems)
  if (chain === undefined || key === undefined) return undefined
  if (!chain[0].checkPrivateKey(key)) {
    problems.add(`${path}.privateKey`, 'does not belong to the first certificate of the chain')
    return undefined
  }
  try {
    const { certificateChain: cert, privateKey: pem, passphrase } = certificate
    createSecureContext({ cert, key: [{ pem, passphrase }], ca: [] })
  } catch (error) {
    problems.add(`${path}.certificateChain`, `cannot be used: ${opensslReason(error)}`)
    return undefined
  }
  return chain[0]
}

/** All certificates of a PEM text; undefined where one of them cannot be read, or there is none. */
export function checkCertificates(
  pem: string,
  path: string,
  problems: CertificateProblems,
): X509Certificate[] | undefined {
  const blocks = pemBlocks(pem, CERTIFICATE_LABEL)
  if (blocks.length === 0) {
    problems.add(path, 'holds no PEM certificate')
    return undefined
  }
  if (hasUnended(pem, CERTIFICATE_LABEL)) problems.add(path, 'has a certificate without an end')
  const certificates: X509Certificate[] = []
  for (const [i, block] of blocks.entries()) {
    try {
      certificates.push(new X509Certificate(block))
    } catch {
      problems.add(path, `certificate ${i + 1} of ${blocks.length} cannot be parsed`)
      return undefined
    }
  }
  return certificates
}

function checkKey(certificate: CertificateConfig, path: string, problems: CertificateProblems): KeyObject | undefined {
  const { privateKey: key, passphrase } = certificate
  try {
    return createPrivateKey(passphrase === undefined ? { key } : { key, passphrase })
  } catch (error) {
    const { code } = error as { code?: string }
    if (passphrase === undefined && key.includes('ENCRYPTED'))
      problems.add(`${path}.passphrase`, 'the private key is encrypted')
    else if (code === 'ERR_OSSL_BAD_DECRYPT') problems.add(`${path}.passphrase`, 'does not open the private key')
    else problems.add(`${path}.privateKey`, 'cannot be parsed as a PEM private key')
    return undefined
  }
}
