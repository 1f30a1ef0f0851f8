import { promises as dns } from 'node:dns'

export type IpFamily = 4 | 6

export interface DnsRecord {
  readonly address: string
  readonly ttlS: number
}

/** The answer to one question about one name; `code` is '' or c-ares' word (`ENOTFOUND`, `ENODATA`, `ESERVFAIL`, ...). */
export interface DnsReply {
  readonly code: string
  readonly records: readonly DnsRecord[]
}

/** Asks name servers. A failure is a reply with a code, never a rejection. */
export interface DnsTransport {
  query(name: string, family: IpFamily): Promise<DnsReply>
  /** What is under way ends at once, with `ECANCELLED`. */
  close(): void
}

export interface DnsServers {
  /** `address` or `address:port`, IPv6 in brackets where there is a port; empty: those that c-ares finds itself. */
  readonly servers: readonly string[]
  readonly timeoutMs: number
  readonly attempts: number
}

export type MakeTransport = (servers: DnsServers) => DnsTransport

/** Retries back off by doubling, to at most this. */
const LONGEST_TRY_MS = 5_000

/**
 * `node:dns` asked directly: `dns.lookup` would block libuv's threads and hide TTLs, `resolveAny` has died of long
 * answers. Truncated answers are asked for again over TCP by c-ares. Throws on a server that is no IP address.
 */
export const nodeTransport: MakeTransport = ({ servers, timeoutMs, attempts }) => {
  const maxTimeout = Math.max(timeoutMs, LONGEST_TRY_MS)
  const resolver = new dns.Resolver({ timeout: timeoutMs, tries: attempts, maxTimeout })
  if (servers.length > 0) resolver.setServers([...servers])
  return {
    async query(name: string, family: IpFamily): Promise<DnsReply> {
      try {
        const found = await (family === 4
          ? resolver.resolve4(name, { ttl: true })
          : resolver.resolve6(name, { ttl: true }))
        return { code: '', records: found.map(({ address, ttl }) => ({ address, ttlS: ttl })) }
      } catch (error) {
        return { code: (error as NodeJS.ErrnoException).code ?? 'EUNKNOWN', records: [] }
      }
    },
    close: () => resolver.cancel(),
  }
}

/**
 * Shares what is asked at the same time (thousands of endpoints may name one host) and asks for at most `limit` names at
 * once: more datagrams in a burst than a socket's buffer holds are lost, and time out.
 */
export class SharedQueries {
  readonly #transport: DnsTransport
  readonly #limit: number
  readonly #underWay = new Map<string, Promise<DnsReply>>()
  readonly #waiting: (() => void)[] = []
  #running = 0
  #closed = false

  constructor(transport: DnsTransport, limit = 128) {
    this.#transport = transport
    this.#limit = limit
  }

  query(name: string, family: IpFamily): Promise<DnsReply> {
    const key = `${family} ${name}`
    const known = this.#underWay.get(key)
    if (known !== undefined) return known
    const asked = this.#ask(name, family).finally(() => this.#underWay.delete(key))
    this.#underWay.set(key, asked)
    return asked
  }

  /** What is under way or waits ends with `ECANCELLED`. */
  close(): void {
    this.#closed = true
    this.#transport.close()
  }

  async #ask(name: string, family: IpFamily): Promise<DnsReply> {
    if (this.#running < this.#limit) this.#running++
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      if (this.#closed) return { code: 'ECANCELLED', records: [] }
      return await this.#transport.query(name, family)
    } finally {
      // The place is handed on, or given up.
      const next = this.#waiting.shift()
      if (next === undefined) this.#running--
      else next()
    }
  }
}
