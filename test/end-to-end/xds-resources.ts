import type { JsonObject } from '../../lib/core/errors.ts'
import type { Issued } from '../support/certificates.ts'
import { XDS } from '../support/control-plane.ts'
import { adsBootstrap, assignmentResource, clusterResource, listenerResource } from '../support/xds-gateway.ts'
import { fileLog } from './bootstrap.ts'

/** What a control plane of these tests delivers: one resource of every type, of any generation, right or wrong. */

const TYPE = 'type.googleapis.com/envoy.extensions'
const MUTATION = `${TYPE}.filters.http.header_mutation.v3.HeaderMutation`
const ADS: JsonObject = { ads: {}, resource_api_version: 'V3' }

/** The types by what the tests call them, in the order in which they are pushed. */
export const KINDS = ['listener', 'routes', 'cluster', 'endpoints', 'secret', 'runtime', 'extension'] as const
export type Kind = (typeof KINDS)[number]

/** What never changes while a test runs. */
export interface Fixed {
  readonly plainPort: number
  readonly securePort: number
  /** '': no log. */
  readonly accessLog: string
  readonly certificates: readonly Issued[]
  readonly originPorts: readonly number[]
}

export interface BootstrapOptions {
  /** Of the admin server, which must be found again when the control process has been replaced. */
  readonly adminPort: number
  readonly api?: 'GRPC' | 'DELTA_GRPC'
  /** PINGs find within two seconds that nothing passes any more. */
  readonly pings?: boolean
}

/** Of a gateway that has everything from the control plane on that port, its runtime layer `live` too. */
export function dynamicBootstrap(planePort: number, options: BootstrapOptions): JsonObject {
  const { adminPort, api = 'DELTA_GRPC', pings } = options
  const plain = adsBootstrap(planePort, api)
  const live = { name: 'live', rtds_layer: { name: 'live', rtds_config: ADS } }
  const admin = { address: { socket_address: { address: '127.0.0.1', port_value: adminPort } } }
  const text = JSON.stringify({ ...plain, admin, layered_runtime: { layers: [live] } })
  if (pings !== true) return JSON.parse(text) as JsonObject
  const keepalive = '"http2_protocol_options":{"connection_keepalive":{"interval":"1s","timeout":"1s"}}'
  return JSON.parse(text.replace('"http2_protocol_options":{}', keepalive)) as JsonObject
}

/** All of the type, in that generation; each generation differs from the one before. */
export function resources(kind: Kind, generation: number, fixed: Fixed): JsonObject[] {
  switch (kind) {
    case 'listener':
      return listeners(generation, fixed)
    case 'routes':
      return [routes(generation)]
    case 'cluster':
      return clusters(generation)
    case 'endpoints':
      return endpoints(generation, fixed)
    case 'secret':
      return [secret(fixed.certificates[generation % fixed.certificates.length])]
    case 'runtime':
      return [{ name: 'live', layer: { faults: { switch: generation % 2 === 0 ? 0 : 100, generation } } }]
    case 'extension':
      return [stamp(String(generation))]
  }
}

/** The same with one mistake, and where a refusal must say that it is. */
export function wrong(kind: Kind, generation: number, fixed: Fixed): { all: JsonObject[]; place: RegExp } {
  const all = structuredClone(resources(kind, generation, fixed))
  const spoiled = all[0]
  switch (kind) {
    case 'listener':
      spoiled.per_connection_buffer_limit_bytes = 65_536 + generation
      spoiled.filter_chains = []
      return { all, place: /filter_chains/ }
    case 'routes':
      ;(spoiled.virtual_hosts as JsonObject[])[0].domains = []
      return { all, place: /virtual_hosts\[0\]\.domains/ }
    case 'cluster':
      spoiled.connect_timeout = '-1s'
      return { all, place: /connect_timeout/ }
    case 'endpoints':
      spoiled.endpoints = [{ lb_endpoints: [], priority: 129 }]
      return { all, place: /endpoints\[0\]\.priority/ }
    case 'secret':
      return { all: [garbledSecret(generation)], place: /tls_certificate/ }
    case 'runtime':
      return { all: [{ name: 'live', layer: { faults: [generation] } }], place: /layer/ }
    case 'extension':
      return { all: [stamp('no header value\n')], place: /response_mutations\[0\]/ }
  }
}

