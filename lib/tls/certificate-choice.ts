import { X509Certificate } from 'node:crypto'
import type { CertificateConfig } from './config.ts'
import { certificateNames } from './names.ts'

/** One certificate for each kind of key, in the order of the configuration. */
export interface Choice {
  /** Tells choices of one configuration apart. */
  readonly key: string
  readonly certificates: readonly CertificateConfig[]
}

/**
 * Which certificates a server shows for a name: those that hold it exactly, else those whose wildcard covers it, else
 * the first of the configuration. A certificate stands for its DNS names, or its common name where it has none. Of
 * several with the same name the first of each key type is offered and the client's algorithms decide (RSA and ECDSA).
 */
export class CertificateChoice {
  /** Lower case, sorted. */
  readonly names: readonly string[]
  readonly #certificates: readonly CertificateConfig[]
  readonly #byName: Map<string, Choice>
  /** For a client that names no server, or an unknown one. */
  readonly first: Choice

  /**
   * `fullScan`: a name that no certificate has is met by the first of each key type, whatever their names.
   *
   * @throws Error where a certificate cannot be parsed; `checkTls` finds it before.
   */
  constructor(certificates: readonly CertificateConfig[], fullScan = false) {
    this.#certificates = certificates
    const leaves = certificates.map(({ certificateChain }) => new X509Certificate(certificateChain))
    const keyTypes = leaves.map((leaf) => leaf.publicKey.asymmetricKeyType)
    const lists = new Map<string, number[]>()
    leaves.forEach((leaf, i) => {
      for (const name of servedNames(leaf)) {
        const list = lists.get(name)
        if (list === undefined) lists.set(name, [i])
        else if (!list.some((other) => keyTypes[other] === keyTypes[i])) list.push(i)
      }
    })
    if (fullScan) {
      const each = keyTypes.flatMap((type, i) => (keyTypes.indexOf(type) === i ? [i] : []))
      lists.set('', each)
    }
    this.names = [...lists.keys()].filter((name) => name !== '').sort()
    this.#byName = this.#choices(lists)
    const [firstName] = fullScan ? [''] : servedNames(leaves[0])
    this.first = (firstName === undefined ? undefined : this.#byName.get(firstName)) ?? {
      key: '0',
      certificates: certificates.slice(0, 1),
    }
  }

  /** One object for each distinct choice. */
  #choices(lists: ReadonlyMap<string, readonly number[]>): Map<string, Choice> {
    const choices = new Map<string, Choice>()
    const byName = new Map<string, Choice>()
    for (const [name, list] of lists) {
      const key = list.join()
      const choice = choices.get(key) ?? { key, certificates: list.map((i) => this.#certificates[i]) }
      choices.set(key, choice)
      byName.set(name, choice)
    }
    return byName
  }

  /** @param name lower case; undefined: the client gave none. */
  find(name: string | undefined): Choice {
    if (name === undefined) return this.first
    const exact = this.#byName.get(name)
    if (exact !== undefined) return exact
    const dot = name.indexOf('.')
    return (dot > 0 ? this.#byName.get(`*${name.slice(dot)}`) : undefined) ?? this.first
  }
}

function servedNames(leaf: X509Certificate): string[] {
  const { dns } = certificateNames(leaf)
  if (dns.length > 0) return dns.map((name) => name.toLowerCase())
  const common = /^CN=(.*)$/m.exec(leaf.subject ?? '')
  return common === null ? [] : [common[1].toLowerCase()]
}
