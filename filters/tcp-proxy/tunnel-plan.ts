import type { NetworkConnection, NetworkScope } from '../../lib/chain/network.ts'
import type { RequestHead } from '../../lib/core/head.ts'
import { Headers } from '../../lib/core/headers.ts'
import { ConnectionLogStream } from '../../lib/telemetry/connection-stream.ts'
import { compileFormat } from '../../lib/telemetry/format.ts'
import { compileHeaderEdits } from '../../lib/telemetry/header-edits.ts'
import type { TunnelingConfig } from './tunnel-config.ts'

/** How connections are taken through an HTTP proxy. */
export interface TunnelPlan {
  readonly config: TunnelingConfig
  /** The request that opens a tunnel; undefined where the configured formats make no target of this connection. */
  request(connection: NetworkConnection): { readonly head: RequestHead; readonly headers: Headers } | undefined
}

/** @throws Error for a bad format; validation finds it before. */
export function compileTunnel(config: TunnelingConfig, scope: NetworkScope): TunnelPlan {
  const { postPath } = config
  const hostname = compileFormat(config.hostname, { missing: '' })
  const edits = compileHeaderEdits([{ remove: [], add: config.headers }], (text, missing) =>
    compileFormat(text, { missing }),
  )
  return {
    config,
    request(connection) {
      const stream = new ConnectionLogStream(connection, scope.random())
      const authority = hostname(stream)
      // It stands in a request line: what came from a client must not end it.
      if (!/^[\x21-\x7e]+$/.test(authority)) return undefined
      const headers = new Headers()
      edits?.(headers, stream)
      const head: RequestHead =
        postPath === undefined
          ? { method: 'CONNECT', scheme: 'http', authority, path: '', protocol: undefined }
          : { method: 'POST', scheme: '', authority, path: postPath, protocol: undefined }
      return { head, headers }
    },
  }
}
