import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { processTree } from './accounting.ts'
import type { Machine } from './machine.ts'

/** How to start a program. */
export interface ChildSpec {
  readonly command: readonly string[]
  /** `taskset` core list; undefined: the cores of the parent. */
  readonly cores?: string
  readonly env?: NodeJS.ProcessEnv
  /** Standard output goes to this file, appended; otherwise it is dropped. */
  readonly stdoutFile?: string
  /** Standard error goes to this file, so that a failure can be shown. */
  readonly stderrFile: string
  /** Opens an IPC channel: only for our own Node scripts. */
  readonly ipc?: boolean
}

/** A started program. Whoever started it ends it with `stop`. */
export class Child {
  readonly process: ChildProcess
  readonly pid: number
  readonly #stderrFile: string
  readonly #exited: Promise<void>
  readonly #descendants = new Map<number, string>()
  #failure: string | undefined

  constructor(spec: ChildSpec, machine: Machine) {
    const pin = spec.cores !== undefined && machine.taskset !== undefined ? [machine.taskset, '-c', spec.cores] : []
    const [program, ...args] = [...pin, ...spec.command]
    const stdout = spec.stdoutFile === undefined ? 'ignore' : openSync(spec.stdoutFile, 'a')
    const stderr = openSync(spec.stderrFile, 'a')
    const stdio = ['ignore', stdout, stderr, ...(spec.ipc === true ? ['ipc' as const] : [])] as const
    const child = spawn(program, args, { stdio: [...stdio], env: spec.env ?? process.env, serialization: 'advanced' })
    closeSync(stderr)
    if (typeof stdout === 'number') closeSync(stdout)
    this.process = child
    // taskset replaces itself by the program, so this is the program's own id.
    this.pid = child.pid ?? 0
    this.#stderrFile = spec.stderrFile
    this.#exited = new Promise((resolve) => {
      child.once('error', (error) => {
        this.#failure = error.message
        resolve()
      })
      child.once('exit', (code, signal) => {
        this.#failure = `exited with ${signal ?? code}`
        resolve()
      })
    })
  }

  /** Why it is no longer running, with what it said on standard error; undefined while it runs. */
  get failure(): string | undefined {
    if (this.#failure === undefined) return undefined
    const lines = readFileSync(this.#stderrFile, 'utf8').trim().split('\n')
    // Of an uncaught error in Node the message is what matters, not the stack behind it.
    const at = lines.findIndex((line) => /Error\b/.test(line))
    const tail = at < 0 ? lines.slice(-3).join(' | ') : lines[at]
    return tail === '' ? this.#failure : `${this.#failure}: ${tail}`
  }

  /** Resolves when it has exited, for whatever reason. */
  get exited(): Promise<void> {
    return this.#exited
  }

  /** Remembers the descendants of now, so that `stop` finds them even if this process ends before them. */
  noteDescendants(): void {
    for (const pid of processTree(this.pid).slice(1)) {
      if (!this.#descendants.has(pid)) this.#descendants.set(pid, birthOf(pid))
    }
  }

  /** SIGTERM, after `graceMs` SIGKILL; then SIGKILL for descendants that outlived it. Resolves when all is gone. */
  async stop(graceMs = 3000): Promise<void> {
    if (this.#failure === undefined && this.pid !== 0) {
      this.noteDescendants()
      this.process.kill('SIGTERM')
      const timer = setTimeout(() => this.process.kill('SIGKILL'), graceMs)
      await this.#exited
      clearTimeout(timer)
    }
    for (const [pid, birth] of this.#descendants) {
      // The birth time guards against an id that another process has been given since.
      if (birth === '' || birthOf(pid) !== birth) continue
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It ended in between.
      }
    }
  }
}

/** Start time in ticks since boot; empty when there is no such process. */
function birthOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return ''
  }
}
