import { runGenerator } from './generator.ts'
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
}

export interface LoadResult {
  readonly tool: 'wrk' | 'own'
  readonly requests: number
  readonly seconds: number
  readonly bytesRead: number
  /** Connections refused, reset or ended early, timeouts and answers outside 200–299 (wrk: outside 200–399). */
  readonly errors: number
  readonly p50Us: number
  readonly p99Us: number
}

/** Runs the load from the load cores, with wrk where it is installed. Never throws for errors of the proxy: see `errors`. */
export function runLoad(load: Load, machine: Machine, folder: string): Promise<LoadResult> {
  return machine.wrk === undefined ? runGenerator(load, machine, folder) : runWrk(load, machine, folder)
}
