import type { HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import { canonicalIp, isIp } from '../../lib/core/address.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import type { Headers } from '../../lib/core/headers.ts'
import { compileCidrs } from '../../lib/match/cidr.ts'
import { CLIENT_CERT } from './client-cert.ts'

/** What the proxy concluded about who is calling. */
export interface Caller {
  readonly address: string
  readonly internal: boolean
  /** Status of the refusal where original IP detection demands one. */
  readonly rejectStatus: number
}

/** Headers that only internal callers may send: removed from external requests by every hop. */
const INTERNAL_ONLY: readonly string[] = [
  'x-envoy-expected-rq-timeout-ms',
  'x-envoy-force-trace',
  'x-envoy-hedge-on-per-try-timeout',
  'x-envoy-internal',
  'x-envoy-ip-tags',
  'x-envoy-max-retries',
  'x-envoy-retry-on',
  'x-envoy-retry-grpc-on',
  'x-envoy-retriable-status-codes',
  'x-envoy-retriable-header-names',
  'x-envoy-upstream-alt-stat-name',
  'x-envoy-upstream-rq-timeout-ms',
  'x-envoy-upstream-rq-per-try-timeout-ms',
  'x-envoy-upstream-rq-timeout-alt-response',
  'x-envoy-upstream-stream-duration-ms',
]

/** Removed by the edge (`use_remote_address`) alone: behind it they are what the edge has said. */
const EDGE_ONLY: readonly string[] = [
  'x-envoy-decorator-operation',
  'x-envoy-downstream-service-cluster',
  'x-envoy-downstream-service-node',
  'x-envoy-external-address',
  'x-envoy-original-path',
  'x-envoy-original-host',
]

type Detect = (headers: Headers, peer: string) => { address: string; trusted: boolean } | number | undefined

/**
 * Decides the client's address, whether it is internal, and cleans the headers that a stranger must not set
 * (`envoy-xds.md` §3.4). Compiled once per connection manager.
 */
export class CallerRules {
  readonly #config: HttpConnectionManagerConfig
  readonly #isInternal: (ip: string) => boolean
  readonly #detect: readonly Detect[]
  /** Whether original IP detection leaves X-Forwarded-For to be appended to, found or not. */
  readonly #appendXff: boolean
  readonly #internalOnly: ReadonlySet<string>
  /** Nobody may speak of a client's certificate. */
  readonly #noClientCert: boolean

  constructor(config: HttpConnectionManagerConfig) {
    this.#config = config
    this.#isInternal = config.internalCidrs.length === 0 ? () => false : compileCidrs(config.internalCidrs)
    this.#detect = config.originalIpDetection.map(compileDetection)
    this.#appendXff = config.originalIpDetection.some((d) => d.kind === 'xff' && !d.skipAppend)
    this.#noClientCert = config.clientCertificateHeader === undefined
    this.#internalOnly = new Set([
      ...INTERNAL_ONLY,
      ...(this.#noClientCert ? [CLIENT_CERT] : []),
      ...(config.useRemoteAddress ? EDGE_ONLY : []),
    ])
  }

  /**
   * Reads and rewrites the forwarding headers of one request. `extra`: names that its route table has removed from external
   * requests besides.
   */
  apply(headers: Headers, connection: ConnectionInfo, extra: ReadonlySet<string> | undefined): Caller {
    const config = this.#config
    const peer = connection.remoteAddress
    const xff = headers.join('x-forwarded-for')
    let address = peer
    let append = config.useRemoteAddress && !config.skipXffAppend
    // Whether the address is good enough to be called internal: nobody else may have had a say in it.
    let single = config.useRemoteAddress && xff === undefined
    if (this.#detect.length > 0) {
      append = this.#appendXff
      const found = this.#original(headers, peer)
      if (typeof found === 'number') return { address: peer, internal: false, rejectStatus: found }
      if (found !== undefined) {
        address = found.address
        single = found.trusted
      }
    } else if (config.useRemoteAddress) {
      if (config.xffTrustedHops > 0 && xff !== undefined) address = fromRight(xff, config.xffTrustedHops) ?? peer
    } else if (xff !== undefined) {
      const named = fromRight(xff, config.xffTrustedHops + 1)
      address = named ?? peer
      single = named !== undefined && !xff.includes(',')
    }
    const internal = single && this.#internalAddress(address, connection)
    this.#rewrite(headers, connection, { xff, append, address, internal, extra })
    return { address, internal, rejectStatus: 0 }
  }

  #internalAddress(address: string, connection: ConnectionInfo): boolean {
    if (connection.kind === 'pipe') return this.#config.internalUnixSockets
    return this.#isInternal(address)
  }

  #original(headers: Headers, peer: string): ReturnType<Detect> {
    for (const detect of this.#detect) {
      const found = detect(headers, peer)
      if (found !== undefined) return found
    }
    return undefined
  }

  #rewrite(
    headers: Headers,
    connection: ConnectionInfo,
    facts: {
      xff: string | undefined
      append: boolean
      address: string
      internal: boolean
      extra: ReadonlySet<string> | undefined
    },
  ): void {
    const config = this.#config
    const peer = connection.remoteAddress
    // Of connections within the gateway that many clients share nobody is the client.
    if (facts.append && connection.kind !== 'pipe' && peer !== '') {
      if (facts.xff === undefined || facts.xff === '') headers.put('x-forwarded-for', peer)
      else headers.put('x-forwarded-for', `${facts.xff},${peer}`)
    }
    const scheme = connection.tls === undefined ? 'http' : 'https'
    if (config.useRemoteAddress && config.xffTrustedHops === 0) headers.put('x-forwarded-proto', scheme)
    else if (!headers.has('x-forwarded-proto')) headers.add('x-forwarded-proto', scheme)
    if (config.appendXForwardedPort && !headers.has('x-forwarded-port')) {
      headers.add('x-forwarded-port', String(connection.localPort))
    }
    if (facts.internal) {
      headers.put('x-envoy-internal', 'true')
      if (this.#noClientCert) headers.delete(CLIENT_CERT)
    } else this.#cleanExternal(headers, facts.extra)
    if (!facts.internal && config.useRemoteAddress) headers.add('x-envoy-external-address', facts.address)
  }

  #cleanExternal(headers: Headers, extra: ReadonlySet<string> | undefined): void {
    if (extra !== undefined) headers.deleteWhere((name) => extra.has(name))
    const raw = headers.raw
    for (let i = 0; i < raw.length; i += 2) {
      // All of Envoy's own begin with x-: one character settles most others.
      if (raw[i].charCodeAt(0) !== 120) continue
      if (this.#internalOnly.has(raw[i])) {
        headers.deleteWhere((name) => this.#internalOnly.has(name))
        return
      }
    }
  }
}

