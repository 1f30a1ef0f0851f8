import { createDecipheriv, createPrivateKey, pbkdf2Sync, X509Certificate } from 'node:crypto'
import { createRequire } from 'node:module'
import { createSecureContext } from 'node:tls'
import type * as Forge from 'node-forge'
import {
  DER,
  type DerElement,
  DerError,
  derChildren,
  derContent,
  derElement,
  derOf,
  derOid,
  derRaw,
  derWhole,
  pemOf,
} from './der.ts'

/** Identifiers of RFC 7292 and RFC 8018. */
const OIDS = Object.freeze({
  data: '1.2.840.113549.1.7.1',
  encryptedData: '1.2.840.113549.1.7.6',
  keyBag: '1.2.840.113549.1.12.10.1.1',
  shroudedKeyBag: '1.2.840.113549.1.12.10.1.2',
  certBag: '1.2.840.113549.1.12.10.1.3',
  x509: '1.2.840.113549.1.9.22.1',
  pbes2: '1.2.840.113549.1.5.13',
  pbkdf2: '1.2.840.113549.1.5.12',
})
const CIPHERS: ReadonlyMap<string, readonly [name: string, keyBytes: number]> = new Map([
  ['2.16.840.1.101.3.4.1.2', ['aes-128-cbc', 16]],
  ['2.16.840.1.101.3.4.1.22', ['aes-192-cbc', 24]],
  ['2.16.840.1.101.3.4.1.42', ['aes-256-cbc', 32]],
])
const DIGESTS: ReadonlyMap<string, string> = new Map([
  ['1.2.840.113549.2.7', 'sha1'],
  ['1.2.840.113549.2.9', 'sha256'],
  ['1.2.840.113549.2.10', 'sha384'],
  ['1.2.840.113549.2.11', 'sha512'],
])

/** Rounds of key derivation that a file may ask for. */
const MAX_ROUNDS = 10_000_000

/** A file that is encrypted in a way of before 2018 (RC2, triple DES). */
class LegacyFile extends Error {}

/** PEM, as a `CertificateConfig` has it. */
export interface OpenedPkcs12 {
  readonly certificateChain: string
  readonly privateKey: string
}

interface Contents {
  readonly keys: string[]
  readonly certificates: Buffer[]
}

/**
 * Opens a PKCS#12 file (RFC 7292): its key, and the certificates from that of the key upwards.
 *
 * @throws Error that says why it cannot be used, without the passphrase
 */
export function openPkcs12(file: Buffer, passphrase = ''): OpenedPkcs12 {
  const contents = readContents(file, passphrase)
  const [privateKey] = contents.keys
  if (privateKey === undefined) throw new Error('holds no private key')
  const key = createPrivateKey(privateKey)
  const certificates = contents.certificates.map((der) => new X509Certificate(der))
  const leaf = certificates.find((certificate) => certificate.checkPrivateKey(key))
  if (leaf === undefined) throw new Error('holds no certificate for its private key')
  const chain = [leaf]
  for (let issuer: X509Certificate | undefined = leaf; issuer !== undefined; ) {
    const below: X509Certificate = issuer
    issuer = certificates.find((one) => !chain.includes(one) && below.checkIssued(one))
    if (issuer !== undefined) chain.push(issuer)
  }
  return { certificateChain: chain.map(String).join(''), privateKey }
}

/** How what is encrypted in a file is opened. */
interface Opener {
  /** `algorithm`: an AlgorithmIdentifier. */
  content(algorithm: DerElement, bytes: Buffer): Buffer
  /** An EncryptedPrivateKeyInfo; answers a PrivateKeyInfo, DER. */
  key(info: DerElement): Buffer
}

function readContents(file: Buffer, passphrase: string): Contents {
  try {
    const contents = readSafe(file, modern(passphrase))
    // The runtime checks that nobody has changed it.
    createSecureContext({ pfx: [{ buf: file, passphrase }], ca: [] })
    return contents
  } catch (error) {
    if (error instanceof LegacyFile) return readLegacy(file, passphrase)
    if (error instanceof DerError) throw new Error('is no PKCS#12 file', { cause: error })
    const { code, message } = error as { readonly code?: string; readonly message: string }
    const wrong = code === 'ERR_OSSL_BAD_DECRYPT' || /mac verify failure|bad decrypt/i.test(message)
    throw new Error(wrong ? 'is not opened by its password' : message, { cause: error })
  }
}

function readSafe(file: Buffer, opener: Opener): Contents {
  const contents: Contents = { keys: [], certificates: [] }
  const [, safe] = derChildren(derWhole(file, DER.sequence))
  const [type, tagged] = derOf(safe, DER.sequence)
  if (derOid(type) !== OIDS.data) throw new Error('is signed with a public key, which is not available')
  const infos = derOf(derWhole(octets(derChildren(tagged)[0]), DER.sequence), DER.sequence)
  for (const info of infos) {
    const [kind, content] = derOf(info, DER.sequence)
    const inner = derChildren(content)[0]
    const clear = derOid(kind) === OIDS.data ? octets(inner) : decrypted(derOid(kind), inner, opener)
    for (const bag of derOf(derWhole(clear, DER.sequence), DER.sequence)) readBag(bag, opener, contents)
  }
  return contents
}

