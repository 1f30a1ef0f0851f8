import { createSecureContext } from 'node:tls'
import { compileCidrs } from '../match/cidr.ts'
import { checkCertificate, opensslReason } from './check-certificate.ts'
import { checkValidation } from './check-validation.ts'
import { cipherNames } from './cipher-suites.ts'
import type { DownstreamTlsConfig, UpstreamTlsConfig } from './config.ts'
import { contextOptions } from './context.ts'
import { groupProblem, unknownGroups } from './groups.ts'
import { stapleProblem } from './ocsp.ts'
import { TICKET_KEY_FILE_BYTES } from './tickets.ts'

/** One mistake; `path` is relative to the TLS configuration (`certificates[0].privateKey`), '' for the whole of it. */
export interface TlsProblem {
  readonly path: string
  readonly message: string
}

class Problems {
  readonly list: TlsProblem[] = []

  add(path: string, message: string): void {
    this.list.push({ path, message })
  }
}

/**
 * Everything that could keep a TLS configuration from being compiled on this runtime: certificates, keys, authorities and
 * revocation lists are parsed, names of ciphers and groups looked up. What passes compiles. Secrets are never quoted.
 */
export function checkTls(config: DownstreamTlsConfig | UpstreamTlsConfig): readonly TlsProblem[] {
  const problems = new Problems()
  const server = 'requireClientCertificate' in config
  // What has not come cannot be looked at; it is when it comes.
  const ready = !isPending(config)
  if (ready && server && config.certificates.length === 0) problems.add('certificates', 'a server needs a certificate')
  if (!server && config.certificates.length > 1) {
    problems.add('certificates', 'a client presents one certificate, not several')
  }
  checkOwn(config, problems)
  if (config.minVersion > config.maxVersion) {
    problems.add('minVersion', `${config.minVersion} is above the maximum, ${config.maxVersion}`)
  }
  checkNames(config, problems)
  if (server) checkTicketKeys(config, problems)
  checkKeyLog(config, problems)
  if (config.validation !== undefined) checkValidation(config.validation, problems)
  if (ready && problems.list.length === 0) checkContext(config, problems)
  return problems.list
}

/** Secrets of it have not come. */
export function isPending({ notReady, secrets }: DownstreamTlsConfig | UpstreamTlsConfig): boolean {
  return notReady === true || secrets !== undefined
}

function checkOwn(config: DownstreamTlsConfig | UpstreamTlsConfig, problems: Problems): void {
  const policy = 'requireClientCertificate' in config ? (config.ocspPolicy ?? 'lenient') : undefined
  config.certificates.forEach((certificate, i) => {
    const path = `certificates[${i}]`
    const leaf = checkCertificate(certificate, path, problems)
    if (leaf === undefined) return
    const type = leaf.publicKey.asymmetricKeyType ?? ''
    if (type.startsWith('ml-dsa') && config.maxVersion === 'TLSv1.2') {
      problems.add(`${path}.certificateChain`, `has a key of the type ${type}, which only TLS 1.3 can use`)
    }
    const staple = policy && stapleProblem(certificate, policy)
    if (staple !== undefined) problems.add(`${path}.ocspStaple`, staple)
  })
}

function checkNames(config: DownstreamTlsConfig | UpstreamTlsConfig, problems: Problems): void {
  config.cipherSuites?.forEach((entry, i) => {
    const found = cipherNames(entry)
    if ('unknown' in found) problems.add(`cipherSuites[${i}]`, `unknown cipher "${found.unknown}"`)
  })
  for (const i of unknownGroups(config.groups)) problems.add(`groups[${i}]`, groupProblem(config.groups[i]))
  config.signatureAlgorithms?.forEach((name, i) => {
    if (!isSignatureAlgorithm(name)) problems.add(`signatureAlgorithms[${i}]`, `unknown signature algorithm "${name}"`)
  })
  config.alpn.forEach((name, i) => {
    const bytes = Buffer.byteLength(name)
    if (bytes === 0 || bytes > 255) problems.add(`alpn[${i}]`, 'must be 1 to 255 bytes long')
  })
  if (config.alpn.reduce((sum, name) => sum + 1 + Buffer.byteLength(name), 0) > 0xffff) {
    problems.add('alpn', 'is longer than 65,535 bytes')
  }
}

/** Anything but a name has a meaning in OpenSSL's list syntax. */
function isSignatureAlgorithm(name: string): boolean {
  if (!/^[a-zA-Z0-9_-]+$/.test(name)) return false
  try {
    createSecureContext({ sigalgs: name, ca: [] })
    return true
  } catch {
    return false
  }
}

function checkTicketKeys({ ticketKeys }: DownstreamTlsConfig, problems: Problems): void {
  if (ticketKeys?.length === 0) problems.add('ticketKeys', 'lists no key')
  ticketKeys?.forEach((key, i) => {
    const { length } = Buffer.from(key, 'base64')
    if (length !== TICKET_KEY_FILE_BYTES) {
      problems.add(`ticketKeys[${i}]`, `is ${length} bytes long; must be ${TICKET_KEY_FILE_BYTES}`)
    }
  })
}

function checkKeyLog({ keyLog }: DownstreamTlsConfig | UpstreamTlsConfig, problems: Problems): void {
  if (keyLog === undefined) return
  if (keyLog.path === '') problems.add('keyLog.path', 'is empty')
  for (const field of ['localRanges', 'remoteRanges'] as const) {
    try {
      compileCidrs(keyLog[field])
    } catch (error) {
      problems.add(`keyLog.${field}`, (error as Error).message)
    }
  }
}

function checkContext(config: DownstreamTlsConfig | UpstreamTlsConfig, problems: Problems): void {
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
    problems.add('', opensslReason(error))
  }
}
