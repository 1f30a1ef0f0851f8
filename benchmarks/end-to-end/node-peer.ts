import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Traffic, Variant } from './variant.ts'

/** The checkout that this file belongs to. */
export const REPOSITORY = join(import.meta.dirname, '..', '..')

export interface NodePeerOptions {
  readonly floor?: boolean
  /** Default: this checkout. */
  readonly root?: string
  readonly quick?: boolean
  /** Default: HTTP/1 on both sides without TLS. */
  readonly speaks?: (traffic: Traffic) => boolean
  /** After the ports and the log file. */
  readonly flags?: readonly string[]
}

/** A peer that is a script of ours around an npm package; `script` is relative to this folder, in the checkout `root`. */
export function nodePeer(name: string, script: string, options: NodePeerOptions = {}): Variant {
  const file = join(options.root ?? REPOSITORY, 'benchmarks', 'end-to-end', script)
  return {
    name,
    floor: options.floor,
    quick: options.quick === true,
    speaks: options.speaks ?? isPlainHttp1,
    missing: () => (existsSync(file) ? undefined : `${script} does not exist in this checkout`),
    prepare(task) {
      const args = [String(task.listenPort), String(task.originPort), task.logFile ?? '', ...(options.flags ?? [])]
      if (task.traffic.upstream === 'http2') args.push('upstream-http2')
      return { command: [process.execPath, file, ...args], env: { ...process.env, NODE_ENV: 'production' } }
    },
  }
}

function isPlainHttp1(traffic: Traffic): boolean {
  return (
    traffic.client === 'http1' && traffic.upstream === 'http1' && traffic.tls !== true && traffic.layer4 === undefined
  )
}
