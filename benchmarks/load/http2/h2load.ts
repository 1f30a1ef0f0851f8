import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Load, LoadResult } from '../load.ts'
import type { Machine } from '../machine.ts'

const run = promisify(execFile)

/** One thread of h2load, cheaper per request than anything in JavaScript. Only whole seconds; no percentiles. */
export async function runH2load(load: Load, machine: Machine, folder: string): Promise<LoadResult> {
  const seconds = Math.max(1, Math.round(load.seconds))
  const pin = machine.taskset === undefined || machine.loadCores === undefined ? [] : ['-c', machine.loadCores]
  const program = pin.length > 0 ? machine.taskset! : machine.h2load!
  const args = [...(pin.length > 0 ? [...pin, machine.h2load!] : []), ...argumentsOf(load, seconds, folder)]
  const { stdout } = await run(program, args, { timeout: (seconds + 30) * 1000 })
  return resultOf(stdout)
}

function argumentsOf(load: Load, seconds: number, folder: string): string[] {
  const content = load.content ?? (load.bodyBytes > 0 ? Buffer.alloc(load.bodyBytes, 'x') : undefined)
  const args = ['-t1', `-c${load.connections}`, `-m${load.streams ?? 1}`, '-D', String(seconds)]
  for (const [name, value] of load.headers ?? []) args.push('-H', `${name}: ${value}`)
  if (content !== undefined) {
    const file = join(folder, 'content')
    writeFileSync(file, content)
    args.push('-d', file)
  }
  const scheme = load.tls === true ? 'https' : 'http'
  if (load.requests.length > 1) throw new Error('only one kind of request over HTTP/2')
  return [...args, `${scheme}://127.0.0.1:${load.port}${load.requests[0].path}`]
}

/** Reads the summary that h2load prints. */
function resultOf(text: string): LoadResult {
  const numbers = (pattern: RegExp): number[] => {
    const match = pattern.exec(text)
    if (match === null) throw new Error(`h2load printed no summary: ${text.slice(-500)}`)
    return match.slice(1).map(Number)
  }
  const protocol = /^Application protocol: (\S+)/m.exec(text)?.[1]
  if (protocol !== 'h2' && protocol !== 'h2c') throw new Error(`h2load spoke ${protocol ?? 'with nobody'}, not HTTP/2`)
  const [time] = numbers(/^finished in ([\d.]+)m?s/m)
  const seconds = /^finished in [\d.]+ms/m.test(text) ? time / 1000 : time
  const [done, succeeded, failed, errored, timeout] = numbers(
    /^requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout/m,
  )
  const [good] = numbers(/^status codes: (\d+) 2xx/m)
  const [bytesRead] = numbers(/^traffic: .*?\((\d+)\) total/m)
  // A request that ends well has status 2xx; "failed" repeats what the other two count.
  const errors = Math.max(failed, errored + timeout) + Math.max(done - succeeded, succeeded - good, 0)
  return { tool: 'h2load', requests: good, seconds, bytesRead, errors, p50Us: Number.NaN, p99Us: Number.NaN }
}
