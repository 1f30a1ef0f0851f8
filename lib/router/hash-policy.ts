import type { HttpStream } from '../chain/filter.ts'
import { formatAddress } from '../core/address.ts'
import { type Hash64, XxHash64 } from '../core/hash64.ts'
import type { Headers } from '../core/headers.ts'
import { cookieValue } from '../match/cookie.ts'
import { plainObject } from '../match/filter-state.ts'
import { queryParameter } from '../match/query.ts'
import { compileSubstitution } from '../match/regex.ts'
import type { CookieHashConfig, HashPolicyConfig, HeaderHashConfig } from './config.ts'

/** What a policy reads, and where a cookie that it makes is left. */
interface Reading {
  readonly exchange: HttpStream
  readonly cookies: string[]
}

/** What one policy finds to be hashed; undefined: nothing. */
type Find = (reading: Reading) => string | readonly string[] | undefined

interface CompiledPolicy {
  readonly find: Find
  readonly terminal: boolean
}

/** The hash policies of a route: shared by all its requests. */
export class HashPolicies {
  readonly #policies: readonly CompiledPolicy[]
  readonly #hasher = new XxHash64()

  /** @throws Error for a bad regex. */
  constructor(configs: readonly HashPolicyConfig[]) {
    this.#policies = configs.map((config) => ({ find: compileFind(config), terminal: config.terminal === true }))
  }

  /**
   * The hashes of all that is found, each rotated into the next, up to a terminal policy behind which there is one. Cookies
   * that were made go into `cookies`, as values of Set-Cookie.
   */
  hash(exchange: HttpStream, cookies: string[]): Hash64 | undefined {
    const reading = { exchange, cookies }
    let found = false
    let high = 0
    let low = 0
    for (const { find, terminal } of this.#policies) {
      const text = find(reading)
      if (text !== undefined) {
        const hash = this.#hashOf(text)
        const top = found ? (high << 1) | (low >>> 31) : 0
        const bottom = found ? (low << 1) | (high >>> 31) : 0
        high = (top ^ hash.high) >>> 0
        low = (bottom ^ hash.low) >>> 0
        found = true
      }
      if (terminal && found) break
    }
    return found ? { high, low } : undefined
  }

  /** Several texts are hashed in turn, the hash of each the seed of the next. */
  #hashOf(text: string | readonly string[]): Hash64 {
    const hasher = this.#hasher
    if (typeof text === 'string') return hasher.digest(Buffer.from(text, 'latin1'))
    hasher.digest(Buffer.from(text[0], 'latin1'))
    for (let i = 1; i < text.length; i++) hasher.digest(Buffer.from(text[i], 'latin1'), text[i].length, hasher)
    return hasher
  }
}

/** The hash of one request, worked out when a balancer first asks. */
export class RequestHash {
  readonly policies: HashPolicies
  readonly value: Hash64 | undefined
  readonly #cookies: string[] = []

  constructor(policies: HashPolicies, exchange: HttpStream) {
    this.policies = policies
    this.value = policies.hash(exchange, this.#cookies)
  }

  /** Cookies that were made for the client to come back with. */
  addCookies(response: Headers): void {
    for (const cookie of this.#cookies) response.append('set-cookie', cookie)
  }
}

function compileFind(config: HashPolicyConfig): Find {
  switch (config.kind) {
    case 'header':
      return headerFind(config)
    case 'cookie':
      return cookieFind(config)
    case 'source-ip':
      return ({ exchange: { connection } }) => (connection.kind === 'ip' ? connection.remoteAddress : undefined)
    case 'query-parameter':
      return ({ exchange }) => queryParameter(exchange.head.path, config.name)
    case 'filter-state':
      return ({ exchange }) => plainObject(exchange.filterState.get(config.key))
  }
}

/** All values of the field, in an order of their own, so that theirs does not matter. */
function headerFind({ name, rewrite }: HeaderHashConfig): Find {
  const change = rewrite && compileSubstitution(rewrite.regex, rewrite.substitution)
  const read = pseudoHeader(name) ?? (({ request }: HttpStream) => request.getAll(name))
  return ({ exchange }) => {
    const values = read(exchange)
    if (values.length === 0) return undefined
    if (values.length === 1) return change === undefined ? values[0] : change(values[0])
    const changed = change === undefined ? [...values] : values.map(change)
    return changed.sort()
  }
}

function pseudoHeader(name: string): ((stream: HttpStream) => string[]) | undefined {
  switch (name) {
    case ':authority':
    case 'host':
      return ({ head }) => [head.authority]
    case ':path':
      return ({ head }) => [head.path]
    case ':method':
      return ({ head }) => [head.method]
    case ':scheme':
      return ({ head }) => [head.scheme]
    default:
      return undefined
  }
}

/** An empty cookie is none. Without one, and with a lifetime, one is made that is the same for the whole connection. */
function cookieFind(config: CookieHashConfig): Find {
  const { name, ttlS } = config
  const rest = ttlS === undefined ? '' : attributes(config, ttlS)
  return ({ exchange, cookies }) => {
    const value = cookieValue(exchange.request, name)
    if (value !== undefined && value !== '') return value
    if (ttlS === undefined) return undefined
    const made = connectionHash(exchange)
    cookies.push(`${name}="${made}"${rest}`)
    return made
  }
}

function attributes({ path, attributes: more = [] }: CookieHashConfig, ttlS: number): string {
  const parts = [
    ...(ttlS === 0 ? [] : [`Max-Age=${ttlS}`]),
    ...(path === undefined || path === '' ? [] : [`Path=${path}`]),
    ...more.map(({ name, value }) => (value === '' ? name : `${name}=${value}`)),
    'HttpOnly',
  ]
  return parts.map((part) => `; ${part}`).join('')
}

/** Of both addresses of the client's connection. */
function connectionHash({ connection }: HttpStream): string {
  const { remoteAddress, remotePort, localAddress, localPort } = connection
  const from = formatAddress({ kind: 'ip', host: remoteAddress, port: remotePort })
  const to = formatAddress({ kind: 'ip', host: localAddress, port: localPort })
  const { high, low } = new XxHash64().digest(Buffer.from(from + to))
  return high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0')
}
