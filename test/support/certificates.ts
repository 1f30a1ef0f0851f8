import 'reflect-metadata'
import { createPrivateKey, webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'

/** A certificate with its key, all PEM. `chain` is the leaf and, where it has one, its intermediate. */
export interface Issued {
  readonly chain: string
  readonly key: string
  readonly certificate: x509.X509Certificate
  readonly keys: webcrypto.CryptoKeyPair
}

export type KeyKind = 'ec' | 'rsa'

export interface LeafOptions {
  /** An RFC 2253-like name: `CN=web, O=Example`. */
  readonly subject?: string
  readonly dns?: readonly string[]
  readonly uri?: readonly string[]
  readonly email?: readonly string[]
  readonly ip?: readonly string[]
  readonly key?: KeyKind
  /** Days from now; the default is from yesterday to next month. */
  readonly fromDays?: number
  readonly toDays?: number
  /** Bits of an RSA key. */
  readonly bits?: number
  /** Somebody else's, for a request of theirs; `key` of the answer is then of no use. */
  readonly publicKey?: x509.PublicKey
  /** Extended key usages, dotted; the default is none, which is any. */
  readonly usages?: readonly string[]
  /** Besides those that the other options make. */
  readonly extensions?: readonly x509.Extension[]
}

const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000

function algorithm(kind: KeyKind, bits = 2048): webcrypto.EcKeyGenParams | webcrypto.RsaHashedKeyGenParams {
  if (kind === 'ec') return { name: 'ECDSA', namedCurve: 'P-256' }
  return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', publicExponent: new Uint8Array([1, 0, 1]), modulusLength: bits }
}

function signing(keys: webcrypto.CryptoKeyPair): { name: string; hash: string } {
  return { name: keys.privateKey.algorithm.name, hash: 'SHA-256' }
}

async function makeKeys(kind: KeyKind, bits?: number): Promise<webcrypto.CryptoKeyPair> {
  return (await webcrypto.subtle.generateKey(algorithm(kind, bits) as webcrypto.EcKeyGenParams, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair
}

async function keyPem(keys: webcrypto.CryptoKeyPair): Promise<string> {
  return pem('PRIVATE KEY', Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)))
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').replace(/.{64}(?=.)/g, '$&\n')
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`
}

function certificatePem(certificate: x509.X509Certificate): string {
  return pem('CERTIFICATE', Buffer.from(certificate.rawData))
}

function serial(): string {
  // Positive, and never with a leading zero byte.
  return `4${Buffer.from(webcrypto.getRandomValues(new Uint8Array(8)))
    .toString('hex')
    .slice(1)}`
}

/** A certificate authority made for one test; keys are P-256 unless asked otherwise. */
export class Authority {
  /** PEM of its own certificate: what peers trust. */
  readonly pem: string
  readonly #name: string
  readonly #keys: webcrypto.CryptoKeyPair
  /** PEM of the certificates between a leaf and the root. */
  readonly #between: string

  private constructor(name: string, keys: webcrypto.CryptoKeyPair, pemText: string, between: string) {
    this.#name = name
    this.#keys = keys
    this.pem = pemText
    this.#between = between
  }

  /** A self-signed one. */
  static async create(name = 'CN=Test Root'): Promise<Authority> {
    const keys = await makeKeys('ec')
    const certificate = await x509.X509CertificateGenerator.create({
      ...Authority.#fields(name, name, keys, keys),
      extensions: Authority.#extensions(),
    })
    return new Authority(name, keys, certificatePem(certificate), '')
  }

  static #fields(
    subject: string,
    issuer: string,
    keys: webcrypto.CryptoKeyPair,
    issuerKeys: webcrypto.CryptoKeyPair,
  ): x509.X509CertificateCreateWithKeyParams {
    return {
      serialNumber: serial(),
      subject,
      issuer,
      notBefore: new Date(Date.now() - DAY_MS),
      notAfter: new Date(Date.now() + 30 * DAY_MS),
      publicKey: keys.publicKey,
      signingKey: issuerKeys.privateKey,
      signingAlgorithm: signing(issuerKeys),
    }
  }

  static #extensions(): x509.Extension[] {
    return [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ]
  }

  /** An authority beneath this one; the chains of its leaves hold its certificate. */
  async intermediate(name = 'CN=Test Intermediate'): Promise<Authority> {
    const keys = await makeKeys('ec')
    const certificate = await x509.X509CertificateGenerator.create({
      ...Authority.#fields(name, this.#name, keys, this.#keys),
      extensions: Authority.#extensions(),
    })
    const own = certificatePem(certificate)
    return new Authority(name, keys, own, own + this.#between)
  }

  /** A certificate for servers and clients alike. */
  async issue(options: LeafOptions = {}): Promise<Issued> {
    const keys = await makeKeys(options.key ?? 'ec', options.bits)
    const names: x509.JsonGeneralName[] = [
      ...(options.dns ?? []).map((value) => ({ type: 'dns' as const, value })),
      ...(options.uri ?? []).map((value) => ({ type: 'url' as const, value })),
      ...(options.email ?? []).map((value) => ({ type: 'email' as const, value })),
      ...(options.ip ?? []).map((value) => ({ type: 'ip' as const, value })),
    ]
    const certificate = await x509.X509CertificateGenerator.create({
      ...Authority.#fields(options.subject ?? 'CN=leaf', this.#name, keys, this.#keys),
      ...(options.publicKey && { publicKey: options.publicKey }),
      notBefore: new Date(Date.now() + (options.fromDays ?? -1) * DAY_MS),
      notAfter: new Date(Date.now() + (options.toDays ?? 30) * DAY_MS),
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
        ...(options.usages === undefined ? [] : [new x509.ExtendedKeyUsageExtension([...options.usages])]),
        ...(options.extensions ?? []),
      ],
    })
    return { chain: certificatePem(certificate) + this.#between, key: await keyPem(keys), certificate, keys }
  }

  /** The authority's own key. */
  keyPem(): Promise<string> {
    return keyPem(this.#keys)
  }

  /** A revocation list of these certificates, PEM as OpenSSL wants it. */
  revoke(...revoked: readonly Issued[]): Promise<string> {
    return this.list(revoked)
  }

  /** The same, from and until a day of its own: days from this hour, so that two lists of one day are as of one time. */
  async list(revoked: readonly Issued[], fromDays = -1, untilDays = 30): Promise<string> {
    const hour = Math.floor(Date.now() / HOUR_MS) * HOUR_MS
    const list = await x509.X509CrlGenerator.create({
      issuer: this.#name,
      thisUpdate: new Date(hour + fromDays * DAY_MS),
      nextUpdate: new Date(hour + untilDays * DAY_MS),
      entries: revoked.map(({ certificate }) => ({
        serialNumber: certificate.serialNumber,
        revocationDate: new Date(Date.now() - DAY_MS / 2),
      })),
      signingKey: this.#keys.privateKey,
      signingAlgorithm: signing(this.#keys),
    })
    return pem('X509 CRL', Buffer.from(list.rawData))
  }
}

/** The key of a certificate, locked with a passphrase. */
export function encryptedKey(issued: Issued, passphrase: string): string {
  return createPrivateKey(issued.key)
    .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase })
    .toString()
}
