import { isIPv6 } from 'node:net'
import type { HttpStream } from '../chain/filter.ts'
import { isIp } from '../core/address.ts'
import { verifiedPeer } from '../core/connection.ts'
import type { Json } from '../core/errors.ts'
import type { ArrivalFacts } from '../core/internal-listeners.ts'
import { compileCidrs } from '../match/cidr.ts'
import { plainIp } from '../tls/names.ts'
import type { HboneTargetConfig } from './config.ts'

/** The namespace of the metadata that connections out of tunnels have. */
export const HBONE_NAMESPACE = 'hbone'

/** Entries of a baggage that are kept (W3C Baggage §3.3.2: 64 are always propagated). */
const MAX_BAGGAGE = 64

/** `ip:port`, `[ip]:port` or `host:port` in its parts. */
export interface Target {
  /** Lower case; IP addresses in their canonical spelling. */
  readonly host: string
  readonly port: number
  readonly ip: boolean
}

/** RFC 1035 §2.3.4, without the dot of the root. */
const MAX_NAME = 253

/**
 * Undefined where it is no target of a CONNECT. Names that resolvers take for IPv4 addresses (`0x7f.1`, `10.1`) are none:
 * ranges would not see them.
 */
export function parseTarget(authority: string): Target | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+)):(\d{1,5})$/.exec(authority)
  const port = Number(match?.[3])
  if (match === null || port === 0 || port > 65_535) return undefined
  const host = spelledHost(match[1] ?? match[2])
  if (isIp(host)) return match[1] === undefined || isIPv6(match[1]) ? { host, port, ip: true } : undefined
  return match[1] === undefined && isName(host) ? { host, port, ip: false } : undefined
}

/** The one spelling that targets are compared in: lower case, IP addresses canonical, names without the root's dot. */
function spelledHost(text: string): string {
  const host = plainIp(text).toLowerCase()
  return host.endsWith('.') ? host.slice(0, -1) : host
}

function isName(host: string): boolean {
  if (host.length > MAX_NAME || !/^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/.test(host)) return false
  return !/^(?:\d+|0x[0-9a-f]*)$/.test(host.slice(host.lastIndexOf('.') + 1))
}

interface CompiledTarget {
  readonly fits: (target: Target) => boolean
  /** Undefined: forbidden. */
  readonly cluster: string | undefined
}

/** Which targets an HBONE server knows, and where they lead. */
export class HboneTargets {
  readonly #targets: readonly CompiledTarget[]

  constructor(configs: readonly HboneTargetConfig[]) {
    this.#targets = configs.map((config) => ({ fits: compileFit(config), cluster: config.cluster }))
  }

  /** The cluster of the first that fits; `forbidden` where it has none, `unknown` where nothing fits. */
  find(target: Target): { readonly cluster: string } | 'forbidden' | 'unknown' {
    for (const { fits, cluster } of this.#targets) {
      if (fits(target)) return cluster === undefined ? 'forbidden' : { cluster }
    }
    return 'unknown'
  }
}

function compileFit({ hosts, ranges, ports }: HboneTargetConfig): (target: Target) => boolean {
  const spelled = hosts.map(configuredHost)
  const exact = new Set(spelled.filter((host) => !host.startsWith('*')))
  const suffixes = spelled.filter((host) => host.startsWith('*')).map((host) => host.slice(1))
  const inRange = ranges.length === 0 ? undefined : compileCidrs(ranges)
  const anyHost = hosts.length === 0 && inRange === undefined
  const allowed = ports.length === 0 ? undefined : new Set(ports)
  return ({ host, port, ip }) => {
    if (allowed !== undefined && !allowed.has(port)) return false
    if (anyHost || exact.has(host)) return true
    if (ip) return inRange?.(host) === true
    return suffixes.some((suffix) => host.length > suffix.length && host.endsWith(suffix))
  }
}

/** `*.suffix` too; brackets around IPv6 addresses may be there. */
function configuredHost(text: string): string {
  const bare = /^\[([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\]$/.exec(text)?.[1]
  return spelledHost(bare ?? text)
}

/** Why a host of the configuration would never be met; undefined: it can be. */
export function hostProblem(text: string): string | undefined {
  const host = configuredHost(text)
  if (isIp(host) || isName(host.startsWith('*.') ? host.slice(2) : host)) return undefined
  return `"${text}" is neither a name, an IP address nor *.suffix`
}

/**
 * What the connection out of a tunnel knows of it: where it was meant for, who the peer was proven to be, and what the
 * peer said of itself (`baggage`, `x-forwarded-network`).
 */
export function arrivalOf(stream: HttpStream, { host, port }: Target): ArrivalFacts {
  const { request, connection } = stream
  const peer = verifiedPeer(connection)
  const said: { [key: string]: Json } = { authority: stream.head.authority }
  const baggage = request.join('baggage')
  if (baggage !== undefined) said.baggage = parseBaggage(baggage)
  const network = request.get('x-forwarded-network')
  if (network !== undefined) said.network = network
  const source = request.get('x-istio-source')
  if (source !== undefined) said.source = source
  return {
    destination: { address: host, port },
    metadata: new Map([[HBONE_NAMESPACE, said]]),
    ...(peer && { peer }),
  }
}

/** W3C Baggage: `key=value;property, key2=value2`; values percent-decoded, properties and what is malformed left out. */
export function parseBaggage(text: string): { [key: string]: Json } {
  const out = new Map<string, Json>()
  for (const member of text.split(',', MAX_BAGGAGE)) {
    const [pair] = member.split(';', 1)
    const at = pair.indexOf('=')
    const key = pair.slice(0, at).trim()
    if (at <= 0 || key === '') continue
    out.set(key, decoded(pair.slice(at + 1).trim()))
  }
  // By definition and not by assignment: `__proto__` is a key like any other.
  return Object.fromEntries(out)
}

function decoded(value: string): string {
  if (!value.includes('%')) return value
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}
