import type { Json } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { ListenerFilterParser, NetworkFilterParser } from '../../xds-client/envoy/context.ts'

const NETWORK = 'envoy.extensions.filters.network.'
const LISTENER = 'envoy.extensions.filters.listener.'

/** Network filters that only parse. */
export const FAKE_NETWORK_FILTERS: ReadonlyMap<string, NetworkFilterParser> = byType([
  {
    name: 'envoy.filters.network.tcp_proxy',
    typeUrls: [`${NETWORK}tcp_proxy.v3.TcpProxy`],
    terminal: true,
    parse: (fields: FieldReader): Json => ({
      statPrefix: fields.string('stat_prefix'),
      cluster: fields.string('cluster'),
    }),
    clusters: (config) => [(config as { readonly cluster: string }).cluster],
  },
  {
    name: 'envoy.filters.network.echo',
    typeUrls: [`${NETWORK}echo.v3.Echo`],
    terminal: true,
    parse: (): Json => ({}),
  },
  {
    name: 'envoy.filters.network.connection_limit',
    typeUrls: [`${NETWORK}connection_limit.v3.ConnectionLimit`],
    parse(fields: FieldReader): Json {
      return { statPrefix: fields.string('stat_prefix'), most: fields.number('max_connections') ?? 0 }
    },
  },
])

/** Listener filters that only parse. */
export const FAKE_LISTENER_FILTERS: ReadonlyMap<string, ListenerFilterParser> = byType([
  {
    name: 'envoy.filters.listener.tls_inspector',
    typeUrls: [`${LISTENER}tls_inspector.v3.TlsInspector`],
    parse: (fields: FieldReader): Json => ({ ja3: fields.bool('enable_ja3_fingerprinting') }),
  },
  {
    name: 'envoy.filters.listener.http_inspector',
    typeUrls: [`${LISTENER}http_inspector.v3.HttpInspector`],
    parse: (): Json => ({}),
  },
])

function byType<P extends { readonly typeUrls: readonly string[] }>(parsers: readonly P[]): ReadonlyMap<string, P> {
  return new Map(parsers.flatMap((parser) => parser.typeUrls.map((type) => [type, parser] as const)))
}
