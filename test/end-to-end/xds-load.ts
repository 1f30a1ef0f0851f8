import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { Socket } from 'node:net'
import type { Ledger } from '../support/ledger.ts'
import { seeded } from '../support/random.ts'
import { type Caller, Http1Caller, Http2Caller } from './ledger-callers.ts'
import { draw } from './ledger-plan.ts'

/** Between two requests of one caller. */
const PAUSE_MS = 15

export interface LoadParts {
  readonly ledger: Ledger
  readonly plainPort: number
  readonly securePort: number
}

interface Member {
  readonly caller: Caller
  /** Connections that went down with a process: what was asked on them is no loss. */
  doomed: readonly Socket[]
  /** Of the request that is under way. */
  seq: string
}

/**
 * Callers of HTTP/1 and HTTP/2, with TLS and without, each asking all the time at a moderate pace on connections that it
 * keeps as long as it is let.
 */
export class ConstantLoad {
  readonly #ledger: Ledger
  readonly #members: readonly Member[]
  readonly #running: readonly Promise<void>[]
  #stopped = false

  constructor({ ledger, plainPort, securePort }: LoadParts) {
    this.#ledger = ledger
    let seed = 1
    const member = (Kind: typeof Http1Caller | typeof Http2Caller, tls: boolean): Member => {
      const port = tls ? securePort : plainPort
      const caller = new Kind({ ledger, port, random: seeded(seed++), tls, withdraws: true })
      return { caller, doomed: [], seq: '' }
    }
    this.#members = [
      ...Array.from({ length: 4 }, () => member(Http1Caller, false)),
      ...Array.from({ length: 2 }, () => member(Http1Caller, true)),
      member(Http2Caller, false),
      member(Http2Caller, true),
    ]
    this.#running = this.#members.map((one, i) => this.#run(one, 100 + i))
  }

  /** Whatever is on connections that none of these processes has is excused from now on, until they have ended. */
  doomAllBut(pids: readonly number[]): void {
    const spared = new Set(pids.flatMap((pid) => [...peersOf(pid)]))
    for (const member of this.#members) {
      const doomed = member.caller.sockets().filter((socket) => !spared.has(socket.localPort ?? 0))
      if (doomed.length === 0) continue
      member.doomed = doomed
      if (member.seq !== '') this.#ledger.excuse(member.seq)
    }
  }

  /** So many more requests have been asked. */
  async progress(requests: number): Promise<void> {
    const enough = this.#ledger.size + requests
    while (this.#ledger.size < enough) await sleep(PAUSE_MS)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#running)
    for (const { caller } of this.#members) await caller.close()
  }

  async #run(member: Member, seed: number): Promise<void> {
    const random = seeded(seed)
    while (!this.#stopped) {
      // Where requests may be refused, their bodies are small.
      const plan = draw(this.#ledger, random, { refuse: 0 })
      const { seq } = plan.request
      member.seq = seq
      if (member.doomed.some((socket) => !socket.destroyed)) this.#ledger.excuse(seq)
      else member.doomed = []
      try {
        await member.caller.ask([plan])
      } catch (error) {
        this.#ledger.failed(seq, `no connection: ${String(error)}`)
      }
      member.seq = ''
      await sleep(PAUSE_MS)
    }
  }
}

/** Ports of the peers of a process's connections on 127.0.0.1. */
function peersOf(pid: number): ReadonlySet<number> {
  const own = new Set<string>()
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      own.add(/^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? '')
    } catch {
      // Closed meanwhile.
    }
  }
  const ports = new Set<number>()
  for (const line of readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1)) {
    const fields = line.trim().split(/\s+/)
    if (fields.length > 9 && own.has(fields[9])) ports.add(Number.parseInt(fields[2].split(':')[1], 16))
  }
  return ports
}

export function sleep(forMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, forMs))
}
