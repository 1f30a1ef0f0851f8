import type { UpstreamInfo } from '../../core/attempt.ts'
import { checkHeader } from '../proxy-protocol.ts'
import type { ByteQuestion } from './byte-probe.ts'
import type { TcpProbeConfig } from './config.ts'
import { PayloadMatcher } from './matcher.ts'
import { type CheckResult, PASSED, UNREACHABLE } from './probe.ts'

/** Of what a host sends, and nothing of it is what is looked for. */
const MOST_BYTES = 64 * 1024

/** A connection, or bytes there and bytes back (Envoy's `tcp_health_check`). */
export class TcpQuestion implements ByteQuestion {
  readonly bytes: Buffer | undefined
  readonly connected: boolean
  readonly #matcher: PayloadMatcher
  readonly #proxyProtocol: TcpProbeConfig['proxyProtocol']

  constructor({ send, receive, proxyProtocol }: TcpProbeConfig) {
    this.bytes = send === undefined ? undefined : Buffer.from(send, 'base64')
    this.#matcher = new PayloadMatcher(receive, MOST_BYTES)
    this.connected = this.#matcher.empty
    this.#proxyProtocol = proxyProtocol
  }

  greeting({ localAddress, remoteAddress }: UpstreamInfo): Buffer | undefined {
    const version = this.#proxyProtocol
    return version === undefined ? undefined : checkHeader(version, localAddress, remoteAddress)
  }

  reset(): void {
    this.#matcher.reset()
  }

  take(chunk: Buffer): CheckResult | undefined {
    this.#matcher.add(chunk)
    if (this.#matcher.matches()) return PASSED
    return this.#matcher.full ? UNREACHABLE : undefined
  }
}
