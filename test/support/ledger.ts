import { createHash } from 'node:crypto'
import type { Field } from './http1-message.ts'
import type { OriginScript } from './origin.ts'

/** SHA-256 in hex: how bodies are compared. */
export function sha256(bytes: Buffer | string): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** The five figures of the ledger, each a list of what went wrong; all must be empty. */
export interface Verdict {
  /** Failed, or never answered, without a fault that the test had injected. */
  readonly lost: string[]
  /** Not idempotent, and seen more than once by an origin. */
  readonly duplicated: string[]
  /** Answered, or delivered, with what belongs to another request. */
  readonly crossed: string[]
  /** Without its line in the access log, or with more than one. */
  readonly silent: string[]
  /** A clean end, on either side, with the wrong bytes. */
  readonly truncatedClean: string[]
}

export interface SentRequest {
  readonly seq: string
  readonly method: string
  readonly body: Buffer
  /** Fields that every request of the ledger carries; put them on the wire. */
  readonly fields: readonly Field[]
}

/** What the client got, as it saw it. */
export interface Answer {
  readonly status: number
  /** Fields of the response; `x-seq` and `x-body-sha256` are looked at. */
  readonly get: (name: string) => string | undefined
  readonly body: Buffer
  readonly clean: boolean
}

interface Account {
  readonly seq: string
  readonly method: string
  readonly bodySha256: string
  outcome: string | undefined
  excused: boolean
  logged: number
  readonly seen: { readonly bodySha256: string; readonly clean: boolean }[]
}

const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'TRACE'])

/**
 * The request ledger: every request carries a number and the hash of its body; afterwards the client's log, the origin's
 * log and the proxy's access log are joined and whatever does not add up is named.
 */
export class Ledger {
  readonly #accounts = new Map<string, Account>()
  readonly #crossed: string[] = []
  readonly #truncatedClean: string[] = []
  readonly #strangers: string[] = []
  #next = 1

