import type { Scope } from '../../lib/chain/filter.ts'
import type { Inspection, ListenerFilter } from '../../lib/chain/network.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import type { Counter, Histogram, Metrics } from '../../lib/core/metrics.ts'
import { type ClientHello, ClientHelloReader } from '../../lib/tls/client-hello.ts'
import { ja3, ja4 } from '../../lib/tls/fingerprint.ts'
import { helloFacts } from '../../lib/tls/hello-facts.ts'
import type { TlsInspectorConfig } from './config.ts'

const NAMESPACE = 'envoy.filters.listener.tls_inspector'
/** Headers of one record and one handshake message. */
const HEADER_BYTES = 9
const NO_TLS: Inspection<ClientHelloReader> = Object.freeze({
  strip: 0,
  facts: Object.freeze({ transportProtocol: 'raw_buffer' }),
})

interface Stats {
  readonly tlsFound: Counter
  readonly tlsNotFound: Counter
  readonly sniFound: Counter
  readonly sniNotFound: Counter
  readonly alpnFound: Counter
  readonly alpnNotFound: Counter
  readonly tooLarge: Counter
  readonly bytesProcessed: Histogram
}

function makeStats(metrics: Metrics): Stats {
  const counter = (name: string): Counter => metrics.counter(`tls_inspector.${name}`)
  return {
    tlsFound: counter('tls_found'),
    tlsNotFound: counter('tls_not_found'),
    sniFound: counter('sni_found'),
    sniNotFound: counter('sni_not_found'),
    alpnFound: counter('alpn_found'),
    alpnNotFound: counter('alpn_not_found'),
    tooLarge: counter('client_hello_too_large'),
    bytesProcessed: metrics.histogram('tls_inspector.bytes_processed'),
  }
}

/** Compiles the filter that looks at ClientHellos. */
export function compileTlsInspector(config: TlsInspectorConfig, { metrics }: Scope): ListenerFilter {
  return Object.freeze(new TlsInspector(config, makeStats(metrics))) as ListenerFilter
}

class TlsInspector implements ListenerFilter<ClientHelloReader> {
  readonly maxBytes: number
  readonly #config: TlsInspectorConfig
  readonly #stats: Stats

  constructor(config: TlsInspectorConfig, stats: Stats) {
    this.maxBytes = config.maxHelloBytes
    this.#config = config
    this.#stats = stats
  }

  inspect(
    peeked: Buffer,
    from: number,
    state: ClientHelloReader | undefined,
    facts: ConnectionInfo,
  ): Inspection<ClientHelloReader> {
    const config = this.#config
    const reader = state ?? new ClientHelloReader(config.maxHelloBytes - HEADER_BYTES, config.ja3 || config.ja4)
    const status = reader.feed(peeked.subarray(from))
    if (status === 'more' && peeked.length < config.maxHelloBytes) return { more: reader }
    this.#stats.bytesProcessed.record(Math.min(peeked.length, config.maxHelloBytes))
    if (status === 'hello') return this.#found(reader)
    // One of many small records counts with their headers, as in Envoy.
    return status === 'more' || reader.tooLarge ? this.#tooLarge(facts) : this.#notFound(status, facts)
  }

  #found({ hello, message }: ClientHelloReader): Inspection<ClientHelloReader> {
    const stats = this.#stats
    const { serverName, alpn } = hello as ClientHello
    stats.tlsFound.v++
    if (serverName === undefined) stats.sniNotFound.v++
    else stats.sniFound.v++
    if (alpn.length === 0) stats.alpnNotFound.v++
    else stats.alpnFound.v++
    const numbers = message && helloFacts(message)
    return {
      strip: 0,
      facts: {
        transportProtocol: 'tls',
        ...(serverName !== undefined && { serverName }),
        ...(alpn.length > 0 && { applicationProtocols: alpn }),
        ...(numbers && this.#config.ja3 && { ja3: ja3(numbers) }),
        ...(numbers && this.#config.ja4 && { ja4: ja4(numbers) }),
      },
    }
  }

  #tooLarge({ state }: ConnectionInfo): Inspection<ClientHelloReader> {
    this.#stats.tooLarge.v++
    state.mergeMetadata(NAMESPACE, { failure_reason: 'ClientHelloTooLarge' })
    return { refused: `the ClientHello is larger than ${this.#config.maxHelloBytes} bytes` }
  }

  #notFound(status: 'not-tls' | 'malformed', { state }: ConnectionInfo): Inspection<ClientHelloReader> {
    if (this.#config.closeOnError) {
      return { refused: status === 'not-tls' ? 'this is not TLS' : 'the ClientHello cannot be read' }
    }
    this.#stats.tlsNotFound.v++
    state.mergeMetadata(NAMESPACE, { failure_reason: 'ClientHelloNotDetected' })
    return NO_TLS
  }
}