function octets(element: DerElement | undefined): Buffer {
  if (element?.tag !== DER.octetString) throw new DerError()
  return derContent(element)
}

function readBag(bag: DerElement, opener: Opener, { keys, certificates }: Contents): void {
  const [id, tagged] = derOf(bag, DER.sequence)
  const type = derOid(id)
  const value = derElement(tagged.bytes, tagged.from, tagged.to)
  if (type === OIDS.keyBag) keys.push(pemOf('PRIVATE KEY', derRaw(value)))
  else if (type === OIDS.shroudedKeyBag) keys.push(pemOf('PRIVATE KEY', opener.key(value)))
  else if (type === OIDS.certBag) {
    const [kind, content] = derOf(value, DER.sequence)
    if (derOid(kind) === OIDS.x509) certificates.push(octets(derChildren(content)[0]))
  }
}

function decrypted(kind: string, data: DerElement, opener: Opener): Buffer {
  if (kind !== OIDS.encryptedData) throw new Error('is encrypted with a public key, which is not available')
  const [, content] = derOf(data, DER.sequence)
  const [, algorithm, bytes] = derOf(content, DER.sequence)
  return opener.content(algorithm, derContent(bytes))
}

function expectPbes2(algorithm: DerElement): DerElement {
  const [id, parameters] = derOf(algorithm, DER.sequence)
  if (derOid(id) !== OIDS.pbes2) throw new LegacyFile()
  return parameters
}

/** RFC 8018 §6.2, with PBKDF2 and AES. */
function modern(passphrase: string): Opener {
  return {
    content: (algorithm, bytes) => decipher(expectPbes2(algorithm), bytes, passphrase),
    key(info) {
      expectPbes2(derOf(info, DER.sequence)[0])
      const key = createPrivateKey({ key: derRaw(info), format: 'der', type: 'pkcs8', passphrase })
      return key.export({ type: 'pkcs8', format: 'der' })
    },
  }
}

function decipher(parameters: DerElement, bytes: Buffer, passphrase: string): Buffer {
  const [derivation, scheme] = derOf(parameters, DER.sequence)
  const [kdf, kdfParameters] = derOf(derivation, DER.sequence)
  const [cipher, iv] = derOf(scheme, DER.sequence)
  const known = CIPHERS.get(derOid(cipher))
  if (derOid(kdf) !== OIDS.pbkdf2 || known === undefined) throw new LegacyFile()
  const [salt, rounds, ...more] = derOf(kdfParameters, DER.sequence)
  const prf = more.find(({ tag }) => tag === DER.sequence)
  const digest = prf === undefined ? 'sha1' : DIGESTS.get(derOid(derOf(prf, DER.sequence)[0]))
  const count = Number.parseInt(derContent(rounds).toString('hex'), 16)
  if (digest === undefined || !(count > 0 && count <= MAX_ROUNDS)) throw new Error('is encrypted in an unknown way')
  const [name, keyBytes] = known
  const opened = createDecipheriv(name, pbkdf2Sync(passphrase, octets(salt), count, keyBytes, digest), octets(iv))
  return Buffer.concat([opened.update(bytes), opened.final()])
}

/** What OpenSSL 3 does not read any more. The library is loaded for such a file only. */
function readLegacy(file: Buffer, passphrase: string): Contents {
  const forge = createRequire(import.meta.url)('node-forge') as typeof Forge
  try {
    // Throws where the file was changed, or the password is another.
    forge.pkcs12.pkcs12FromAsn1(forge.asn1.fromDer(file.toString('latin1')), passphrase)
    return readSafe(file, legacy(forge, passphrase))
  } catch (error) {
    const wrong = /MAC could not be verified|Invalid password/i.test((error as Error).message)
    throw new Error(wrong ? 'is not opened by its password' : 'cannot be read', { cause: error })
  }
}

/** The bytes of certificates stay as they are: the library would write those with keys other than RSA anew, wrongly. */
function legacy({ asn1, pki, util }: typeof Forge, passphrase: string): Opener {
  const { pbe } = pki as unknown as { readonly pbe: LegacyCiphers }
  return {
    content(algorithm, bytes) {
      const [id, parameters] = derOf(algorithm, DER.sequence)
      const parsed = asn1.fromDer(derRaw(parameters).toString('latin1'))
      const cipher = pbe.getCipher(derOid(id), parsed, passphrase)
      cipher.update(util.createBuffer(bytes.toString('latin1')))
      if (!cipher.finish()) throw new Error('bad padding')
      return Buffer.from(cipher.output.getBytes(), 'latin1')
    },
    key(info) {
      const opened = pki.decryptPrivateKeyInfo(asn1.fromDer(derRaw(info).toString('latin1')), passphrase)
      if (opened === null) throw new Error('bad padding')
      return Buffer.from(asn1.toDer(opened).getBytes(), 'latin1')
    },
  }
}

/** As much of the library as its types leave out. */
interface LegacyCiphers {
  getCipher(oid: string, parameters: Forge.asn1.Asn1, password: string): Forge.cipher.BlockCipher
}
