import { readFileSync } from 'node:fs'
import { mkdir, readdir, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { MeshMaterial } from '../tls/mesh.ts'
import { CERTIFICATE_LABEL, pemBlocks } from '../tls/pem.ts'
import { readCertificate, type WorkloadCertificate } from './certificate.ts'

/** What configurations name: the names that Istio's agent writes (`OUTPUT_CERTS`). */
const CHAIN = 'cert-chain.pem'
const KEY = 'key.pem'
const ROOTS = 'root-cert.pem'
const FILES: readonly string[] = Object.freeze([CHAIN, KEY, ROOTS])
/** A link to the directory of the version in force. */
const CURRENT = '..data'
const VERSION = '..version-'

/**
 * Puts a certificate, its key and its authorities into a directory, all three at once: the files are links into the directory
 * of a version, and one link decides which (as Kubernetes does with secrets). Nobody but the user may read them.
 *
 * @throws as the file system does
 */
export async function writeCertificate(directory: string, material: MeshMaterial): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const old = await readlink(join(directory, CURRENT)).catch(() => undefined)
  const version = `${VERSION}${process.pid}-${process.hrtime.bigint()}`
  await mkdir(join(directory, version), { mode: 0o700 })
  const { certificateChain, privateKey, trustedCa } = material
  for (const [name, text] of [
    [CHAIN, certificateChain],
    [KEY, privateKey],
    [ROOTS, trustedCa],
  ] as const) {
    await writeFile(join(directory, version, name), text, { mode: 0o600 })
  }
  const next = join(directory, `${version}.link`)
  await symlink(version, next)
  await rename(next, join(directory, CURRENT))
  for (const name of FILES) await linkFile(directory, name)
  for (const name of await readdir(directory)) {
    // The version before stays, for whoever is just reading it.
    if (name.startsWith(VERSION) && name !== version && name !== old)
      await rm(join(directory, name), { recursive: true })
  }
}

async function linkFile(directory: string, name: string): Promise<void> {
  const target = join(CURRENT, name)
  const path = join(directory, name)
  if ((await readlink(path).catch(() => undefined)) === target) return
  const next = `${path}.link`
  await rm(next, { force: true })
  await symlink(target, next)
  await rename(next, path)
}

/** What the directory holds for this identity, if that can still be used. */
export function readKept(directory: string, identity: string, nowMs: number): WorkloadCertificate | undefined {
  try {
    const [chain, privateKey, roots] = FILES.map((name) => readFileSync(join(directory, name), 'utf8'))
    return readCertificate([...pemBlocks(chain, CERTIFICATE_LABEL), roots], { identity, privateKey, nowMs })
  } catch {
    return undefined
  }
}
