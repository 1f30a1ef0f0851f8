/**
 * The rows of edge-safety §3.3 as data. A row says what one sequence of bytes must lead to; the parser's tests and the
 * end-to-end tests run the same rows, each looking at what it can see.
 */

export interface RequestLimits {
  readonly lineBytes: number
  readonly headerBytes: number
  readonly headers: number
}

/** The limits that the rows were written for: the native defaults. */
export const LIMITS: RequestLimits = Object.freeze({ lineBytes: 8192, headerBytes: 61_440, headers: 100 })

/** What differs from the strict native configuration; everything is off by default. */
export interface RequestSettings {
  /** HTTP/1.0 is accepted. */
  readonly http10?: boolean
  /** Names with underscores; default `reject`. */
  readonly underscores?: 'allow' | 'drop'
  /** Trailers are passed on. */
  readonly trailers?: boolean
  /** Upgrades that are let through, lower-case. */
  readonly upgrades?: readonly string[]
  /** The listener does not look for HTTP/2. */
  readonly http1Only?: boolean
  /** absolute-form is refused. */
  readonly noAbsoluteForm?: boolean
}

export type Pair = readonly [name: string, value: string]

export interface Accepted {
  readonly kind: 'accept'
  readonly method: string
  /** As it stood in the request line. */
  readonly target: string
  /** Value of Host, or of the absolute-form where that differs in form; '' where there was none. */
  readonly authority: string
  readonly minor: 0 | 1
  readonly framing: 'none' | 'length' | 'chunked'
  /** Body without framing, latin1. */
  readonly body: string
  /** False: the connection is closed after the response. */
  readonly keepAlive: boolean
  /** End-to-end fields that must be there with these values, lower-case, among others. */
  readonly fields: readonly Pair[]
  /** Fields that must have been consumed, lower-case. */
  readonly absent: readonly string[]
  readonly trailers: readonly Pair[]
}

export interface Rejected {
  readonly kind: 'reject'
  readonly status: 400 | 403 | 404 | 408 | 413 | 414 | 417 | 426 | 431 | 501 | 505
  /**
   * Who refuses: the head parser, the connection manager's policy (the head itself is well-formed), the body reader (the
   * head was accepted; a response that has begun is broken off instead), or a deadline (the bytes stop there).
   */
  readonly at: 'head' | 'policy' | 'body' | 'deadline'
  /** True: `Connection: close` and an end; false: the connection may go on. */
  readonly closes: boolean
}

/** The bytes stop in the middle and the client sends FIN: no answer is owed, and nothing may look complete. */
export interface Unfinished {
  readonly kind: 'unfinished'
  readonly in: 'head' | 'body'
}

export type RequestExpect = Accepted | Rejected | Unfinished

/** A request as the origin must see it. */
export interface Forwarded {
  readonly method: string
  readonly target: string
  readonly host: string
  /** Without framing; a re-framed body is equal. */
  readonly body: string
  /** Must be there, lower-case names, among others. */
  readonly fields: readonly Pair[]
  /** Must not be there. */
  readonly absent: readonly string[]
}

export interface RequestCase {
  /** Unique. */
  readonly name: string
  /** The row of the table. */
  readonly rule: string
  readonly bytes: Buffer
  readonly settings: RequestSettings
  readonly expect: RequestExpect
  /** What the bytes behind the first request lead to, in order. */
  readonly after: readonly RequestExpect[]
  /** What reaches the origin: exactly these; `incomplete`: at most a request that never ends cleanly. */
  readonly upstream: readonly Forwarded[] | 'incomplete'
}

export const CRLF = '\r\n'

/** A head: the lines, each with its CRLF, and the empty line. */
export function head(...lines: readonly string[]): string {
  return lines.map((line) => line + CRLF).join('') + CRLF
}

/** `GET / HTTP/1.1` with a Host and these lines after it. */
export function get(...lines: readonly string[]): string {
  return head('GET / HTTP/1.1', 'Host: a.example', ...lines)
}

/** `POST / HTTP/1.1` with a Host and these lines after it. */
export function post(...lines: readonly string[]): string {
  return head('POST / HTTP/1.1', 'Host: a.example', ...lines)
}

export function accept(facts: Partial<Omit<Accepted, 'kind'>> = {}): Accepted {
  return {
    kind: 'accept',
    method: 'GET',
    target: '/',
    authority: 'a.example',
    minor: 1,
    framing: 'none',
    body: '',
    keepAlive: true,
    fields: [],
    absent: [],
    trailers: [],
    ...facts,
  }
}

/** A POST whose body came with chunked coding. */
export function acceptChunked(body: string, facts: Partial<Omit<Accepted, 'kind'>> = {}): Accepted {
  return accept({ method: 'POST', framing: 'chunked', body, ...facts })
}

export function reject(status: Rejected['status'], at: Rejected['at'] = 'head', closes = true): Rejected {
  return { kind: 'reject', status, at, closes }
}

export type RowFacts = Partial<Pick<RequestCase, 'settings' | 'after' | 'upstream'>>

/** A row. What is accepted is forwarded as it is, unless `more.upstream` says otherwise; what is refused is not. */
export function row(rule: string, name: string, text: string, expect: RequestExpect, more: RowFacts = {}): RequestCase {
  const after = more.after ?? []
  return {
    name: `${rule}: ${name}`,
    rule,
    bytes: Buffer.from(text, 'latin1'),
    settings: more.settings ?? {},
    expect,
    after,
    upstream: more.upstream ?? upstreamOf([expect, ...after]),
  }
}

function upstreamOf(expects: readonly RequestExpect[]): readonly Forwarded[] | 'incomplete' {
  const broken = expects.some(
    (e) => (e.kind === 'reject' && e.at === 'body') || (e.kind === 'unfinished' && e.in === 'body'),
  )
  if (broken) return 'incomplete'
  return expects.filter((e) => e.kind === 'accept').map((e) => forwarded(e))
}

/** As the origin sees an accepted request: same fields, nothing that belongs to the downstream connection. */
export function forwarded(from: Accepted, facts: Partial<Forwarded> = {}): Forwarded {
  return {
    method: from.method,
    target: from.target,
    host: from.authority,
    body: from.body,
    fields: from.fields,
    absent: [...from.absent, ...HOP_BY_HOP],
    ...facts,
  }
}

/** Fields of the connection that must never be passed on as they came. */
export const HOP_BY_HOP: readonly string[] = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'upgrade',
  'http2-settings',
]
