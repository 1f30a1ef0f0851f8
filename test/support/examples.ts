import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'

const ROOT = join(import.meta.dirname, '../..')

export const EXAMPLES: string = join(ROOT, 'examples')

/** A program that runs with the test. */
export interface Running {
  /** The next line that it writes. */
  line(): Promise<string>
  /** Ends it by SIGTERM and answers its exit status. */
  end(): Promise<number | null>
}

export interface Start {
  readonly args?: readonly string[]
  readonly env?: NodeJS.ProcessEnv
}

/** Starts a script of the repository; it is ended with the test. */
export function runProgram(t: Test, path: string, { args = [], env = {} }: Start = {}): Running {
  const child = spawn(process.execPath, [path, ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit') as Promise<[number | null, string | null]>
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    async line() {
      const next = await lines.next()
      if (next.done === true) throw new Error(`${path} ended without another line`)
      return next.value
    },
    async end() {
      child.kill('SIGTERM')
      return (await ended)[0]
    },
  }
}

/** A copy of an example's bootstrap with other ports. */
export function withPorts(t: Test, example: string, ports: Readonly<Record<number, number>>): string {
  let text = readFileSync(join(EXAMPLES, example, 'config.yaml'), 'utf8')
  for (const [from, to] of Object.entries(ports)) {
    t.match(text, `port_value: ${from}`)
    text = text.replace(`port_value: ${from}`, `port_value: ${to}`)
  }
  const folder = mkdtempSync(join(tmpdir(), 'headgate-example-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'config.yaml')
  writeFileSync(file, text)
  return file
}

/**
 * Reads the lines `NAME listens on SCHEME://ADDRESS:PORT` that an example's gateway writes when it has started, one for
 * each name; answers the ports.
 */
export async function listening(program: Running, names: readonly string[]): Promise<Record<string, number>> {
  const ports: Record<string, number> = {}
  for (const _ of names) {
    const line = await program.line()
    const said = /^(\S+) listens on (?:\w+:\/\/)?127\.0\.0\.1:(\d+)$/.exec(line)
    if (said === null || !names.includes(said[1])) throw new Error(`expected where ${names.join(', ')} listen: ${line}`)
    ports[said[1]] = Number(said[2])
  }
  return ports
}
