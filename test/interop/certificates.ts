import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { Authority, type LeafOptions } from '../support/certificates.ts'
import type { CertificateFiles } from './gateway-config.ts'
import { folderFor } from './servers.ts'

/** Certificates of one authority, as files in a folder of the test. */
export interface CertificateFolder {
  /** The authority's certificate: its file and its text. */
  readonly ca: string
  readonly caPem: string
  issue(options: LeafOptions): Promise<CertificateFiles & PemTexts>
}

interface PemTexts {
  readonly chainPem: string
  readonly keyPem: string
  /** Chain and key in one file, as haproxy wants them. */
  readonly both: string
}

/** A new authority; its files are gone when the test has ended. */
export async function certificatesFor(t: Test): Promise<CertificateFolder> {
  const folder = folderFor(t)
  const authority = await Authority.create('CN=Interop Root')
  const write = (name: string, text: string): string => {
    const path = join(folder, name)
    writeFileSync(path, text)
    return path
  }
  mkdirSync(folder, { recursive: true })
  let issued = 0
  return {
    ca: write('ca.pem', authority.pem),
    caPem: authority.pem,
    async issue(options): Promise<CertificateFiles & PemTexts> {
      const leaf = await authority.issue(options)
      const name = `leaf-${issued++}`
      return {
        chain: write(`${name}.pem`, leaf.chain),
        key: write(`${name}.key`, leaf.key),
        both: write(`${name}.both`, leaf.chain + leaf.key),
        chainPem: leaf.chain,
        keyPem: leaf.key,
      }
    },
  }
}