  /** Opens an account; the caller sends what it is given. */
  open(method: string, body: Buffer | string = ''): SentRequest {
    const bytes = typeof body === 'string' ? Buffer.from(body, 'utf8') : body
    const seq = String(this.#next++)
    const bodySha256 = sha256(bytes)
    this.#accounts.set(seq, { seq, method, bodySha256, outcome: undefined, excused: false, logged: 0, seen: [] })
    const fields: Field[] = [
      ['x-seq', seq],
      ['x-body-sha256', bodySha256],
    ]
    return { seq, method, body: bytes, fields }
  }

  /** The client has a response. `expected` (default: 200 to 299) says which statuses count as served. */
  answered(seq: string, answer: Answer, expected: (status: number) => boolean = (s) => s >= 200 && s <= 299): void {
    const account = this.#account(seq)
    const marker = answer.get('x-seq')
    if (marker !== undefined && marker !== seq) this.#crossed.push(`${seq} was answered with the response to ${marker}`)
    const promised = answer.get('x-body-sha256')
    const got = sha256(answer.body)
    if (answer.clean && promised !== undefined && account.method !== 'HEAD' && promised !== got) {
      this.#truncatedClean.push(`${seq}: response of ${answer.body.length} bytes ended cleanly with another hash`)
    }
    if (!answer.clean) account.outcome = `the response broke off after ${answer.body.length} bytes`
    else account.outcome = expected(answer.status) ? 'served' : `status ${answer.status}`
  }

  /** The client got no response. */
  failed(seq: string, why: string): void {
    this.#account(seq).outcome = why
  }

  /** The test broke this one itself (killed its client, its worker, its origin): its failure is not a loss. */
  excuse(seq: string): void {
    this.#account(seq).excused = true
  }

  /** It never left the client, which knows that and may send it again: as if it had not been. Throws where an origin has seen it. */
  withdraw(seq: string): void {
    if (this.#account(seq).seen.length > 0) throw new Error(`${seq} was withdrawn, but an origin has seen it`)
    this.#accounts.delete(seq)
  }

  /** The origin has seen it. */
  delivered(
    seq: string | undefined,
    declaredSha256: string | undefined,
    body: { bytes: Buffer; clean: boolean },
  ): void {
    const account = seq === undefined ? undefined : this.#accounts.get(seq)
    if (account === undefined) {
      this.#strangers.push(`the origin saw a request that nobody sent (x-seq ${seq})`)
      return
    }
    const got = sha256(body.bytes)
    account.seen.push({ bodySha256: got, clean: body.clean })
    if (declaredSha256 !== account.bodySha256)
      this.#crossed.push(`${seq} came to the origin with the fields of another`)
    if (body.clean && got !== account.bodySha256) {
      this.#truncatedClean.push(`${seq}: request of ${body.bytes.length} bytes ended cleanly with another hash`)
    }
  }

  /** The access log has a line for it. */
  logged(seq: string): void {
    const account = this.#accounts.get(seq)
    if (account !== undefined) account.logged++
  }

  /** Reads an access log of JSON lines; `key` holds the value of `x-seq` (`%REQ(X-SEQ)%`). */
  readAccessLog(text: string, key = 'seq'): void {
    for (const line of text.split('\n')) {
      if (line.trim() === '') continue
      const seq = (JSON.parse(line) as Record<string, unknown>)[key]
      if (typeof seq === 'string') this.logged(seq)
    }
  }

  /** Requests on the books. */
  get size(): number {
    return this.#accounts.size
  }

  judge(): Verdict {
    const lost: string[] = []
    const duplicated: string[] = []
    const silent: string[] = []
    for (const account of this.#accounts.values()) {
      const name = `${account.method} ${account.seq}`
      if (account.outcome !== 'served' && !account.excused) lost.push(`${name}: ${account.outcome ?? 'no outcome'}`)
      if (account.outcome === 'served' && account.seen.length === 0) this.#note(`${name} was served by no origin`)
      if (account.seen.length > 1 && !IDEMPOTENT.has(account.method)) {
        duplicated.push(`${name} came to the origin ${account.seen.length} times`)
      }
      // Where the client itself broke the request off before its head was out, there is nothing to log.
      if (account.logged !== 1 && !(account.excused && account.logged === 0)) {
        silent.push(`${name} has ${account.logged} lines in the access log`)
      }
    }
    const crossed = [...this.#crossed, ...this.#strangers]
    return { lost, duplicated, crossed, silent, truncatedClean: [...this.#truncatedClean] }
  }

  /** Throws with everything that `judge` found. */
  assertClean(): void {
    const verdict = Object.entries(this.judge()) as [keyof Verdict, string[]][]
    const faults = verdict.filter(([, list]) => list.length > 0)
    if (faults.length === 0) return
    const text = faults.map(([name, list]) => `${name} ${list.length}: ${list.slice(0, 10).join('; ')}`)
    throw new Error(`of ${this.size} requests: ${text.join(' | ')}`)
  }

  #note(what: string): void {
    if (!this.#strangers.includes(what)) this.#strangers.push(what)
  }

  #account(seq: string): Account {
    const account = this.#accounts.get(seq)
    if (account === undefined) throw new Error(`no account ${seq}`)
    return account
  }
}

/**
 * An origin script that keeps its side of the ledger: it reports what it saw, and answers with the request's number and
 * a body (of `bodyOf`, default the echoed request body) under its hash.
 */
export function ledgerScript(ledger: Ledger, bodyOf?: (seq: string) => Buffer): OriginScript {
  return async (request, reply) => {
    const seq = request.get('x-seq')
    const body = await request.body
    ledger.delivered(seq, request.get('x-body-sha256'), body)
    if (!body.clean) return
    const answer = bodyOf === undefined ? body.bytes : bodyOf(seq ?? '')
    await reply.send({
      fields: [
        ['x-seq', seq ?? ''],
        ['x-body-sha256', sha256(answer)],
      ],
      body: answer,
    })
  }
}
