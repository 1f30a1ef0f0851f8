import { runGenerator } from './generator.ts'
import { runH2load } from './http2/h2load.ts'
import type { Machine } from './machine.ts'
import { runWrk } from './wrk.ts'

/** One kind of request; a load with several goes through them one after the other, on each connection. */
export interface LoadRequest {
  readonly method: string
  readonly path: string
  readonly header?: readonly [name: string, value: string]
}

/** Closed-loop load: each connection sends its next request when the answer to the last is complete. */
export interface Load {
  readonly port: number
  readonly connections: number
  readonly seconds: number
  readonly requests: readonly LoadRequest[]
  /** Content of each request, in bytes; 0 for none. */
  readonly bodyBytes: number
  /** Default: http1. */
  readonly protocol?: 'http1' | 'http2'
  readonly tls?: boolean
  /** HTTP/2: requests at once on each connection; each stream sends its next request when it has its answer. */
  readonly streams?: number
  /** HTTP/2: fields of every request. */
  readonly headers?: readonly (readonly [name: string, value: string])[]
  /** HTTP/2: content of every request, in place of `bodyBytes`; the method is then POST. */
  readonly content?: Buffer
}

export interface LoadResult {
  readonly tool: 'wrk' | 'h2load' | 'own'
  readonly requests: number
  readonly seconds: number
  readonly bytesRead: number
  /** Connections refused, reset or ended early, timeouts and answers outside 200–299 (wrk: outside 200–399). */
  readonly errors: number
  /** NaN with h2load. */
  readonly p50Us: number
  readonly p99Us: number
}

/**
 * Runs the load from the load cores, with wrk or h2load where it is installed. Never throws for errors of the proxy: see
 * `errors`.
 */
export function runLoad(load: Load, machine: Machine, folder: string): Promise<LoadResult> {
  if (load.protocol === 'http2') {
    if (machine.h2load === undefined) return runGenerator(HTTP2_GENERATOR, load, machine, folder)
    return runH2load(load, machine, folder)
  }
  return machine.wrk === undefined
    ? runGenerator(HTTP1_GENERATOR, load, machine, folder)
    : runWrk(load, machine, folder)
}

const HTTP1_GENERATOR = 'generator-process.ts'
const HTTP2_GENERATOR = 'http2/generator-process.ts'
