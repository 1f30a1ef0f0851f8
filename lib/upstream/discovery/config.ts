import type { CidrConfig } from '../../match/config.ts'
import type { MetadataPath } from '../../match/value.ts'
import type { BalancerConfig } from '../balance/config.ts'

/** How names are resolved. */
export interface DnsConfig {
  readonly refreshMs: number
  readonly failureRefreshMs: number
  readonly failureRefreshMaxMs: number
  readonly jitterMs: number
  readonly respectTtl: boolean
  /** A TTL that is shorter counts as this; undefined: it counts as it is. */
  readonly minRefreshMs?: number
  readonly family: 'auto' | 'v4-only' | 'v6-only' | 'v4-preferred' | 'all'
  /** `host:port` of name servers; empty: those of the machine. */
  readonly resolvers: readonly string[]
  /** How one name server is asked, and whether names are completed; undefined: as /etc/resolv.conf says. */
  readonly asking?: DnsAskingConfig
  /** One lookup takes at most so long; undefined: 15 s. */
  readonly queryTimeoutMs?: number
  /** Addresses that are taken for answers; undefined: all. */
  readonly addresses?: AddressFilterConfig
}

/** What is undefined is as /etc/resolv.conf says. */
export interface DnsAskingConfig {
  /** Of the first try; later ones wait longer. */
  readonly timeoutMs?: number
  readonly tries?: number
  /** Names are asked for as they are, without search domains. */
  readonly whole?: true
  /** Over TCP alone. */
  readonly tcp?: true
  /** Another name server is asked first each time. */
  readonly rotate?: true
  /** How long a datagram name servers may answer with, 512 to 4,096. */
  readonly ednsBytes?: number
  /** `resolvers` are asked only where the machine has none of its own. */
  readonly fallback?: true
}

/** Which addresses may be connected to: a guard against names that lead into the network of the gateway. */
export interface AddressFilterConfig {
  readonly ranges: readonly CidrConfig[]
  /** `deny`: all but those in the ranges; `allow`: only those in them. */
  readonly kind: 'deny' | 'allow'
}

/** The hosts of a forward proxy: those that clients ask for. */
export interface ForwardProxyConfig {
  /** Names that nobody has asked for during that time are forgotten. */
  readonly hostTtlMs: number
  readonly maxHosts: number
  /** Connections that wait for names. */
  readonly maxPending: number
  /** Names are looked up once, when they are asked for. */
  readonly preresolve: readonly { readonly host: string; readonly port: number }[]
  /** A name that could not be looked up is forgotten, and looked up again when it is asked for; its host goes. */
  readonly dropFailed?: true
  /** Undefined: names do not outlive the process. */
  readonly store?: NameStoreConfig
  /** Name of its cache in statistics (`dns_cache.<name>.`); undefined: it has none. */
  readonly cache?: string
  /** A cluster of its own for each name, with all of its addresses: `maxHosts` and `hostTtlMs` are those of clusters. */
  readonly subClusters?: { readonly balancer: BalancerConfig }
}

/** Where a forward proxy keeps the names that it knows. */
export interface NameStoreConfig {
  readonly path: string
  /** Changes are written so long after the first of them. */
  readonly flushMs: number
  readonly maxEntries: number
}

/** Where the address comes from that a connection was meant for; the first that says something counts. */
export interface OriginalDstConfig {
  /** Lower case; undefined: no field of requests is looked at. */
  readonly header?: string
  /** Dynamic metadata of the request, or of its connection. */
  readonly metadata?: { readonly namespace: string; readonly path: MetadataPath }
  /** In place of the port of that address. */
  readonly port?: number
  /** Hosts that nobody was sent to for so long are forgotten. */
  readonly cleanupMs: number
}
