import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Load, LoadResult } from './load.ts'
import type { Machine } from './machine.ts'

/** What the script below prints. */
interface WrkSummary {
  readonly requests: number
  readonly us: number
  readonly bytes: number
  readonly errors: number
  readonly p50: number
  readonly p99: number
}

const CYCLE = `
local requests = {}
local at = 0
init = function()
  for line in io.lines(file) do
    local method, path, header, value = line:match('^(%S+) (%S+) ?(%S*) ?(.*)$')
    local headers = { Host = wrk.headers['Host'] }
    if header ~= '' then headers[header] = value end
    requests[#requests + 1] = wrk.format(method, path, headers)
  end
end
request = function()
  at = at % #requests + 1
  return requests[at]
end
`

const DONE = `
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\nSUMMARY {"requests":%d,"us":%d,"bytes":%.0f,"errors":%d,"p50":%d,"p99":%d}\\n',
    summary.requests, summary.duration, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
`

/** One thread of wrk, which is cheaper per request than anything in JavaScript. Only whole seconds. */
export async function runWrk(load: Load, machine: Machine, folder: string): Promise<LoadResult> {
  const script = join(folder, 'load.lua')
  writeFileSync(script, luaOf(load, folder))
  const seconds = Math.max(1, Math.round(load.seconds))
  const url = `${load.tls === true ? 'https' : 'http'}://127.0.0.1:${load.port}${load.requests[0].path}`
  const args = ['-t1', `-c${load.connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', script, url]
  const pin =
    machine.taskset === undefined || machine.loadCores === undefined ? [] : ['-c', machine.loadCores, machine.wrk!]
  const program = pin.length > 0 ? machine.taskset! : machine.wrk!
  const { stdout } = await promisify(execFile)(program, [...pin, ...args], { timeout: (seconds + 30) * 1000 })
  const line = /^SUMMARY (.*)$/m.exec(stdout)
  if (line === null) throw new Error(`wrk printed no summary: ${stdout.slice(-500)}`)
  const summary = JSON.parse(line[1]) as WrkSummary
  return {
    tool: 'wrk',
    requests: summary.requests,
    seconds: summary.us / 1e6,
    bytesRead: summary.bytes,
    errors: summary.errors,
    p50Us: summary.p50,
    p99Us: summary.p99,
  }
}

/**
 * A single request needs no Lua per request: wrk formats it once. Several are formatted in `init`, from a file of lines
 * `METHOD PATH [HEADER VALUE]`, because a Lua function with 10,000 literals passes its limit of constants.
 */
function luaOf(load: Load, folder: string): string {
  const body = load.bodyBytes > 0 ? `wrk.body = string.rep('x', ${load.bodyBytes})\n` : ''
  if (load.requests.length === 1) {
    const { method, header } = load.requests[0]
    const line = header === undefined ? '' : `wrk.headers[${quote(header[0])}] = ${quote(header[1])}\n`
    return `wrk.method = ${quote(method)}\n${line}${body}${DONE}`
  }
  const file = join(folder, 'requests.txt')
  const lines = load.requests.map((one) => [one.method, one.path, ...(one.header ?? [])].join(' '))
  writeFileSync(file, lines.join('\n'))
  return `${body}local file = ${quote(file)}\n${CYCLE}${DONE}`
}

function quote(text: string): string {
  return JSON.stringify(text)
}
