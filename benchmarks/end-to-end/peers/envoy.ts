import { accessSync, constants, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findProgram } from '../../load/machine.ts'
import { bootstrapOf } from '../headgate.ts'
import { REPOSITORY } from '../node-peer.ts'
import type { Variant } from '../variant.ts'

/** Envoy with one worker thread and the very bootstrap that headgate gets. */
export const envoy: Variant = {
  name: 'envoy',
  quick: true,
  speaks: (traffic) => traffic.client === 'http2' || traffic.tls === true || traffic.layer4 !== undefined,
  missing: () => (programOf() === undefined ? 'envoy is not installed' : undefined),
  prepare(task) {
    const file = join(task.folder, 'envoy.json')
    writeFileSync(file, JSON.stringify(bootstrapOf(task), undefined, 2))
    const options = ['--concurrency', '1', '--disable-hot-restart', '--log-level', 'error']
    return { command: [programOf()!, '-c', file, ...options] }
  },
}

/** The one that the interoperability tests use where it is there, otherwise the installed one. */
function programOf(): string | undefined {
  const path = join(REPOSITORY, '.interop', 'bin', 'envoy')
  try {
    accessSync(path, constants.X_OK)
    return path
  } catch {
    return findProgram('envoy')
  }
}
