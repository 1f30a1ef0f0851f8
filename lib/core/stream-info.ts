import type { UpstreamInfo, WantedHosts } from './attempt.ts'
import type { TlsInfo } from './connection.ts'
import type { Protocol } from './head.ts'

/**
 * What happened to one exchange: the source of access logs, CEL and statistics. One object per exchange, born with all
 * its fields. Times are monotonic milliseconds (`Clock.now`), 0 = has not happened; `startWallMs` is for dates.
 */
export class StreamInfo {
  readonly startMs: number
  readonly startWallMs: number
  protocol: Protocol = 'HTTP/1.1'
  /** Last byte of the request arrived from downstream. */
  requestEndMs = 0
  upstreamFirstSentMs = 0
  upstreamLastSentMs = 0
  upstreamFirstReceivedMs = 0
  upstreamLastReceivedMs = 0
  downstreamFirstSentMs = 0
  downstreamLastSentMs = 0
  endMs = 0
  /** Body bytes, without framing. */
  bytesReceived = 0
  bytesSent = 0
  requestHeaderBytes = 0
  responseHeaderBytes = 0
  /** Body bytes exchanged with the upstream. */
  upstreamBytesSent = 0
  upstreamBytesReceived = 0
  /** Attempts made upstream, the first included; 0 where none was made. */
  attempts = 0
  /** Bits of `RESPONSE_FLAGS`. */
  flags = 0
  /** Envoy's RESPONSE_CODE_DETAILS: `via_upstream`, `route_not_found`, ... */
  details = ''
  connectionTerminationDetails = ''
  upstreamTransportFailure = ''
  /** Why the TLS handshake with the client failed; '' where it did not. */
  downstreamTransportFailure = ''
  /** `host:port` of the chosen endpoint, '' where none was chosen. */
  upstreamHost = ''
  upstreamHostName = ''
  upstreamLocalAddress = ''
  /** The address connected to: one of `upstreamHost`'s, where it has several. */
  upstreamRemoteAddress = ''
  upstreamTls: TlsInfo | undefined = undefined
  upstreamCluster = ''
  upstreamProtocol: Protocol | '' = ''
  upstreamConnectionId = 0
  routeName = ''
  virtualHostName = ''
  /** The client's address after X-Forwarded-For or another detection; what policies call the remote address. */
  clientAddress = ''
  /** True where the request came from an address the configuration calls internal. */
  internal = false
  requestId = ''
  /** The response has gone to the client whole: set when the exchange ends. */
  responseComplete = false
  /** A filter made a gRPC request of one that is none for its client: local replies stay plain HTTP. */
  plainReplies = false
  /** Hosts that a filter wants the request to go to; undefined: the cluster chooses. */
  wantedHosts: WantedHosts | undefined = undefined

  constructor(startMs: number, startWallMs: number) {
    this.startMs = startMs
    this.startWallMs = startWallMs
  }

  /** Notes the upstream connection that was got: its number, its ends and its TLS. */
  connectedTo(upstream: UpstreamInfo): void {
    this.upstreamConnectionId = upstream.connectionId
    this.upstreamLocalAddress = upstream.localAddress
    this.upstreamRemoteAddress = upstream.remoteAddress
    this.upstreamTls = upstream.tls
  }
}
