import { CRLF, type Pair } from './case.ts'

/** A whole response that may be passed on. */
export interface Whole {
  readonly kind: 'whole'
  readonly status: number
  readonly framing: 'none' | 'length' | 'chunked' | 'close'
  readonly body: string
  /** The upstream connection may serve another request. */
  readonly reusable: boolean
  /** End-to-end fields that must be there, lower-case, among others. */
  readonly fields: readonly Pair[]
  /** Fields that must have been consumed, lower-case. */
  readonly absent: readonly string[]
  readonly trailers: readonly Pair[]
  /** Interim statuses that came before, in order. */
  readonly interim: readonly number[]
}

/** Nothing of it reaches the client: a local reply with this status instead, and the connection is thrown away. */
export interface Refused {
  readonly kind: 'refused'
  readonly status: 502 | 503
  /** `codec`: the bytes are wrong or end early; `client`: well-formed, and wrong where they stand (1xx out of place). */
  readonly by: 'codec' | 'client'
}

/** The head and some of the body may have been passed on: the client must see that the response broke off. */
export interface Broken {
  readonly kind: 'broken'
  readonly status: number
}

export type ResponseExpect = Whole | Refused | Broken

export interface ResponseCase {
  /** Unique. */
  readonly name: string
  readonly rule: string
  /** Of the request that is answered. */
  readonly method: string
  readonly bytes: Buffer
  /** How the origin ends the connection after the bytes. `open`: it does not. */
  readonly ends: 'open' | 'fin' | 'reset'
  readonly expect: ResponseExpect
}

/** `HTTP/1.1 200 OK` with these lines after it, and the empty line. */
export function ok(...lines: readonly string[]): string {
  return answer('HTTP/1.1 200 OK', ...lines)
}

export function answer(...lines: readonly string[]): string {
  return lines.map((line) => line + CRLF).join('') + CRLF
}

export function whole(facts: Partial<Omit<Whole, 'kind'>> = {}): Whole {
  return {
    kind: 'whole',
    status: 200,
    framing: 'length',
    body: 'hello',
    reusable: true,
    fields: [],
    absent: [],
    trailers: [],
    interim: [],
    ...facts,
  }
}

export function refused(status: Refused['status'] = 502, by: Refused['by'] = 'codec'): Refused {
  return { kind: 'refused', status, by }
}

export function broken(status = 200): Broken {
  return { kind: 'broken', status }
}

export interface ResponseFacts {
  readonly method?: string
  readonly ends?: ResponseCase['ends']
}

export function responseRow(
  rule: string,
  name: string,
  text: string,
  expect: ResponseExpect,
  facts: ResponseFacts = {},
): ResponseCase {
  return {
    name: `${rule}: ${name}`,
    rule,
    method: facts.method ?? 'GET',
    bytes: Buffer.from(text, 'latin1'),
    ends: facts.ends ?? 'open',
    expect,
  }
}
