import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { pemOf } from '../../lib/tls/der.ts'

/*
 * Certificates with ML-DSA keys (RFC 9881), written by hand: the generator that the other tests use knows no such
 * algorithm.
 */

export type MlDsa = 'ml-dsa-44' | 'ml-dsa-65' | 'ml-dsa-87'

const ALGORITHMS: Readonly<Record<MlDsa, string>> = {
  'ml-dsa-44': '2.16.840.1.101.3.4.3.17',
  'ml-dsa-65': '2.16.840.1.101.3.4.3.18',
  'ml-dsa-87': '2.16.840.1.101.3.4.3.19',
}

/** One DER element. */
export function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  const { length } = content
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), content])
  const bytes = length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...bytes]), content])
}

export function oid(dotted: string): Buffer {
  const [first, second, ...rest] = dotted.split('.').map(Number)
  const bytes = [first * 40 + second]
  for (const arc of rest) {
    const groups = [arc & 0x7f]
    for (let left = arc >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80)
    bytes.push(...groups)
  }
  return der(0x06, Buffer.from(bytes))
}

export function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, ...parts)
}

export function utcTime(ms: number): Buffer {
  const text = new Date(ms).toISOString().replace(/^\d\d|[-:T]|\.\d+/g, '')
  return der(0x17, Buffer.from(text))
}

function commonName(name: string): Buffer {
  return sequence(der(0x31, sequence(oid('2.5.4.3'), der(0x0c, Buffer.from(name)))))
}

interface Made {
  readonly chain: string
  readonly key: string
}

/** An authority whose key, and those of its leaves, are of one parameter set. */
export class MlDsaAuthority {
  readonly pem: string
  readonly #kind: MlDsa
  readonly #key: KeyObject

  constructor(kind: MlDsa) {
    const { publicKey, privateKey } = pair(kind)
    this.#kind = kind
    this.#key = privateKey
    this.pem = this.#certificate('ML-DSA Root', publicKey, true)
  }

  /** A certificate for one DNS name, for servers and clients alike. */
  issue(dns: string): Made {
    const { publicKey, privateKey } = pair(this.#kind)
    return {
      chain: this.#certificate(dns, publicKey, false),
      key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    }
  }

  #certificate(subject: string, key: KeyObject, authority: boolean): string {
    const algorithm = sequence(oid(ALGORITHMS[this.#kind]))
    const yes = der(0x01, Buffer.from([0xff]))
    const constraints = sequence(oid('2.5.29.19'), yes, der(0x04, authority ? sequence(yes) : sequence()))
    const names = sequence(oid('2.5.29.17'), der(0x04, sequence(der(0x82, Buffer.from(subject)))))
    const day = 86_400_000
    const tbs = sequence(
      der(0xa0, der(0x02, Buffer.from([2]))),
      der(0x02, Buffer.concat([Buffer.from([0x41]), randomBytes(7)])),
      algorithm,
      commonName('ML-DSA Root'),
      sequence(utcTime(Date.now() - day), utcTime(Date.now() + 30 * day)),
      commonName(subject),
      key.export({ type: 'spki', format: 'der' }),
      der(0xa3, sequence(constraints, ...(authority ? [] : [names]))),
    )
    const signature = der(0x03, Buffer.from([0]), sign(null, tbs, this.#key))
    return pemOf('CERTIFICATE', sequence(tbs, algorithm, signature))
  }
}

/** The types of the runtime's declarations are behind its algorithms. */
function pair(kind: MlDsa): { readonly publicKey: KeyObject; readonly privateKey: KeyObject } {
  return generateKeyPairSync(kind)
}

/** Whether this runtime has them: OpenSSL 3.5. */
export function hasMlDsa(): boolean {
  try {
    pair('ml-dsa-44')
    return true
  } catch {
    return false
  }
}
