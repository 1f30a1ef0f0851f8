import { promises as dns } from 'node:dns'
import type { Clock } from '../../../core/clock.ts'
import type { ServiceRecord } from './message.ts'
import { WireTransport } from './wire-transport.ts'

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

/** The same of a question for a service. */
export interface ServicesReply {
  readonly code: string
  readonly records: readonly ServiceRecord[]
}

/** Asks name servers. A failure is a reply with a code, never a rejection. */
export interface DnsTransport {
  query(name: string, family: IpFamily): Promise<DnsReply>
  /** SRV records; undefined: it cannot ask for them. */
  services?(name: string): Promise<ServicesReply>
  /** What is under way ends at once, with `ECANCELLED`. */
  close(): void
}

export interface DnsServers {
  /** `address` or `address:port`, IPv6 in brackets where there is a port; empty: those that c-ares finds itself. */
  readonly servers: readonly string[]
  readonly timeoutMs: number
  readonly attempts: number
  /** Over TCP alone. */
  readonly tcp?: true
  /** Another server is asked first each time. */
  readonly rotate?: true
  /** How long a datagram servers may answer with; undefined: 1,232. */
  readonly ednsBytes?: number
}

/** `clock`: for those that keep time by themselves. */
export type MakeTransport = (servers: DnsServers, clock: Clock) => DnsTransport

/** Retries back off by doubling, to at most this. */
const LONGEST_TRY_MS = 5_000

/**
 * `node:dns` asked directly: `dns.lookup` would block libuv's threads and hide TTLs, `resolveAny` has died of long
 * answers. Truncated answers are asked for again over TCP by c-ares. Throws on a server that is no IP address.
 */
export function nodeTransport({ servers, timeoutMs, attempts }: DnsServers): DnsTransport {
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

interface Reply {
  readonly code: string
  readonly records: readonly unknown[]
}
const NONE: readonly never[] = Object.freeze([])
const NO_SERVICES: ServicesReply = Object.freeze({ code: 'ENOTIMP', records: NONE })
const CANCELLED = Object.freeze({ code: 'ECANCELLED', records: NONE })

/**
 * c-ares, but for what Node cannot have it do: questions over TCP alone, servers in turns, other sizes of datagrams, and SRV
 * records with their TTL. Throws on a server that is no IP address.
 */
export const standardTransport: MakeTransport = (servers, clock) => {
  let wire: WireTransport | undefined
  let closed = false
  const byWire = (): WireTransport => {
    wire ??= new WireTransport(servers, clock)
    if (closed) wire.close()
    return wire
  }
  if (servers.tcp === true || servers.rotate === true || servers.ednsBytes !== undefined) return byWire()
  const { query, close } = nodeTransport(servers)
  return {
    query,
    services: (name) => byWire().services(name),
    close: () => {
      closed = true
      close()
      wire?.close()
    },
  }
}

/**
 * Shares what is asked at the same time (thousands of endpoints may name one host) and asks for at most `limit` names at
 * once: more datagrams in a burst than a socket's buffer holds are lost, and time out.
 */
export class SharedQueries {
  readonly #transport: DnsTransport
  readonly #limit: number
  readonly #underWay = new Map<string, Promise<Reply>>()
  readonly #waiting: (() => void)[] = []
  #running = 0
  #closed = false

  constructor(transport: DnsTransport, limit = 128) {
    this.#transport = transport
    this.#limit = limit
  }

  query(name: string, family: IpFamily): Promise<DnsReply> {
    return this.#shared(`${family} ${name}`, () => this.#transport.query(name, family))
  }

  services(name: string): Promise<ServicesReply> {
    return this.#shared(`srv ${name}`, async () => (await this.#transport.services?.(name)) ?? NO_SERVICES)
  }

  /** `key` says of what kind the answer is. */
  #shared<R extends Reply>(key: string, ask: () => Promise<R>): Promise<R> {
    const known = this.#underWay.get(key)
    if (known !== undefined) return known as Promise<R>
    const asked = this.#ask(ask).finally(() => this.#underWay.delete(key))
    this.#underWay.set(key, asked)
    return asked
  }

  /** What is under way or waits ends with `ECANCELLED`. */
  close(): void {
    this.#closed = true
    this.#transport.close()
  }

  async #ask<R extends Reply>(ask: () => Promise<R>): Promise<R> {
    if (this.#running < this.#limit) this.#running++
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      if (this.#closed) return CANCELLED as unknown as R
      return await ask()
    } finally {
      // The place is handed on, or given up.
      const next = this.#waiting.shift()
      if (next === undefined) this.#running--
      else next()
    }
  }
}
