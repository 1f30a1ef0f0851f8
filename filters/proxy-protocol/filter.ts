import type { Scope } from '../../lib/chain/filter.ts'
import type { FoundFacts, Inspection, ListenerFilter, ListenerRefusal } from '../../lib/chain/network.ts'
import type { ConnectionInfo, ProxyTlv } from '../../lib/core/connection.ts'
import type { Counter, Metrics } from '../../lib/core/metrics.ts'
import { compileCidrs } from '../../lib/match/cidr.ts'
import type { ProxyProtocolConfig } from './config.ts'
import { beginningOf, MAX_HEADER_BYTES, type ProxyHeader, readHeader } from './header.ts'
import { compileTlvRules } from './tlv-rules.ts'

/** A sum over one header says nothing about the next one. */
const TLV_CRC32C = 0x03

interface VersionStats {
  readonly found: Counter
  readonly disallowed: Counter
  readonly error: Counter
}

interface Stats {
  readonly notFoundAllowed: Counter
  readonly notFoundDisallowed: Counter
  readonly untrusted: Counter
  /** Envoy's old one: every refusal. */
  readonly error: Counter
  readonly version1: VersionStats
  readonly version2: VersionStats
}

function makeStats(metrics: Metrics, prefix: string): Stats {
  const counter = (name: string): Counter => metrics.counter(`proxy_proto.${prefix}${name}`)
  const version = (name: string): VersionStats => ({
    found: counter(`versions.${name}.found`),
    disallowed: counter(`versions.${name}.disallowed`),
    error: counter(`versions.${name}.error`),
  })
  return {
    notFoundAllowed: counter('not_found_allowed'),
    notFoundDisallowed: counter('not_found_disallowed'),
    untrusted: counter('untrusted_source'),
    error: metrics.counter('downstream_cx_proxy_proto_error'),
    version1: version('v1'),
    version2: version('v2'),
  }
}

/** Where the search goes on needs no state: it is where the bytes begin that were not there before. */
type Waiting = 'header'
const MORE: Inspection<Waiting> = Object.freeze({ more: 'header' })
const NOTHING: Inspection<Waiting> = Object.freeze({ strip: 0, facts: Object.freeze({}) })

/** Compiles the filter that takes a PROXY header off the front of connections and believes it. */
export function compileProxyProtocol(config: ProxyProtocolConfig, scope: Scope): ListenerFilter {
  return Object.freeze(new ProxyProtocol(config, scope)) as ListenerFilter
}

class ProxyProtocol implements ListenerFilter<Waiting> {
  readonly maxBytes = MAX_HEADER_BYTES
  readonly #config: ProxyProtocolConfig
  readonly #stats: Stats
  readonly #trusted: ((ip: string) => boolean) | undefined
  readonly #applyRules: (tlvs: readonly ProxyTlv[], facts: ConnectionInfo) => void

  constructor(config: ProxyProtocolConfig, scope: Scope) {
    this.#config = config
    this.#stats = makeStats(scope.metrics, config.statPrefix)
    this.#trusted = config.trustedSources && compileCidrs(config.trustedSources)
    this.#applyRules = compileTlvRules(config)
  }

  onAccept(facts: ConnectionInfo): ListenerRefusal | undefined {
    // Nothing that such a peer might send would let it in.
    return this.#config.optional || this.#trusts(facts) ? undefined : this.#refuseSource(facts)
  }

  inspect(peeked: Buffer, from: number, _state: Waiting | undefined, facts: ConnectionInfo): Inspection<Waiting> {
    const beginning = beginningOf(peeked)
    if (beginning === undefined) return MORE
    if (beginning === 'other') return this.#without()
    const stats = beginning === 'version-1' ? this.#stats.version1 : this.#stats.version2
    if (!this.#trusts(facts)) return this.#refuseSource(facts)
    if (this.#config.disallowedVersions.includes(beginning === 'version-1' ? 1 : 2)) {
      stats.found.v++
      stats.disallowed.v++
      return this.#refuse(`PROXY headers of ${beginning.replace('-', ' ')} are not allowed`)
    }
    const header = readHeader(beginning, peeked, from)
    if (header === undefined) return MORE
    if ('malformed' in header) {
      stats.error.v++
      return this.#refuse(`malformed PROXY header: ${header.malformed}`)
    }
    stats.found.v++
    this.#applyRules(header.tlvs, facts)
    return { strip: header.bytes, facts: this.#factsOf(header) }
  }

  #trusts(facts: ConnectionInfo): boolean {
    if (this.#trusted === undefined) return true
    return facts.kind === 'pipe' ? this.#config.trustsUnix === true : this.#trusted(facts.directRemoteAddress)
  }

  #without(): Inspection<Waiting> {
    if (this.#config.optional) {
      this.#stats.notFoundAllowed.v++
      return NOTHING
    }
    this.#stats.notFoundDisallowed.v++
    return this.#refuse('no PROXY header')
  }

  #refuseSource(facts: ConnectionInfo): ListenerRefusal {
    this.#stats.untrusted.v++
    return this.#refuse(`PROXY headers of ${facts.directRemoteAddress || 'Unix sockets'} are not trusted`)
  }

  #refuse(why: string): ListenerRefusal {
    this.#stats.error.v++
    return { refused: why }
  }

  #factsOf({ version, addresses, tlvs }: ProxyHeader): FoundFacts {
    const { passThrough } = this.#config
    const passed = tlvs.filter(
      ({ type }) => type !== TLV_CRC32C && (passThrough === 'all' || passThrough.includes(type)),
    )
    const proxyProtocol = { version, tlvs: passed }
    if (addresses === undefined) return { proxyProtocol }
    return {
      // On a Unix socket too: what the client's address is now.
      kind: 'ip',
      remoteAddress: addresses.source,
      remotePort: addresses.sourcePort,
      localAddress: addresses.destination,
      localPort: addresses.destinationPort,
      proxyProtocol,
    }
  }
}
