import { createSecureContext } from 'node:tls'
import { compileString } from '../match/string.ts'
import { type CertificateProblems, checkCertificates } from './check-certificate.ts'
import type { CertificateValidationConfig } from './config.ts'
import { revocationLists, verifiesChain } from './context.ts'
import { CRL_LABEL, hasUnended, pemBlocks } from './pem.ts'
import { LeafRevocations, leafLists, PathRevocations } from './revocation.ts'

const PATH = 'validation'

/** What is wrong with how peers are checked. */
export function checkValidation(validation: CertificateValidationConfig, problems: CertificateProblems): void {
  const { trustedCa, crl } = validation
  if (trustedCa !== undefined) {
    checkCertificates(trustedCa, `${PATH}.trustedCa`, problems)
    checkRevocation(trustedCa, `${PATH}.trustedCa`, problems)
  }
  if (crl !== undefined) {
    if (pemBlocks(crl, CRL_LABEL).length === 0) {
      problems.add(`${PATH}.crl`, 'holds no PEM revocation list (X509 CRL)')
    }
    checkRevocation(crl, `${PATH}.crl`, problems)
  }
  checkDomains(validation, problems)
  checkCombination(validation, problems)
  checkPins(validation, problems)
  checkSans(validation, problems)
}

function checkDomains({ trustDomains }: CertificateValidationConfig, problems: CertificateProblems): void {
  if (trustDomains === undefined) return
  if (trustDomains.length === 0) problems.add(`${PATH}.trustDomains`, 'names no trust domain')
  const seen = new Set<string>()
  trustDomains.forEach(({ name, trustedCa }, i) => {
    const path = `${PATH}.trustDomains[${i}]`
    if (!/^[a-z0-9._-]{1,255}$/.test(name)) problems.add(`${path}.name`, `"${name}" is no name of a trust domain`)
    if (seen.has(name)) problems.add(`${path}.name`, `"${name}" is there twice`)
    seen.add(name)
    checkCertificates(trustedCa, `${path}.trustedCa`, problems)
  })
}

function checkCombination(validation: CertificateValidationConfig, problems: CertificateProblems): void {
  const { crl, sans, trustDomains, trustedCa, systemRoots, allowExpired, leafCrlOnly, maxDepth } = validation
  if (trustDomains !== undefined && (trustedCa !== undefined || systemRoots)) {
    problems.add(`${PATH}.trustDomains`, 'cannot be used beside other authorities')
  }
  if (!verifiesChain(validation)) {
    // Names in certificates that anyone can issue prove nothing; Envoy refuses both as well.
    if (sans.length > 0) {
      problems.add(`${PATH}.sans`, 'needs trusted authorities: without them names prove nothing')
    }
    if (crl !== undefined) problems.add(`${PATH}.crl`, 'needs trusted authorities')
    if (allowExpired === true) problems.add(`${PATH}.allowExpired`, 'needs trusted authorities')
  }
  if (allowExpired === true && leafCrlOnly !== true) checkPathLists(validation, problems)
  if (leafCrlOnly === true && leafLists(validation) !== '') checkLeafLists(validation, problems)
  if (maxDepth !== undefined && (!Number.isInteger(maxDepth) || maxDepth < 0)) {
    problems.add(`${PATH}.maxDepth`, `${maxDepth} is no number of certificates`)
  }
}

/** What the runtime alone is asked of without `allowExpired` has to be understood here. */
function checkPathLists(validation: CertificateValidationConfig, problems: CertificateProblems): void {
  try {
    new PathRevocations(revocationLists(validation))
  } catch (error) {
    problems.add(`${PATH}.crl`, (error as Error).message)
  }
}

function checkLeafLists(validation: CertificateValidationConfig, problems: CertificateProblems): void {
  try {
    new LeafRevocations(leafLists(validation), validation.trustedCa ?? '')
  } catch (error) {
    problems.add(`${PATH}.crl`, (error as Error).message)
  }
}

function checkPins({ hashes = [], spkis = [] }: CertificateValidationConfig, problems: CertificateProblems): void {
  hashes.forEach((hash, i) => {
    if (!/^[0-9a-f]{64}$/.test(hash)) problems.add(`${PATH}.hashes[${i}]`, 'is no SHA-256 in hexadecimal')
  })
  spkis.forEach((pin, i) => {
    const bytes = Buffer.from(pin, 'base64')
    if (bytes.length !== 32 || bytes.toString('base64') !== pin) {
      problems.add(`${PATH}.spkis[${i}]`, 'is no SHA-256 in base64')
    }
  })
}

function checkSans({ sans }: CertificateValidationConfig, problems: CertificateProblems): void {
  sans.forEach(({ type, oid, match }, i) => {
    const path = `${PATH}.sans[${i}]`
    if (type === 'other' && !/^[0-2](?:\.(?:0|[1-9]\d{0,9}))+$/.test(oid ?? '')) {
      problems.add(`${path}.oid`, `"${oid ?? ''}" is no object identifier`)
    }
    try {
      compileString(match)
    } catch (error) {
      problems.add(`${path}.match`, (error as Error).message)
    }
  })
}

function checkRevocation(pem: string, path: string, problems: CertificateProblems): void {
  const lists = pemBlocks(pem, CRL_LABEL)
  if (hasUnended(pem, CRL_LABEL)) problems.add(path, 'has a revocation list without an end')
  for (const [i, list] of lists.entries()) {
    try {
      createSecureContext({ crl: list, ca: [] })
    } catch {
      problems.add(path, `list ${i + 1} of ${lists.length} cannot be parsed`)
    }
  }
}