/** `Via` is one list: `1.1 first, second`. */
export function appendVia(headers: Headers, via: string): void {
  const before = headers.join('via')
  headers.put('via', before === undefined ? via : `${before}, ${via}`)
}

/** The nth address from the right of an X-Forwarded-For list, or undefined where there is none or it is no address. */
function fromRight(xff: string, n: number): string | undefined {
  let end = xff.length
  for (let i = 1; ; i++) {
    const comma = xff.lastIndexOf(',', end - 1)
    if (i === n) {
      const text = xff.slice(comma + 1, end).trim()
      return isIp(text) ? canonicalIp(text) : undefined
    }
    if (comma < 0) return undefined
    end = comma
    if (end === 0) return undefined
  }
}

function compileDetection(config: HttpConnectionManagerConfig['originalIpDetection'][number]): Detect {
  if (config.kind === 'custom-header') {
    const name = config.header.toLowerCase()
    return (headers) => {
      const value = headers.get(name)?.trim()
      if (value !== undefined && isIp(value)) {
        return { address: canonicalIp(value), trusted: config.trusted }
      }
      return config.rejectStatus
    }
  }
  if (config.trustedCidrs !== undefined && config.trustedCidrs.length > 0) {
    const trusted = compileCidrs(config.trustedCidrs)
    return (headers, peer) => {
      const xff = headers.join('x-forwarded-for')
      if (xff === undefined || !trusted(peer)) return { address: peer, trusted: false }
      const count = xff.split(',').length
      let address: string | undefined
      for (let n = 1; n <= count; n++) {
        address = fromRight(xff, n)
        if (address === undefined) return undefined
        if (!trusted(address)) break
      }
      // Where all are trusted, the first of them is where it began.
      return address === undefined ? undefined : { address, trusted: false }
    }
  }
  return (headers) => {
    const xff = headers.join('x-forwarded-for')
    if (xff === undefined) return undefined
    const address = fromRight(xff, config.trustedHops + 1)
    return address === undefined ? undefined : { address, trusted: !xff.includes(',') }
  }
}

/** Envoy's `add_user_agent`: names the node's cluster as the caller, and as the agent of requests that name none. */
export function addUserAgent(headers: Headers, node: { readonly id: string; readonly cluster: string }): void {
  headers.set('x-envoy-downstream-service-cluster', node.cluster)
  if (!headers.has('user-agent')) headers.append('user-agent', node.cluster)
  if (node.id !== '') headers.set('x-envoy-downstream-service-node', node.id)
}
