import { spawn } from 'node:child_process'
import { once } from 'node:events'

/** How a program ended. */
export interface Ended {
  /** -1: it was killed, for taking too long or by a signal. */
  readonly status: number
  readonly out: Buffer
  readonly err: string
}

export interface RunOptions {
  readonly input?: Buffer | string
  /** Killed after this; default 60 s. */
  readonly timeoutMs?: number
  readonly env?: NodeJS.ProcessEnv
}

/** Runs a program to its end; never throws for what the program does. */
export async function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const { input, timeoutMs = 60_000, env } = options
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'], ...(env && { env: { ...process.env, ...env } }) })
  const closed = once(child, 'close') as Promise<[number | null]>
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
  const pieces: Buffer[] = []
  let err = ''
  child.stdout.on('data', (piece: Buffer) => pieces.push(piece))
  child.stderr.on('data', (piece: Buffer) => {
    err += piece.toString('utf8')
  })
  // It may end without having read.
  child.stdin.on('error', () => undefined)
  child.stdin.end(input ?? '')
  const [status] = await closed
  clearTimeout(timer)
  return { status: status ?? -1, out: Buffer.concat(pieces), err }
}
