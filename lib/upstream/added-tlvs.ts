import type { ConnectionInfo, ProxyTlv } from '../core/connection.ts'
import { StreamInfo } from '../core/stream-info.ts'
import { ConnectionLogStream } from '../telemetry/connection-stream.ts'
import { compileBodyFormat } from '../telemetry/format.ts'
import type { AddedTlvConfig } from './config.ts'

/** The length field of a TLV has 16 bits; a header has room for no more. */
const MAX_VALUE_BYTES = 0xff00

/** What is to be added to the PROXY header of a connection made for this client. */
export type AddedTlvs = (downstream: ConnectionInfo) => readonly ProxyTlv[]

/** @throws Error for a bad format; validation finds it before. */
export function compileAddedTlvs(configs: readonly AddedTlvConfig[]): AddedTlvs {
  if (configs.every(({ format }) => format === undefined)) {
    const fixed = configs.map(fixedTlv)
    return () => fixed
  }
  const makers = configs.map(compileTlv)
  return (downstream) => makers.map((make) => make(downstream))
}

function compileTlv(config: AddedTlvConfig): (downstream: ConnectionInfo) => ProxyTlv {
  const { type, format } = config
  if (format === undefined) {
    const tlv = fixedTlv(config)
    return () => tlv
  }
  const render = compileBodyFormat(format)
  return (facts) => {
    // Of the connection alone: one upstream connection may carry many requests of it.
    const text = render(new ConnectionLogStream({ facts, info: new StreamInfo(0, 0) }, 0))
    return { type, value: Buffer.from(text).subarray(0, MAX_VALUE_BYTES) }
  }
}

function fixedTlv({ type, value }: AddedTlvConfig): ProxyTlv {
  return { type, value: Buffer.from(value, 'base64') }
}
