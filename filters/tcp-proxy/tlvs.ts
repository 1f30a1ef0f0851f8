import type { NetworkConnection, NetworkScope } from '../../lib/chain/network.ts'
import type { ConnectionInfo, ProxyTlv } from '../../lib/core/connection.ts'
import { ConnectionLogStream } from '../../lib/telemetry/connection-stream.ts'
import { compileBodyFormat } from '../../lib/telemetry/format.ts'
import type { TcpTlvConfig, TlvMerge } from './config.ts'

/** What the upstream side is told of a connection: its facts with the TLVs of the filter among those of its PROXY header. */
export type WithTlvs = (connection: NetworkConnection) => ConnectionInfo

/** The length field of a TLV has 16 bits. */
const MAX_VALUE_BYTES = 0xffff

/**
 * `proxy_protocol_tlvs`. They go upstream where the cluster's transport writes PROXY headers of version 2 and lets their types
 * pass (`pass_through_tlvs`), as in Envoy.
 *
 * @throws Error for a bad format; validation finds it before.
 */
export function compileTlvs(
  configs: readonly TcpTlvConfig[],
  merge: TlvMerge,
  scope: NetworkScope,
): WithTlvs | undefined {
  if (configs.length === 0) return undefined
  const makers = configs.map((config) => compileTlv(config, scope))
  return (connection) => {
    const { facts } = connection
    const { proxyProtocol } = facts
    if (proxyProtocol !== undefined && merge === 'if-absent') return facts
    const own = makers.map((make) => make(connection))
    const before = proxyProtocol?.tlvs ?? []
    const tlvs =
      merge === 'append'
        ? [...before, ...own]
        : [...own, ...before.filter(({ type }) => !own.some((tlv) => tlv.type === type))]
    return { ...facts, proxyProtocol: { version: 2, tlvs } }
  }
}

function compileTlv(config: TcpTlvConfig, { random }: NetworkScope): (connection: NetworkConnection) => ProxyTlv {
  const { type } = config
  if ('value' in config) {
    const tlv = { type, value: Buffer.from(config.value, 'base64') }
    return () => tlv
  }
  const format = compileBodyFormat(config.format)
  return (connection) => {
    const text = Buffer.from(format(new ConnectionLogStream(connection, random())))
    return { type, value: text.subarray(0, MAX_VALUE_BYTES) }
  }
}
