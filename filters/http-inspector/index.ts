import type { ListenerFilterFactory } from '../../lib/chain/network.ts'
import { type HttpInspectorConfig, parseHttpInspector } from './config.ts'
import { compileHttpInspector } from './filter.ts'

/**
 * Tells HTTP/1.0, HTTP/1.1 and HTTP/2 on plaintext connections by their first line, so that filter chains can be chosen
 * by `application_protocols` (`http/1.0`, `http/1.1`, `h2c`). Put it behind the TLS inspector: TLS is left alone.
 *
 * Posture: looks at up to 64 KiB of anybody who can connect and keeps nothing.
 *
 * Counters: `http_inspector.` `http10_found`, `http11_found`, `http2_found`, `http_not_found`, `read_error`.
 */
export const httpInspector: ListenerFilterFactory<HttpInspectorConfig> = Object.freeze({
  name: 'envoy.filters.listener.http_inspector',
  typeUrls: ['envoy.extensions.filters.listener.http_inspector.v3.HttpInspector'],
  inspector: true,
  parse: parseHttpInspector,
  compile: compileHttpInspector,
})