function listeners(generation: number, fixed: Fixed): JsonObject[] {
  const plain = listenerResource('plain', fixed.plainPort)
  const secure = listenerResource('secure', fixed.securePort)
  for (const listener of [plain, secure]) {
    const [chain] = listener.filter_chains as JsonObject[]
    const [{ typed_config: manager }] = chain.filters as { typed_config: JsonObject }[]
    const discovered = { config_source: ADS, type_urls: [MUTATION] }
    manager.http_filters = [{ name: 'stamp', config_discovery: discovered }, ...(manager.http_filters as JsonObject[])]
    if (fixed.accessLog !== '') manager.access_log = [fileLog(fixed.accessLog) as JsonObject]
    manager.drain_timeout = '0.1s'
    manager.server_name = `generation-${generation}`
  }
  const [chain] = secure.filter_chains as JsonObject[]
  chain.transport_socket = {
    name: 'tls',
    typed_config: {
      '@type': `${TYPE}.transport_sockets.tls.v3.DownstreamTlsContext`,
      common_tls_context: {
        alpn_protocols: ['h2', 'http/1.1'],
        tls_certificate_sds_secret_configs: [{ name: 'web-cert', sds_config: ADS }],
      },
    },
  }
  // One more that comes and goes.
  return generation % 2 === 0 ? [plain, secure] : [plain, secure, listenerResource('extra', 0)]
}

function routes(generation: number): JsonObject {
  const say = (text: string): JsonObject => ({ status: 200, body: { inline_string: text } })
  const switched = { default_value: { numerator: 0 }, runtime_key: 'faults.switch' }
  const list: JsonObject[] = [
    { match: { path: '/version' }, direct_response: say(String(generation)) },
    { match: { path: '/switch', runtime_fraction: switched }, direct_response: say('on') },
    { match: { path: '/switch' }, direct_response: say('off') },
    { match: { prefix: '/' }, route: { cluster: 'shop', timeout: '20s' } },
  ]
  return { name: 'routes', virtual_hosts: [{ name: 'all', domains: ['*'], routes: list }] }
}

/** One table of so many virtual hosts; the last takes everything else. */
export function manyHosts(generation: number, count: number): JsonObject {
  const base = routes(generation)
  const [all] = base.virtual_hosts as JsonObject[]
  const hosts = Array.from(
    { length: count },
    (_, i): JsonObject => ({
      name: `host-${i}`,
      domains: [`host-${i}.example`],
      routes: [
        { match: { path: `/only-${generation}` }, direct_response: { status: 204 } },
        { match: { prefix: '/' }, route: { cluster: 'shop' } },
      ],
    }),
  )
  return { ...base, virtual_hosts: [...hosts, all] }
}

function clusters(generation: number): JsonObject[] {
  const shop = { ...clusterResource('shop'), connect_timeout: `${5 + (generation % 20)}s` }
  return [shop, clusterResource(`extra-${generation % 3}`)]
}

function endpoints(generation: number, { originPorts }: Fixed): JsonObject[] {
  // By turns: the first, the second, both.
  const chosen = [[originPorts[0]], [originPorts[1] ?? originPorts[0]], originPorts][generation % 3]
  const extra = [0, 1, 2].map((i) => assignmentResource(`extra-${i}`, originPorts[0]))
  return [assignmentResource('shop', ...chosen), ...extra]
}

export function secret({ chain, key }: Pick<Issued, 'chain' | 'key'>): JsonObject {
  return {
    name: 'web-cert',
    tls_certificate: { certificate_chain: { inline_string: chain }, private_key: { inline_string: key } },
  }
}

function garbledSecret(generation: number): JsonObject {
  const broken = `-----BEGIN CERTIFICATE-----\nbroken${generation}\n-----END CERTIFICATE-----\n`
  return secret({ chain: broken, key: 'none' })
}

function stamp(value: string): JsonObject {
  const append = { header: { key: 'x-stamp', value }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }
  return {
    name: 'stamp',
    typed_config: { '@type': MUTATION, mutations: { response_mutations: [{ append }] } },
  }
}

export function typeOf(kind: Kind): string {
  return XDS[kind]
}
